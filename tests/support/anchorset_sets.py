"""Small anchor sets for tests: embeddings are a function of the pair, so results can be compared by value."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from asif.anchorset import AnchorSet, EncoderInfo, Journal, Store
from asif.pairs.pair import PairRecord, Reject
from asif.vectors import Fingerprint, Float32, Side

DIMS: dict[Side, int] = {"image": 6, "text": 3}
ENCODERS: dict[Side, EncoderInfo] = {
    "image": EncoderInfo("timm:stub", Fingerprint({"model": "stub", "mean": [0.5, 0.25], "dtype": "float32"})),
    "text": EncoderInfo("st:stub", Fingerprint({"model": "stub-text", "prompt": None})),
}


def pairs(count: int, start: int = 0) -> list[PairRecord]:
    """Make pairs that differ in id and content; ids are not in the order of rows."""
    return [
        PairRecord(
            id=hashlib.sha256(b"%d" % number).hexdigest()[:8],
            captions=(f"caption {number}", "ein Bär, 熊") if number % 3 else (f"caption {number}",),
            image_sha256=hashlib.sha256(b"image %d" % number).hexdigest(),
            source=None if number % 4 else f"source {number}",
            licence="CC-BY-4.0" if number % 2 else None,
            url=f"https://example.org/{number}" if number % 5 else None,
        )
        for number in range(start, start + count)
    ]


def vectors(records: Sequence[PairRecord], side: Side) -> Float32:
    """Return embeddings [n, d] that depend on each pair's content alone, to the bit on any machine."""
    width = DIMS[side]
    seeds = [f"{side} {record.image_sha256} {record.captions}".encode() for record in records]
    drawn = b"".join(hashlib.shake_256(seed).digest(2 * width) for seed in seeds)
    return np.frombuffer(drawn, "<i2").reshape(-1, width).astype(np.float32) / 32768


def fill(journal: Journal, items: Sequence[PairRecord | Reject], segment: int) -> None:
    """Append the items from `journal.next_row` on, `segment` source rows at a time."""
    while journal.next_row < len(items):
        end = min(journal.next_row + segment, len(items))
        part = items[journal.next_row : end]
        records = [item for item in part if isinstance(item, PairRecord)]
        rejects = [item for item in part if isinstance(item, Reject)]
        journal.append(records, vectors(records, "image"), vectors(records, "text"), rejects, end)


def finish(journal: Journal, dedup: str = "keep", captions: str = "mean") -> AnchorSet:
    """Publish a journal with what all these tests have in common."""
    return journal.publish(
        **ENCODERS,
        dtype=journal.dtype,
        captions=captions,
        operation={"kind": "build", "source": "test"},
        asif_version="0.0.test",
        dedup=dedup,
    )


def build(
    root: Path,
    items: Sequence[PairRecord | Reject],
    *,
    name: str = "toy",
    segment: int = 7,
    dtype: str = "float16",
    dedup: str = "keep",
    captions: str = "mean",
) -> AnchorSet:
    """Build and open an anchor set in the store at `root`."""
    with Store(root).journal(name, {"dtype": dtype, "rows": len(items)}) as journal:
        fill(journal, items, segment)
        return finish(journal, dedup, captions)


def dense(opened: AnchorSet, side: Side) -> Float32:
    """Return all stored embeddings of one side as float32 [n, d]."""
    return np.concatenate(opened.blocks(side)).astype(np.float32)


def short_blocks(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Let blocks have at most so many rows."""
    for module in ("write.publish", "edit.row_ranges", "edit.insert"):
        monkeypatch.setattr(f"asif.anchorset.{module}.MAX_BLOCK_ROWS", rows)


def files(folder: Path) -> list[Path]:
    """Return all plain files under a folder but the lock."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
