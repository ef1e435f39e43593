"""The content of a version: read its tables of pairs, its rejects and its row hashes, after checking the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.atomic_io import (
    RESTORE_ADVICE,
    check_file_content,
    check_file_size,
    translate_read_errors,
)
from asif.anchorset.format.blocks import UInt8
from asif.anchorset.format.checksummed_json import JsonFields, parse_json_object
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import BlockEntry, FileEntry, Manifest
from asif.anchorset.format.rejects import parse_reject
from asif.errors import IntegrityError
from asif.pairs.item import ItemRecord
from asif.pairs.pair import PairRecord, Reject
from asif.pairs.records import (
    read_columns,
    read_ids,
    read_records,
    read_row_group,
    read_row_groups,
    read_thumbnails,
)
from asif.vectors import Int64

_Rows = TypeVar("_Rows", bound=Sized)
_T = TypeVar("_T")


def select_live_rows(values: NDArray[Any], entry: BlockEntry) -> NDArray[Any]:
    """Return the live rows of a block; a view if none is deleted."""
    return values[entry.live] if entry.deleted else values


def iter_live_row_hashes(folder: SetFolder, manifest: Manifest, entries: Sequence[BlockEntry]) -> Iterator[UInt8]:
    """Yield the row hashes [n, 32] of the live rows of each entry, in order."""
    for entry in entries:
        yield select_live_rows(folder.block(manifest, entry).row_hash, entry)


def load_rejects(folder: SetFolder, entry: FileEntry) -> list[Reject]:
    """Read the rejects of a version after checking every byte; raises IntegrityError."""
    path = folder.content_path("rejects", entry.sha256)
    check_file_content(path, entry.sha256, entry.size)
    lines = path.read_bytes().splitlines(keepends=True)
    return [parse_reject(JsonFields(parse_json_object(line, str(path)), str(path))) for line in lines]


def load_pair_table(folder: SetFolder, entry: BlockEntry) -> list[PairRecord]:
    """Read the pairs of a block, deleted rows included, after checking every byte; raises IntegrityError."""
    return _load_table(folder, entry, read_records)


def find_record_groups(folder: SetFolder, entry: BlockEntry) -> Int64:
    """Return the first row of each row group in the table of a block's pairs, and the row behind the last: [g + 1].

    Raises IntegrityError.
    """
    starts = np.cumsum([0, *_read_checked(folder, entry, read_row_groups)])
    _check_length(folder, entry, int(starts[-1]))
    return starts


def load_record_group(folder: SetFolder, entry: BlockEntry, group: int) -> Any:
    """Read a row group of a block's pairs, from which `take_records` takes some, after checking every byte of all."""
    return _read_checked(folder, entry, partial(read_row_group, number=group))


def load_pair_columns(folder: SetFolder, entry: BlockEntry, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Read some columns of a block's pairs, as `load_pair_table` does; lists become tuples."""
    return _load_table(folder, entry, lambda path: read_columns(path, names))


def load_pair_ids(folder: SetFolder, entry: BlockEntry) -> list[str]:
    """Read the ids of a block's pairs, as `load_pair_table` does."""
    return _load_table(folder, entry, read_ids)


def load_thumbnails(folder: SetFolder, entry: BlockEntry, rows: Sequence[int] | None = None) -> list[bytes | None]:
    """Read the thumbnails of a block, deleted rows included, or those at `rows`; all None for a block without any.

    Checks every byte if all are read, otherwise the size of the file. Raises IntegrityError.
    """
    if entry.thumbnails is None:
        return [None] * (entry.rows if rows is None else len(rows))
    path = folder.content_path("thumbnails", entry.thumbnails.sha256)
    check = check_file_size if rows is not None else partial(check_file_content, sha256=entry.thumbnails.sha256)
    check(path, size=entry.thumbnails.size)
    try:
        with translate_read_errors(path):
            found = read_thumbnails(path, rows)
    except (ValueError, TypeError, KeyError, OSError, NotImplementedError, IndexError) as error:
        raise IntegrityError(f"{path} has no thumbnails ({error})", "the parquet as written", RESTORE_ADVICE) from error
    if len(found) != (entry.rows if rows is None else len(rows)):
        raise IntegrityError(f"{path} holds {len(found)} thumbnails", f"{entry.rows}, as its block", RESTORE_ADVICE)
    return found


def load_whole_records(folder: SetFolder, entry: BlockEntry) -> list[PairRecord]:
    """Read the records of a block with their thumbnails, deleted rows included; raises IntegrityError."""
    records = load_pair_table(folder, entry)
    if entry.thumbnails is None:
        return records
    images = load_thumbnails(folder, entry)
    return [
        replace(record, thumbnail=image) if isinstance(record, ItemRecord) else record
        for record, image in zip(records, images, strict=True)
    ]


def _load_table(folder: SetFolder, entry: BlockEntry, read: Callable[[Path], _Rows]) -> _Rows:
    rows = _read_checked(folder, entry, read)
    _check_length(folder, entry, len(rows))
    return rows


def _read_checked(folder: SetFolder, entry: BlockEntry, read: Callable[[Path], _T]) -> _T:
    """Read something of the table of a block's pairs after checking every byte; raises IntegrityError."""
    path = folder.content_path("pairs", entry.pairs.sha256)
    check_file_content(path, entry.pairs.sha256, entry.pairs.size)
    try:
        with translate_read_errors(path):
            return read(path)
    except (ValueError, TypeError, KeyError, OSError, NotImplementedError, IndexError) as error:
        raise IntegrityError(
            f"{path} is no table of pairs ({error})", "the parquet as written", RESTORE_ADVICE
        ) from error


def _check_length(folder: SetFolder, entry: BlockEntry, rows: int) -> None:
    if rows != entry.rows:
        path = folder.content_path("pairs", entry.pairs.sha256)
        raise IntegrityError(f"{path} holds {rows} pairs", f"{entry.rows}, as its block", RESTORE_ADVICE)
