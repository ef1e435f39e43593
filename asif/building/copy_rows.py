"""Publish anchors of one or several sets as a new set: same records, same stored bytes; runs no encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from asif.anchorset import AnchorSet, Store
from asif.anchorset.format.fit_cache import hash_anchors
from asif.vectors import SIDES, Int64, gather_rows
from asif.version import VERSION

COPY_SEGMENT_ROWS = 1024
_RowsOfSets = Sequence[tuple[AnchorSet, Int64]]
"""Compatible sets, and rows of each, ascending and distinct."""


def publish_rows(selected: _RowsOfSets, store: Store, name: str, operation: Mapping[str, Any]) -> AnchorSet:
    """Publish the selected anchors as the next version of the set `name`.

    The digest is that of a build of only those pairs. Profiles are not copied: they were tuned on all anchors. The same
    call resumes after a kill. Memory: 1,024 anchors, and about 250 bytes for each. Raises UsageError for a bad name,
    Busy, IntegrityError for a changed source, OutOfSpace.
    """
    manifest = selected[0][0].manifest
    plan = {
        "dtype": manifest.dtype,
        "anchors": [hash_anchors(source.manifest) for source, _ in selected],
        "rows": [hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest() for _, rows in selected],
        "operation": dict(operation),
    }
    with store.journal(name, plan) as journal:
        done = 0
        for source, rows in _split_segments(selected):
            done += len(rows)
            if done > journal.next_row:
                image, text = (gather_rows(source.blocks(side), rows).astype(np.float32) for side in SIDES)
                journal.append(
                    source.records(rows), image, text, [], done
                )  # float32 rounds back to the stored values exactly
        return journal.publish(
            image=manifest.encoders["image"],
            text=manifest.encoders["text"],
            dtype=manifest.dtype,
            captions=manifest.captions,
            operation=operation,
            asif_version=VERSION,
            dedup="keep",
        )


def _split_segments(selected: _RowsOfSets) -> Iterator[tuple[AnchorSet, Int64]]:
    """Yield the rows of each set in segments."""
    for source, rows in selected:
        for start in range(0, len(rows), COPY_SEGMENT_ROWS):
            yield source, rows[start : start + COPY_SEGMENT_ROWS]
