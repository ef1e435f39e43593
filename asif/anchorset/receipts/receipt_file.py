"""Write and read the file of a receipt; its path is checked before anything is removed."""

from __future__ import annotations

import os
from pathlib import Path

from asif.anchorset.format.atomic_io import atomic_write_bytes, read_small_file
from asif.anchorset.receipts.receipt import MAX_RECEIPT_BYTES, Receipt
from asif.errors import NotFound, UsageError


def check_receipt_path(path: Path) -> None:
    """Raise UsageError if `path` exists already, or cannot be written."""
    if os.path.lexists(path):
        raise make_path_taken_error(path)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(
            f"{path} cannot be written: {path.parent} is no folder, or may not be written",
            "a place for the receipt",
            "choose another; nothing was removed",
        )


def make_path_taken_error(path: Path) -> UsageError:
    """Make the error for a path that exists already."""
    return UsageError(
        f"{path} is there already", "a file that is not, for the receipt", "choose another name; nothing was removed"
    )


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write a receipt, durably and atomically."""
    atomic_write_bytes(path, receipt.to_bytes())


def read_receipt(path: Path) -> Receipt:
    """Read a receipt, and check its proof; raises NotFound, IntegrityError, UnknownFormat."""
    if not path.exists():
        raise NotFound(f"{path} does not exist", "the file of a receipt", "check the path")
    return Receipt.from_bytes(read_small_file(path, MAX_RECEIPT_BYTES), str(path))
