"""Anchors of one set or several become a set: the same pairs and the same stored bytes, nothing encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from asif.anchorset import AnchorSet, Store
from asif.anchorset.format.fit_cache import hash_anchors
from asif.vectors import SIDES, Int64, gathered
from asif.version import VERSION

SEGMENT_ROWS = 1024
Chosen = Sequence[tuple[AnchorSet, Int64]]
"""Sets that are alike, and rows of each, ascending and distinct."""


def publish_rows(chosen: Chosen, store: Store, name: str, operation: Mapping[str, Any]) -> AnchorSet:
    """Publish anchors of sets as the next version of the set `name`.

    The digest is that of a build of only those pairs; profiles were found for all anchors, and stay behind. What was
    killed goes on where it was. Memory: 1,024 anchors, and about 250 bytes for each. Raises UsageError for a bad name,
    Busy, IntegrityError for a changed source, OutOfSpace.
    """
    manifest = chosen[0][0].manifest
    plan = {
        "dtype": manifest.dtype,
        "anchors": [hash_anchors(source.manifest) for source, _ in chosen],
        "rows": [hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest() for _, rows in chosen],
        "operation": dict(operation),
    }
    with store.journal(name, plan) as journal:
        done = 0
        for source, rows in segments(chosen):
            done += len(rows)
            if done > journal.next_row:
                image, text = (gathered(source.blocks(side), rows).astype(np.float32) for side in SIDES)
                journal.append(source.records(rows), image, text, [], done)  # which rounds back exactly
        return journal.publish(
            image=manifest.encoders["image"],
            text=manifest.encoders["text"],
            dtype=manifest.dtype,
            captions=manifest.captions,
            operation=operation,
            asif_version=VERSION,
            dedup="keep",
        )


def segments(chosen: Chosen) -> Iterator[tuple[AnchorSet, Int64]]:
    """Cut the rows of each set into segments."""
    for source, rows in chosen:
        for start in range(0, len(rows), SEGMENT_ROWS):
            yield source, rows[start : start + SEGMENT_ROWS]
