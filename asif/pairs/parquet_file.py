"""Read parquet files in bounded memory; errors for damaged files name the row group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from asif.errors import InputRefused
from asif.pairs.location import Place
from asif.pairs.parquet_pages import BinaryChunk, find_binary_chunk, find_dictionary_bytes, read_binary_values
from asif.pairs.row_parser import Flaw

_BATCH_ROWS = 256
_BATCH_BYTES = 32 << 20
_DICTIONARY_BYTES = 128 << 20  # a batch at most, if every row has the largest value of a dictionary
_LARGE_COLUMN_BYTES = 64 << 20


def open_parquet_file(path: Place) -> Any:
    """Open a parquet file as a `pyarrow.parquet.ParquetFile`; raises InputRefused for an incomplete footer."""
    import pyarrow.parquet as pq

    file_or_path = path if isinstance(path, Path) else read_intact(path.open, str(path))
    head, tail = read_intact(lambda: _read_ends(file_or_path), str(path))
    if not head:
        raise InputRefused(f"{path} is empty (0 bytes)", "a parquet file", "make or download the file again")
    if head[:4] != b"PAR1":
        what = "a tar archive; name it .tar" if head[257:262] == b"ustar" else f"it starts with {head[:8]!r}"
        raise InputRefused(f"{path} is not a parquet file: {what}", "a parquet file", "give a parquet file")
    if tail != b"PAR1":
        raise _damaged_parquet(f"{path}: the footer", "the file is cut off before its end")
    # Both settings are needed so that memory does not grow with the file: read-ahead holds entire row groups.
    # Pages are still held as a whole; large ones are read by parquet_pages.
    settings = {"pre_buffer": False, "buffer_size": 1 << 20, "page_checksum_verification": True}
    file = read_intact(lambda: pq.ParquetFile(file_or_path, **settings), f"{path}: the footer")
    about = file.metadata
    grouped = sum(about.row_group(group).num_rows for group in range(about.num_row_groups))
    if grouped != about.num_rows:
        file.close()
        raise _damaged_parquet(f"{path}: the footer", f"it says {about.num_rows} rows, its row groups {grouped}")
    return file


@dataclass(frozen=True)
class RowGroup:
    """Locate a row group: its number, its rows `first` to `end` of the file, and a text that names it."""

    number: int
    first: int
    end: int
    place: str


def list_row_groups(file: Any, path: Place, start: int) -> Iterator[RowGroup]:
    """Yield the row groups that do not end before row `start`."""
    first, groups = 0, file.metadata.num_row_groups
    for group in range(groups):
        end = first + file.metadata.row_group(group).num_rows
        if end > start:
            yield RowGroup(group, first, end, f"{path}: row group {group} of {groups} (rows {first} to {end - 1})")
        first = end


def read_batches(file: Any, path: Place, names: list[str], start: int) -> Iterator[tuple[int, Any]]:
    """Yield (first row, record batch); row groups that end before row `start` are not decoded."""
    for group in list_row_groups(file, path, start):
        yield from read_group_batches(file, path, group, names)


def read_group_batches(file: Any, path: Place, group: RowGroup, names: list[str]) -> Iterator[tuple[int, Any]]:
    """Yield (first row, record batch) of one row group; `names` are columns, or parts of them such as image.path."""
    about = file.metadata.row_group(group.number)
    largest = _find_largest_dictionary(path, about, names, group.place)
    size = min(_choose_batch_rows(about.num_rows, about.total_byte_size), max(1, _DICTIONARY_BYTES // max(largest, 1)))
    batches = file.iter_batches(size, row_groups=[group.number], columns=names, use_threads=False)
    first = group.first
    while (batch := read_intact(lambda: next(batches, None), group.place)) is not None:
        yield first, batch
        first += batch.num_rows
    if first != group.end:
        raise _damaged_parquet(group.place, f"{group.end - first} rows are missing")


def read_large_column(
    file: Any, path: Place, group: RowGroup, column: str, start: int
) -> Iterator[bytes | Flaw | None] | None:
    """Return the values of a large binary column of a row group from row `start` on; None if pyarrow must read it.

    `column` is a path in the schema, such as image.bytes. Memory does not grow with the pages.
    """
    chunk = read_intact(lambda: find_binary_chunk(file, group.number, column), group.place)
    if chunk is None or max(chunk.end - chunk.begin, chunk.decoded) < _LARGE_COLUMN_BYTES:
        return None
    return _read_large_values(path, group, chunk, start)


def _read_large_values(path: Place, group: RowGroup, chunk: BinaryChunk, start: int) -> Iterator[bytes | Flaw | None]:
    with path.open("rb") as opened:
        values = read_binary_values(opened, chunk, max(start - group.first, 0))
        for row in range(max(start, group.first), group.end):
            yield read_intact(lambda: next(values), f"{group.place}, row {row}")


def _find_largest_dictionary(path: Place, about: Any, names: list[str], place: str) -> int:
    """Return the decoded bytes of the largest dictionary of text or bytes among columns, if there is a large one.

    Each row may be as large as a value of it, whatever the size of the row group.
    """
    found = [0]
    columns = [about.column(number) for number in range(about.num_columns)]
    for column in columns:
        used = any(column.path_in_schema == name or column.path_in_schema.startswith(f"{name}.") for name in names)
        large = column.physical_type == "BYTE_ARRAY" and column.total_uncompressed_size > _BATCH_BYTES // _BATCH_ROWS
        if used and large and column.dictionary_page_offset:
            with path.open("rb") as opened:
                begin = column.dictionary_page_offset
                found.append(
                    read_intact(lambda begin=begin, opened=opened: find_dictionary_bytes(opened, begin), place)
                )
    return max(found)


def read_intact(read: Any, place: str) -> Any:
    """Return what `read` returns; raises InputRefused, naming the place, for any error of pyarrow."""
    import pyarrow as pa

    try:
        return read()
    except (pa.ArrowException, OSError, ValueError, MemoryError, LookupError, TypeError) as error:
        raise _damaged_parquet(place, str(error)) from error


def _choose_batch_rows(rows: int, size: int) -> int:
    """Choose a few hundred rows, fewer if rows are large, so that a batch stays near BATCH_BYTES.

    >>> _choose_batch_rows(1000, 50_000_000), _choose_batch_rows(1000, 5_000_000_000)
    (256, 6)
    """
    return min(_BATCH_ROWS, max(1, _BATCH_BYTES * rows // max(size, 1)))


def _read_ends(file_or_path: Path | IO[bytes]) -> tuple[bytes, bytes]:
    if isinstance(file_or_path, Path):
        with file_or_path.open("rb") as file:
            return _read_ends(file)
    head = file_or_path.read(512)
    file_or_path.seek(-min(4, len(head)), 2)
    return head, file_or_path.read()


def _damaged_parquet(place: str, why: str) -> InputRefused:
    return InputRefused(
        f"{place} cannot be read: {why.strip().splitlines()[0] if why.strip() else 'no reason given'}",
        "an intact parquet file",
        "copy or download it again, or write it again without the damaged rows",
    )
