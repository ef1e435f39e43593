"""Remove rows from a version; older versions keep them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from asif.anchorset.edit.row_ranges import list_row_ranges, mark_deleted
from asif.anchorset.edit.transaction import edit_lock, publish_edit
from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import BlockEntry
from asif.anchorset.receipts.create import build_receipt_between
from asif.anchorset.receipts.receipt_file import write_receipt
from asif.errors import UsageError
from asif.vectors import Int64


def remove_rows(folder: SetFolder, version: str, rows: Int64, receipt: Path | None = None) -> AnchorSet:
    """Publish a version of the current one without some rows, ascending and distinct; then write the receipt, if any.

    Blocks are shared with the current version; only those whose deletion list would become too long are rewritten.
    Raises Conflict if `version` is not current, UsageError if no row would be left, OutOfSpace.
    """
    with edit_lock(folder, version) as parent:
        if len(rows) == parent.count:
            raise UsageError(
                f"all {parent.count:,} pairs of {parent.name}@{parent.seq} would be removed",
                "one that stays, at least",
                "choose fewer, or delete the set itself",
            )
        live = np.ones(parent.count, bool)
        live[rows] = False
        blocks: list[BlockEntry] = []
        first = 0
        for row_range in list_row_ranges(folder, parent):
            remaining = live[first : first + len(row_range)]
            if remaining.all():
                blocks.append(row_range.entry)
            elif remaining.any():
                blocks.append(mark_deleted(folder, replace(row_range, rows=row_range.rows[remaining])))
            first += len(row_range)
        opened = publish_edit(folder, parent, blocks, {"kind": "remove", "pairs": len(rows)})
        if receipt is not None:
            write_receipt(receipt, build_receipt_between(folder, parent, opened.manifest))
        return opened
