"""Scan files of any format for residue of removed pairs: row hashes, embeddings, captions, image hashes."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.blocks import SAFETENSORS_DTYPES, AnchorBlock, read_block
from asif.anchorset.format.row_hash import hash_line, hash_records
from asif.anchorset.format.verify import Problem
from asif.anchorset.receipts.merkle import SortedHashes, contains_hashes, view_hash_bytes
from asif.anchorset.receipts.multi_search import PREFIX_BYTES, ByteMatcher
from asif.anchorset.receipts.receipt import MAX_RECEIPT_BYTES, Receipt
from asif.errors import IntegrityError
from asif.pairs.pair import PairRecord
from asif.pairs.records import read_records
from asif.vectors import SIDES

_JSON_SUFFIXES = (".json", ".jsonl")
_KindCounts = Counter[str]
"""How many of each kind of residue were found."""


@dataclass(frozen=True)
class ResidueTargets:
    """Hold what to search for: row hashes, sorted; sha256 of stored embeddings; captions; sha256 of images, in hex."""

    rows: SortedHashes
    embeddings: frozenset[bytes] = frozenset()
    captions: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()

    @cached_property
    def hash_kinds(self) -> dict[bytes, str]:
        """Map each row hash and image hash, binary and hexadecimal, to its kind."""
        rows = [row.tobytes() for row in view_hash_bytes(self.rows)]
        kinds = {form: "row" for row in rows for form in (row, row.hex().encode())}
        return kinds | {form: "image sha256" for name in self.images for form in (name.encode(), bytes.fromhex(name))}

    @cached_property
    def json_caption_kinds(self) -> dict[bytes, str]:
        """Map each caption, as JSON quotes it, to its kind."""
        forms = {json.dumps(one, ensure_ascii=plain).encode() for one in self.captions for plain in (True, False)}
        return dict.fromkeys(forms, "caption")

    @cached_property
    def raw_caption_kinds(self) -> dict[bytes, str]:
        """Map each caption, as bytes, to its kind; short ones, which occur anywhere by chance, are left out."""
        return {form: "caption" for one in self.captions if len(form := one.encode()) >= PREFIX_BYTES}

    @cached_property
    def kinds(self) -> dict[bytes, str]:
        """Map each byte string that is searched for to its kind."""
        return {**self.hash_kinds, **self.json_caption_kinds, **self.raw_caption_kinds}

    @cached_property
    def json_matcher(self) -> ByteMatcher:
        """Return the search for JSON files: captions match as whole strings, not within longer ones."""
        return ByteMatcher([*self.hash_kinds, *self.json_caption_kinds])

    @cached_property
    def raw_matcher(self) -> ByteMatcher:
        """Return the search for files of an unknown format: captions match anywhere."""
        return ByteMatcher([*self.hash_kinds, *self.raw_caption_kinds])

    @cached_property
    def row_set(self) -> frozenset[bytes]:
        """Return the row hashes."""
        return frozenset(row.tobytes() for row in view_hash_bytes(self.rows))


@dataclass(frozen=True)
class ResidueReport:
    """Hold where residue was found, and what was scanned.

    `equal_embeddings` counts, by file, embeddings of other pairs that equal one that was searched for, since they have
    the same image or caption. `unread` are links and other paths that are no plain files.
    """

    problems: tuple[Problem, ...]
    equal_embeddings: dict[Path, int]
    unread: tuple[Path, ...]
    files: int
    bytes: int


def list_files(root: Path) -> Iterator[Path]:
    """Yield all files and links in a folder and its subfolders, in order; follows no links."""
    for folder, inner, names in os.walk(root):
        inner.sort()
        links = [name for name in inner if os.path.islink(os.path.join(folder, name))]
        yield from (Path(folder, name) for name in sorted([*names, *links]))


def scan_files(paths: Iterable[Path], targets: ResidueTargets) -> ResidueReport:
    """Scan files of any format; those deleted meanwhile are skipped, and row hashes in a receipt are no residue."""
    problems: list[Problem] = []
    equal_embeddings: dict[Path, int] = {}
    unread: list[Path] = []
    files = size = 0
    for path in paths:
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                unread.append(path)
                continue
            counts = _scan_file(path, targets)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(Problem(path, f"cannot be read ({error.strerror})"))
            continue
        files, size = files + 1, size + status.st_size
        if equal := counts.pop("equal embedding", 0):
            equal_embeddings[path] = equal
        if counts and not _is_receipt(path):
            listing = ", ".join(f"{count:,} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(counts.items()))
            problems.append(Problem(path, f"still holds of removed pairs: {listing}"))
    return ResidueReport(tuple(problems), equal_embeddings, tuple(unread), files, size)


def _scan_file(path: Path, targets: ResidueTargets) -> _KindCounts:
    block = try_read_block(path)
    if block is not None:
        return _count_in_block(block, targets)
    matcher = targets.json_matcher if path.suffix in _JSON_SUFFIXES else targets.raw_matcher
    counts = Counter(targets.kinds[match] for match in matcher.find_in_file(path))
    if path.suffix == ".parquet":
        counts |= _count_in_records(_try_read_records(path), targets)
    if path.suffix == ".jsonl":
        with open(path, "rb") as file:
            hashes = (hash_line(line.rstrip(b"\n")) for line in file)
            counts |= Counter({"row": sum(row_hash in targets.row_set for row_hash in hashes)})
    return +counts


def try_read_block(path: Path) -> AnchorBlock | None:
    """Map a block, with the shape that its own header gives; None for a file that is not exactly a block."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length < 4096 else b""
    try:
        shapes = {name: tensor["shape"] for name, tensor in json.loads(header).items()}
        dims = {side: shapes[side][1] for side in SIDES if side in shapes}
        stored = json.loads(header)[min(dims)]["dtype"]
        dtype = next(ours for ours, theirs in SAFETENSORS_DTYPES.items() if theirs == stored)
        return read_block(path, shapes["row_hash"][0], dims, dtype)
    except (IntegrityError, ValueError, LookupError, TypeError, AttributeError, StopIteration):
        return None


def _count_in_block(block: AnchorBlock, targets: ResidueTargets) -> _KindCounts:
    is_target = contains_hashes(targets.rows, np.ascontiguousarray(block.row_hash).view("S32")[:, 0])
    counts = Counter({"row": int(is_target.sum())})
    if targets.embeddings:
        for side in block.values:
            is_equal = [hash_embedding(row) in targets.embeddings for row in block.side(side)]
            counts["equal embedding"] += int((np.array(is_equal, bool) & ~is_target).sum())
    return +counts


def hash_embedding(row: NDArray[Any]) -> bytes:
    """Return the sha256 of one stored embedding [d]."""
    return hashlib.sha256(row.tobytes()).digest()


def _try_read_records(path: Path) -> list[PairRecord]:
    try:
        return read_records(path)
    except (ValueError, TypeError, KeyError, OSError, NotImplementedError):
        return []  # a parquet of another kind: its raw bytes have been searched


def _count_in_records(records: list[PairRecord], targets: ResidueTargets) -> _KindCounts:
    is_target = contains_hashes(targets.rows, hash_records(records).view("S32")[:, 0])
    return Counter(
        {
            "row": int(is_target.sum()),
            "caption": sum(not targets.captions.isdisjoint(record.captions) for record in records),
            "image sha256": sum(record.image_sha256 in targets.images for record in records),
        }
    )


def _is_receipt(path: Path) -> bool:
    if path.stat().st_size > MAX_RECEIPT_BYTES:
        return False
    try:
        Receipt.from_bytes(path.read_bytes(), str(path))
    except IntegrityError:
        return False
    return True
