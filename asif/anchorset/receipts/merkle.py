"""A Merkle tree over sorted row hashes: proofs that some are in it and others are not, small and quickly made.

Hashes that begin with the same bits are a group, and the groups are the leaves of a full binary tree: a leaf is the
sha256 of a zero byte and its hashes in ascending order, an inner node that of a one byte and its two children, the root
that of a two byte, the number of bits (1 byte), the number of hashes (8 bytes, big-endian) and the top node. A group
shows all hashes that begin so; with the siblings on its way to the top it proves which are there, and that no other is.
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

GROUP = 32
"""Hashes in a group, on average at most: proofs show whole groups, and sha256 is called once for each."""
MOST_BITS = 32

Hashes = NDArray[Any]
"""Row hashes [n], of dtype S32, ascending and distinct: strings of one length compare as their bytes do."""


def sorted_hashes(parts: Iterable[UInt8]) -> Hashes:
    """Sort row hashes [n, 32], cut anywhere; equal ones become one."""
    rows = [np.empty((0, 32), np.uint8), *parts]
    found: Hashes = np.sort(np.concatenate(rows).view("S32")[:, 0])
    first = np.ones(len(found), bool)
    first[1:] = found[1:] != found[:-1]
    return found if first.all() else found[first]


def as_rows(hashes: Hashes) -> UInt8:
    """View sorted hashes as bytes [n, 32]."""
    return np.ascontiguousarray(hashes).view(np.uint8).reshape(-1, 32)


def contains(hashes: Hashes, wanted: Hashes) -> NDArray[np.bool_]:
    """Tell which of the wanted hashes are among the others, which are sorted: [wanted]."""
    if not len(hashes):
        return np.zeros(len(wanted), bool)
    place = np.minimum(np.searchsorted(hashes, wanted), len(hashes) - 1)
    found: NDArray[np.bool_] = hashes[place] == wanted
    return found


def bits_for(count: int) -> int:
    """Return by how many leading bits so many hashes are grouped: the fewest that leave GROUP in each, on average.

    >>> bits_for(32), bits_for(33), bits_for(1_600_000)
    (0, 1, 16)
    """
    return max(0, (max(count, 1) - 1) // GROUP).bit_length()


def group_of(row_hash: bytes, bits: int) -> int:
    """Return the group that a hash belongs to: its leading bits, as a number.

    >>> group_of(bytes([0b10110000] + 31 * [0]), 3)
    5
    """
    return int.from_bytes(row_hash[:4], "big") >> (MOST_BITS - bits)


def leaf(hashes: bytes) -> bytes:
    """Return the node of a group, given its hashes in ascending order, one after another."""
    return hashlib.sha256(b"\0" + hashes).digest()


def inner(left: bytes, right: bytes) -> bytes:
    """Return the node above two."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(top: bytes, bits: int, count: int) -> str:
    """Return the root, in hexadecimal: the top node bound to the shape of the tree."""
    return hashlib.sha256(b"\2" + bytes([bits]) + count.to_bytes(8, "big") + top).hexdigest()


@dataclass(frozen=True)
class HashTree:
    """Hold the tree over `hashes`, grouped by their leading `bits`."""

    hashes: Hashes
    bits: int

    @cached_property
    def starts(self) -> Int64:
        """Return where each group begins, and the end of the last: [groups + 1]."""
        leading = as_rows(self.hashes)[:, :4].copy().view(">u4")[:, 0].astype(np.int64) >> (MOST_BITS - self.bits)
        return np.searchsorted(leading, np.arange((1 << self.bits) + 1))

    @cached_property
    def levels(self) -> list[list[bytes]]:
        """Return the nodes, level by level, from the groups to the top."""
        data, ends = self.hashes.tobytes(), (32 * self.starts).tolist()
        levels = [[leaf(data[start:end]) for start, end in pairwise(ends)]]
        while len(levels[-1]) > 1:
            nodes = iter(levels[-1])
            levels.append([inner(left, right) for left, right in zip(nodes, nodes, strict=True)])
        return levels

    @property
    def root(self) -> str:
        """Return the root, in hexadecimal."""
        return root_of(self.levels[-1][0], self.bits, len(self.hashes))

    def group(self, at: int) -> bytes:
        """Return the hashes of a group, one after another."""
        return as_rows(self.hashes[self.starts[at] : self.starts[at + 1]]).tobytes()

    def siblings(self, groups: Collection[int]) -> list[bytes]:
        """Return what leads from these groups to the top: the nodes beside the way, level by level, left to right."""
        found: list[bytes] = []
        known = set(groups)
        for nodes in self.levels[:-1]:
            found += [nodes[at ^ 1] for at in sorted(known) if at ^ 1 not in known]
            known = {at >> 1 for at in known}
        return found


def fold(leaves: Mapping[int, bytes], bits: int, siblings: Sequence[bytes]) -> bytes:
    """Return the top node from the leaves of some groups and the siblings; raises ValueError where these do not fit."""
    nodes, beside = dict(leaves), iter(siblings)
    for _ in range(bits):
        above: dict[int, bytes] = {}
        for at in sorted(nodes):
            if at >> 1 not in above:
                other = nodes[at ^ 1] if at ^ 1 in nodes else next(beside, None)
                if other is None:
                    raise ValueError("too few siblings")
                above[at >> 1] = inner(other, nodes[at]) if at & 1 else inner(nodes[at], other)
        nodes = above
    if next(beside, None) is not None or len(nodes) != 1:
        raise ValueError("too many siblings, or no group")
    return nodes[0]


def plain_root(hashes: Collection[bytes], bits: int) -> str:
    """Return the root as it is defined, without sorting all or grouping at once: what `HashTree` must agree with."""

    def node(depth: int, some: Collection[bytes]) -> bytes:
        if depth == bits:
            return leaf(b"".join(sorted(some)))
        bit = MOST_BITS - 1 - depth
        right = {one for one in some if int.from_bytes(one[:4], "big") >> bit & 1}
        return inner(node(depth + 1, set(some) - right), node(depth + 1, right))

    distinct = set(hashes)
    return root_of(node(0, distinct), bits, len(distinct))
