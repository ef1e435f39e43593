"""A Merkle tree over sorted row hashes, for small proofs of membership and of absence.

Hashes that begin with the same bits form a group, and the groups are the leaves of a full binary tree. A leaf is the
sha256 of a zero byte and the group's hashes in ascending order. An inner node is the sha256 of a one byte and its two
children. The root is the sha256 of a two byte, the number of bits (1 byte), the number of hashes (8 bytes, big-endian)
and the top node. A group contains all hashes with its leading bits; with the siblings on its path to the top it proves
which hashes are in the tree, and that no other is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.blocks import UInt8
from asif.vectors import Int64

GROUP_SIZE = 32
"""Hashes in a group, on average at most: proofs contain whole groups, and sha256 is called once for each."""
MAX_BITS = 32

SortedHashes = NDArray[Any]
"""Row hashes [n], of dtype S32, ascending and distinct: strings of one length compare as their bytes do."""


def sort_hashes(parts: Iterable[UInt8]) -> SortedHashes:
    """Sort the row hashes of several arrays [n, 32], without duplicates."""
    rows = [np.empty((0, 32), np.uint8), *parts]
    hashes: SortedHashes = np.sort(np.concatenate(rows).view("S32")[:, 0])
    first = np.ones(len(hashes), bool)
    first[1:] = hashes[1:] != hashes[:-1]
    return hashes if first.all() else hashes[first]


def view_hash_bytes(hashes: SortedHashes) -> UInt8:
    """View sorted hashes as bytes [n, 32]."""
    return np.ascontiguousarray(hashes).view(np.uint8).reshape(-1, 32)


def contains_hashes(hashes: SortedHashes, wanted: SortedHashes) -> NDArray[np.bool_]:
    """Tell which of the wanted hashes are among the sorted `hashes`: [wanted]."""
    if not len(hashes):
        return np.zeros(len(wanted), bool)
    index = np.minimum(np.searchsorted(hashes, wanted), len(hashes) - 1)
    found: NDArray[np.bool_] = hashes[index] == wanted
    return found


def choose_group_bits(count: int) -> int:
    """Return by how many leading bits to group `count` hashes: the fewest that leave GROUP_SIZE in each, on average.

    >>> choose_group_bits(32), choose_group_bits(33), choose_group_bits(1_600_000)
    (0, 1, 16)
    """
    return max(0, (max(count, 1) - 1) // GROUP_SIZE).bit_length()


def find_group(row_hash: bytes, bits: int) -> int:
    """Return the group that a hash belongs to: its leading bits as a number.

    >>> find_group(bytes([0b10110000] + 31 * [0]), 3)
    5
    """
    return int.from_bytes(row_hash[:4], "big") >> (MAX_BITS - bits)


def hash_leaf(hashes: bytes) -> bytes:
    """Return the node of a group from its concatenated hashes, in ascending order."""
    return hashlib.sha256(b"\0" + hashes).digest()


def hash_inner_node(left: bytes, right: bytes) -> bytes:
    """Return the parent of two nodes."""
    return hashlib.sha256(b"\1" + left + right).digest()


def hash_root(top: bytes, bits: int, count: int) -> str:
    """Return the root, in hexadecimal: the top node hashed with the shape of the tree."""
    return hashlib.sha256(b"\2" + bytes([bits]) + count.to_bytes(8, "big") + top).hexdigest()


@dataclass(frozen=True)
class MerkleTree:
    """Hold the tree over `hashes`, grouped by their leading `bits`."""

    hashes: SortedHashes
    bits: int

    @cached_property
    def starts(self) -> Int64:
        """Return the index of each group's first hash, and the end of the last group: [groups + 1]."""
        leading = view_hash_bytes(self.hashes)[:, :4].copy().view(">u4")[:, 0].astype(np.int64) >> (
            MAX_BITS - self.bits
        )
        return np.searchsorted(leading, np.arange((1 << self.bits) + 1))

    @cached_property
    def levels(self) -> list[list[bytes]]:
        """Return the nodes, level by level, from the groups to the top."""
        data, ends = self.hashes.tobytes(), (32 * self.starts).tolist()
        levels = [[hash_leaf(data[start:end]) for start, end in pairwise(ends)]]
        while len(levels[-1]) > 1:
            nodes = iter(levels[-1])
            levels.append([hash_inner_node(left, right) for left, right in zip(nodes, nodes, strict=True)])
        return levels

    @property
    def root(self) -> str:
        """Return the root, in hexadecimal."""
        return hash_root(self.levels[-1][0], self.bits, len(self.hashes))

    def read_group(self, group: int) -> bytes:
        """Return the concatenated hashes of a group."""
        return view_hash_bytes(self.hashes[self.starts[group] : self.starts[group + 1]]).tobytes()

    def find_siblings(self, groups: Collection[int]) -> list[bytes]:
        """Return the proof of these groups: the siblings on their paths to the top, level by level, left to right."""
        siblings: list[bytes] = []
        known = set(groups)
        for nodes in self.levels[:-1]:
            siblings += [nodes[index ^ 1] for index in sorted(known) if index ^ 1 not in known]
            known = {index >> 1 for index in known}
        return siblings


def fold_proof(leaves: Mapping[int, bytes], bits: int, siblings: Sequence[bytes]) -> bytes:
    """Compute the top node from the leaves of some groups and their siblings.

    Raises ValueError if there are too few siblings or too many.
    """
    nodes, remaining = dict(leaves), iter(siblings)
    for _ in range(bits):
        parents: dict[int, bytes] = {}
        for index in sorted(nodes):
            if index >> 1 not in parents:
                sibling = nodes[index ^ 1] if index ^ 1 in nodes else next(remaining, None)
                if sibling is None:
                    raise ValueError("too few siblings")
                left, right = (sibling, nodes[index]) if index & 1 else (nodes[index], sibling)
                parents[index >> 1] = hash_inner_node(left, right)
        nodes = parents
    if next(remaining, None) is not None or len(nodes) != 1:
        raise ValueError("too many siblings, or no group")
    return nodes[0]
