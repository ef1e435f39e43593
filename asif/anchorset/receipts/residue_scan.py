"""Look through files for what is left of pairs: row hashes, embeddings, captions, images, in whatever form they lie."""

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

from asif.anchorset.format.blocks import DTYPES, Block, read_block
from asif.anchorset.format.row_hash import hash_rows
from asif.anchorset.format.verify import Problem
from asif.anchorset.receipts.merkle import Hashes, as_rows, contains
from asif.anchorset.receipts.multi_search import WIDTH, Needles
from asif.anchorset.receipts.receipt import LARGEST, Receipt
from asif.errors import IntegrityError
from asif.pairs.pair import PairRecord
from asif.pairs.records import read_records
from asif.vectors import SIDES

JSON = (".json", ".jsonl")
Kinds = Counter[str]
"""How many of what was found."""


@dataclass(frozen=True)
class Wanted:
    """Hold what is looked for: row hashes, sorted; the sha256 of stored embeddings; captions; images' sha256 in hex."""

    rows: Hashes
    embeddings: frozenset[bytes] = frozenset()
    captions: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()

    @cached_property
    def kinds(self) -> dict[bytes, str]:
        """Return what each byte string is that betrays a pair, but for captions."""
        rows = [row.tobytes() for row in as_rows(self.rows)]
        found = {form: "row" for row in rows for form in (row, row.hex().encode())}
        return found | {form: "image sha256" for name in self.images for form in (name.encode(), bytes.fromhex(name))}

    @cached_property
    def quoted(self) -> dict[bytes, str]:
        """Return captions as they stand in JSON, and what they are."""
        forms = {json.dumps(one, ensure_ascii=plain).encode() for one in self.captions for plain in (True, False)}
        return dict.fromkeys(forms, "caption")

    @cached_property
    def in_json(self) -> Needles:
        """Return what to look for in JSON: captions as whole strings, so that longer ones do not count."""
        return Needles([*self.kinds, *self.quoted])

    @cached_property
    def in_others(self) -> Needles:
        """Return what to look for in files of an unknown form: captions anywhere, but for very short ones."""
        return Needles([*self.kinds, *self.plain])

    @cached_property
    def plain(self) -> dict[bytes, str]:
        """Return captions as bytes, and what they are; those that turn up anywhere by chance are left out."""
        return {form: "caption" for one in self.captions if len(form := one.encode()) >= WIDTH}

    @cached_property
    def row_set(self) -> frozenset[bytes]:
        """Return the row hashes."""
        return frozenset(row.tobytes() for row in as_rows(self.rows))


@dataclass(frozen=True)
class Traces:
    """Hold where something was found, and what was looked at.

    `shared` counts, by file, embeddings of other pairs that are equal to those looked for: they have the same image or
    caption. `unread` are links and other things that are no plain files.
    """

    problems: tuple[Problem, ...]
    shared: dict[Path, int]
    unread: tuple[Path, ...]
    files: int
    bytes: int


def files_under(root: Path) -> Iterator[Path]:
    """Yield all that is in a folder and in those below, in order; follows no links."""
    for folder, inner, names in os.walk(root):
        inner.sort()
        links = [name for name in inner if os.path.islink(os.path.join(folder, name))]
        yield from (Path(folder, name) for name in sorted([*names, *links]))


def search(paths: Iterable[Path], wanted: Wanted) -> Traces:
    """Look into files, whatever they are; one that is deleted meanwhile is gone, and a receipt may name row hashes."""
    problems: list[Problem] = []
    shared: dict[Path, int] = {}
    unread: list[Path] = []
    files = size = 0
    for path in paths:
        try:
            about = path.lstat()
            if not stat.S_ISREG(about.st_mode):
                unread.append(path)
                continue
            found = _look(path, wanted)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(Problem(path, f"cannot be read ({error.strerror})"))
            continue
        files, size = files + 1, size + about.st_size
        if equal := found.pop("equal embedding", 0):
            shared[path] = equal
        if found and not _is_receipt(path):
            told = ", ".join(f"{count:,} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(found.items()))
            problems.append(Problem(path, f"still holds of removed pairs: {told}"))
    return Traces(tuple(problems), shared, tuple(unread), files, size)


def _look(path: Path, wanted: Wanted) -> Kinds:
    block = block_in(path)
    if block is not None:
        return _in_block(block, wanted)
    kinds = {**wanted.kinds, **wanted.quoted, **wanted.plain}
    needles = wanted.in_json if path.suffix in JSON else wanted.in_others
    found = Counter(kinds[each] for each in needles.within_file(path))
    if path.suffix == ".parquet":
        found |= _in_records(_records(path), wanted)
    if path.suffix == ".jsonl":
        with open(path, "rb") as file:
            lines = (hashlib.sha256(line.rstrip(b"\n")).digest() for line in file)
            found |= Counter({"row": sum(one in wanted.row_set for one in lines)})
    return +found


def block_in(path: Path) -> Block | None:
    """Map a block whose shape is not known beforehand; None for a file that is not exactly one."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = file.read(length) if length < 4096 else b""
    try:
        shapes = {name: tensor["shape"] for name, tensor in json.loads(head).items()}
        stored = json.loads(head)["image"]["dtype"]
        dtype = next(ours for ours, theirs in DTYPES.items() if theirs == stored)
        return read_block(path, shapes["row_hash"][0], {side: shapes[side][1] for side in SIDES}, dtype)
    except (IntegrityError, ValueError, LookupError, TypeError, AttributeError, StopIteration):
        return None


def _in_block(block: Block, wanted: Wanted) -> Kinds:
    there = contains(wanted.rows, np.ascontiguousarray(block.row_hash).view("S32")[:, 0])
    found = Counter({"row": int(there.sum())})
    if wanted.embeddings:
        for side in SIDES:
            equal = [row_sha256(row) in wanted.embeddings for row in block.side(side)]
            found["equal embedding"] += int((np.array(equal, bool) & ~there).sum())
    return +found


def row_sha256(row: NDArray[Any]) -> bytes:
    """Return the sha256 of one stored embedding [d]."""
    return hashlib.sha256(row.tobytes()).digest()


def _records(path: Path) -> list[PairRecord]:
    try:
        return read_records(path)
    except (ValueError, TypeError, KeyError, OSError, NotImplementedError):
        return []  # of another form: its bytes were searched as they are


def _in_records(records: list[PairRecord], wanted: Wanted) -> Kinds:
    there = contains(wanted.rows, hash_rows(records).view("S32")[:, 0])
    return Counter(
        {
            "row": int(there.sum()),
            "caption": sum(not wanted.captions.isdisjoint(record.captions) for record in records),
            "image sha256": sum(record.image_sha256 in wanted.images for record in records),
        }
    )


def _is_receipt(path: Path) -> bool:
    if path.stat().st_size > LARGEST:
        return False
    try:
        Receipt.from_bytes(path.read_bytes(), str(path))
    except IntegrityError:
        return False
    return True
