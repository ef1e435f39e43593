"""Some anchors of a set become a set: the same pairs and the same stored bytes, nothing encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from asif.aligners.sampling import gathered
from asif.anchorset import AnchorSet, Store
from asif.anchorset.fits import anchors_hash
from asif.vectors import Int64, Side
from asif.version import VERSION

SEGMENT_ROWS = 1024
SIDES: tuple[Side, Side] = ("image", "text")


def publish_rows(source: AnchorSet, rows: Int64, store: Store, name: str, operation: Mapping[str, Any]) -> AnchorSet:
    """Publish the anchors at `rows` of a set, ascending and distinct, as the next version of the set `name`.

    The digest is that of a build of only those pairs; profiles were found for all anchors, and stay behind. What was
    killed goes on where it was. Memory: 1,024 anchors, and about 250 bytes for each. Raises UsageError for a bad name,
    Busy, IntegrityError for a changed source, OutOfSpace.
    """
    manifest = source.manifest
    plan = {
        "dtype": manifest.dtype,
        "anchors": anchors_hash(manifest),
        "rows": hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest(),
        "operation": dict(operation),
    }
    with store.journal(name, plan) as journal:
        while journal.next_row < len(rows):
            start = journal.next_row
            some = rows[start : start + SEGMENT_ROWS]
            image, text = (gathered(source, side, some).astype(np.float32) for side in SIDES)  # rounded back exactly
            journal.append(source.records(some), image, text, [], start + len(some))
        return journal.publish(
            image=manifest.encoders["image"],
            text=manifest.encoders["text"],
            dtype=manifest.dtype,
            captions=manifest.captions,
            operation=operation,
            asif_version=VERSION,
            dedup="keep",
        )
