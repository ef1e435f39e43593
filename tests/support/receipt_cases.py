"""Receipts of made-up rows, an independent check of receipts, and the definition of the Merkle root."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Any

from support.edited_sets import EVERY

from asif.anchorset.format.row_hash import stack_hashes
from asif.anchorset.receipts.create import build_receipt
from asif.anchorset.receipts.merkle import (
    MAX_BITS,
    hash_inner_node,
    hash_leaf,
    hash_root,
    sort_hashes,
)
from asif.anchorset.receipts.receipt import Receipt

GONE = [EVERY[7], EVERY[33]]
NAMES = [pair.id for pair in GONE]


def checked_by_the_book(data: bytes, per_group: int = 32) -> dict[str, Any]:
    """Check a receipt as docs/receipts.md says, with nothing of asif."""
    receipt: dict[str, Any] = json.loads(data)
    plain = {name: value for name, value in receipt.items() if name != "checksum"}
    written = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(written.encode()).hexdigest() == receipt["checksum"]
    bits, before, after = receipt["bits"], receipt["before"], receipt["after"]
    assert before["count"] <= per_group * 2**bits and (not bits or before["count"] > per_group * 2 ** (bits - 1))
    removed, erased = ([bytes.fromhex(one) for one in receipt[name]] for name in ("removed", "erased"))

    def group(row: bytes) -> int:
        return int("".join(f"{byte:08b}" for byte in row)[:bits] or "0", 2)

    numbers = sorted({group(row) for row in removed + erased})
    was, now = {}, {}
    for number, text in zip(numbers, receipt["groups"], strict=True):
        left = [bytes.fromhex(text[at : at + 64]) for at in range(0, len(text), 64)]
        assert left == sorted(set(left)) and {group(row) for row in left} <= {number}
        assert not set(left) & {*removed, *erased}
        now[number] = hashlib.sha256(b"\0" + b"".join(left)).digest()
        every = sorted(left + [row for row in removed if group(row) == number])
        was[number] = hashlib.sha256(b"\0" + b"".join(every)).digest()
    for state, leaves in ((before, was), (after, now)):
        nodes = dict(leaves)
        beside = [bytes.fromhex(one) for one in receipt["siblings"]]
        for _ in range(bits):
            full = dict(nodes)
            for at in sorted(nodes):
                if at ^ 1 not in full:
                    full[at ^ 1] = beside.pop(0)
            nodes = {at // 2: hashlib.sha256(b"\1" + full[at & ~1] + full[at | 1]).digest() for at in nodes}
        shape = bytes([bits]) + state["count"].to_bytes(8, "big")
        assert not beside and hashlib.sha256(b"\2" + shape + nodes[0]).hexdigest() == state["root"]
    assert before["count"] - after["count"] == len(removed)
    return receipt


def hashes(numbers: set[int]) -> Any:
    return sort_hashes([stack_hashes(hashlib.sha256(b"%d" % number).digest() for number in numbers)])


def receipt_of(numbers: set[int], gone: set[int], erased: set[int]) -> Receipt:
    class Version:
        def __init__(self, seq: int, count: int) -> None:
            self.name, self.count, self.created = "toy", count, "2026-01-01T00:00:00Z"
            self.digest = hashlib.sha256(b"%d" % seq).hexdigest()
            self.version = f"{seq:06d}-{self.digest[:12]}"

    versions: Any = (Version(1, len(numbers)), Version(2, len(numbers) - len(gone)))
    embeddings = [hashlib.sha256(b"row").digest()] if erased else []
    return build_receipt(*versions, hashes(numbers), hashes(gone), hashes(erased) if erased else None, embeddings)


def plain_root(hashes: Collection[bytes], bits: int) -> str:
    """Compute the root as it is defined, without sorting all or grouping at once: what `MerkleTree` must agree with."""

    def node(depth: int, some: Collection[bytes]) -> bytes:
        if depth == bits:
            return hash_leaf(b"".join(sorted(some)))
        bit = MAX_BITS - 1 - depth
        right = {one for one in some if int.from_bytes(one[:4], "big") >> bit & 1}
        return hash_inner_node(node(depth + 1, set(some) - right), node(depth + 1, right))

    distinct = set(hashes)
    return hash_root(node(0, distinct), bits, len(distinct))
