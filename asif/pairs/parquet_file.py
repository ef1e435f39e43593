"""Read parquet files in bounded memory; errors for damaged files name the row group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from asif.errors import InputRefused
from asif.pairs.location import Place

_BATCH_ROWS = 256
_BATCH_BYTES = 32 << 20


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
    settings = {"pre_buffer": False, "buffer_size": 1 << 20, "page_checksum_verification": True}
    file = read_intact(lambda: pq.ParquetFile(file_or_path, **settings), f"{path}: the footer")
    about = file.metadata
    grouped = sum(about.row_group(group).num_rows for group in range(about.num_row_groups))
    if grouped != about.num_rows:
        file.close()
        raise _damaged_parquet(f"{path}: the footer", f"it says {about.num_rows} rows, its row groups {grouped}")
    return file


def read_batches(file: Any, path: Place, names: list[str], start: int) -> Iterator[tuple[int, Any]]:
    """Yield (first row, record batch); row groups that end before row `start` are not decoded."""
    first = 0
    for group in range(file.metadata.num_row_groups):
        about = file.metadata.row_group(group)
        end = first + about.num_rows
        if end > start:
            place = f"{path}: row group {group} of {file.metadata.num_row_groups} (rows {first} to {end - 1})"
            size = _choose_batch_rows(about.num_rows, about.total_byte_size)
            batches = file.iter_batches(size, row_groups=[group], columns=names, use_threads=False)
            while (batch := read_intact(lambda batches=batches: next(batches, None), place)) is not None:
                yield first, batch
                first += batch.num_rows
            if first != end:
                raise _damaged_parquet(place, f"{end - first} rows are missing")
        first = end


def read_intact(read: Any, place: str) -> Any:
    """Return what `read` returns; raises InputRefused, naming the place, for any error of pyarrow."""
    import pyarrow as pa

    try:
        return read()
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
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
