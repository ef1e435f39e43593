"""Read pairs from Python objects: rows of an iterable, data frames, Arrow tables, data sets of Hugging Face."""

from __future__ import annotations

import hashlib
import json
import math
import os
import weakref
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

from asif.errors import BadMedia, InputRefused, OutOfSpace, UsageError
from asif.pairs.arrow import infer_arrow_shape, read_cell, read_vector_column
from asif.pairs.columns import Columns, ColumnShape, find_columns, infer_value_shape
from asif.pairs.pair import Pair, Reject
from asif.pairs.row_parser import Flaw, parse_row
from asif.pairs.source import PairSource, hash_id_column
from asif.vectors import Int64, canonical_json

ImageFileTaker = Callable[[Any], bytes | str | Path]
"""Takes an image of any kind, returns an encoded file; raises BadMedia or UsageError."""
PATH = Path("pairs in memory")
_HEAD_ROWS = 16  # rows with images that are in memory at a time
_BATCH_ROWS, _BATCH_BYTES = 256, 32 << 20
_FORMS = "(image, caption), (image, [captions]), (image, captions, id), or a dict with an image and a caption"


@dataclass(frozen=True)
class SpooledPairs(PairSource):
    """Read pairs from a temporary file that was written while an iterable was consumed; `ends` are the ends of rows.

    A row is a line of JSON, followed by the bytes of its image if it is not a file of its own.
    """

    file: IO[bytes]
    ends: array[int]
    content_sha256: str

    @property
    def rows(self) -> int:
        """Count the rows."""
        return len(self.ends)

    @property
    def bytes(self) -> int:
        """Return the size of the temporary file."""
        return self.ends[-1] if self.ends else 0

    @property
    def identity(self) -> str:
        """Hash the content; of image files their path, size and modification time."""
        return self.content_sha256

    @property
    def sha256(self) -> str:
        """Hash the content, as `identity` does."""
        return self.content_sha256

    def hash_ids(self, rows: int) -> Int64 | None:
        """Hash the ids of the first rows."""
        ids = (self._read_id(row) for row in range(rows))
        return np.fromiter((hash(row if name is None else name) for row, name in enumerate(ids)), np.int64)

    def _read_id(self, row: int) -> str | None:
        self.file.seek(self.ends[row - 1] if row else 0)
        name: str | None = json.loads(self.file.readline())["id"]
        return name

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one item for each row from `start` on."""
        for row in range(start, self.rows):
            first = self.ends[row - 1] if row else 0
            self.file.seek(first)
            head, _, image = self.file.read(self.ends[row] - first).partition(b"\n")
            yield _unpack_row(row, json.loads(head), image)


@dataclass(frozen=True)
class TablePairs(PairSource):
    """Read pairs from an Arrow table, or from whatever gives parts of one: `part` returns rows from one to another."""

    count: int
    part: Callable[[int, int], Any]

    @property
    def rows(self) -> int:
        """Count the rows."""
        return self.count

    @cached_property
    def identity(self) -> str:
        """Hash the columns in use."""
        digest = hashlib.sha256(canonical_json(self.columns.by_role()))
        for _, batch in self._read_batches(0):
            digest.update(_serialise_batch(batch))
        return digest.hexdigest()

    @property
    def sha256(self) -> str:
        """Hash the content, as `identity` does."""
        return self.identity

    def hash_ids(self, rows: int) -> Int64 | None:
        """Hash the ids of the first rows."""
        return hash_id_column(self, rows)

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one item for each row from `start` on; some rows are in memory at a time."""
        names = self.columns.by_role()
        widths = dict(zip(("image_embedding", "text_embedding"), self.dims, strict=True)) if self.dims else {}
        for first, batch in self._read_batches(start):
            read = {role: batch.column(name) for role, name in names.items()}
            blocks = {role: read_vector_column(read.pop(role), width) for role, width in widths.items() if role in read}
            for row in range(batch.num_rows):
                cells = {role: read_cell(column, row) for role, column in read.items()}
                if "image" in cells:
                    cells["image"] = _locate_image(cells["image"])
                yield parse_row(
                    first + row,
                    {**cells, **{role: block[row] for role, block in blocks.items()}},
                    Path(),
                    modality=self.modality,
                )

    def _read_batches(self, start: int) -> Iterator[tuple[int, Any]]:
        """Yield (first row, record batch of the columns in use)."""
        names = sorted(set(self.columns.by_role().values()))
        first, step = start, 1
        while first < self.count:
            table = self.part(first, min(first + step, self.count)).select(names).combine_chunks()
            for batch in table.to_batches():
                yield first, batch
                first += batch.num_rows
            step = min(_BATCH_ROWS, max(1, _BATCH_BYTES * table.num_rows // max(table.nbytes, 1)))


def open_in_memory(
    pairs: Any,
    take_file: ImageFileTaker,
    overrides: Mapping[str, str],
    folder: Path,
    limit: int | None = None,
    modality: str | None = None,
) -> PairSource:
    """Open pairs in memory as a source.

    `pairs` is a pyarrow table, a data frame of pandas or polars, a `datasets.Dataset`, or an iterable of (image,
    caption), (image, [captions]), (image, captions, id), or dicts; `overrides` {role: column} wins over the columns
    that are found. An iterable is consumed once, up to `limit` rows, into a temporary file in `folder`; a table is read
    in place. `take_file` gives the file of an image of any kind; `modality` is that of `asif.pairs.open_pairs`. Raises
    UsageError for anything else, and InputRefused if a required column is missing.
    """
    table = _find_table(pairs)
    if table is not None:
        return _open_table(*table, overrides, modality)
    if isinstance(pairs, Mapping):
        keys = ", ".join(map(str, islice(pairs, 5)))
        raise UsageError(
            f"pairs are a {type(pairs).__name__} with {keys}", "one table, or rows", "pass one of its parts"
        )
    if hasattr(pairs, "itertuples"):
        names = [str(name) for name in pairs.columns]
        rows: Iterator[Any] = (dict(zip(names, row, strict=True)) for row in pairs.itertuples(index=False, name=None))
    elif isinstance(pairs, Iterable) and not isinstance(pairs, bytes | bytearray):
        rows = iter(pairs)
    else:
        raise UsageError(
            f"pairs are of type {type(pairs).__name__}",
            f"a path, a table, or an iterable of {_FORMS}",
            "pass one of them",
        )
    return _spool_rows(rows if limit is None else islice(rows, limit), take_file, overrides, folder, modality)


# ---- tables


def _find_table(pairs: Any) -> tuple[int, Callable[[int, int], Any]] | None:
    """Return the number of rows and a function that returns a part of the table; None for what is no table."""
    import pyarrow as pa

    if hasattr(pairs, "with_format") and hasattr(pairs, "column_names") and hasattr(pairs, "__len__"):
        if isinstance(pairs, Mapping):  # several splits
            return None
        rows = pairs.with_format("arrow")
        return len(pairs), lambda start, stop: rows[start:stop]
    if isinstance(pairs, pa.RecordBatch):
        pairs = pa.Table.from_batches([pairs])
    elif hasattr(pairs, "itertuples"):
        try:
            pairs = pa.Table.from_pandas(pairs, preserve_index=False)
        except (pa.ArrowException, AttributeError, TypeError, ValueError):  # images, cells of several types
            return None
    elif callable(getattr(pairs, "to_arrow", None)):
        pairs = pairs.to_arrow()
    if not isinstance(pairs, pa.Table):
        return None
    return pairs.num_rows, lambda start, stop: pairs.slice(start, stop - start)


def _open_table(
    count: int, part: Callable[[int, int], Any], overrides: Mapping[str, str], modality: str | None
) -> TablePairs:
    schema = part(0, min(1, count)).schema
    repeated = [name for name, times in Counter(schema.names).items() if times > 1]
    shapes = {field.name: infer_arrow_shape(field.type) for field in schema}
    columns = find_columns({**shapes, **dict.fromkeys(repeated, "other")}, overrides, str(PATH), "captions", modality)
    unused = _list_unused(columns, shapes)
    dims = None
    if columns.precomputed:
        head = part(0, min(_BATCH_ROWS, count))
        widths = [_find_width(head.column(name)) for name in (columns.image_embedding, columns.text_embedding)]
        dims = widths[0], widths[1]
    return TablePairs(PATH, "table in memory", columns, unused, (), dims, count, part)


def _find_width(column: Any) -> int:
    """Return the most common length of the vectors in a column; 0 if there is none."""
    import pyarrow.compute as pc

    lengths = Counter(length for length in pc.list_value_length(column).to_pylist() if length)
    return lengths.most_common(1)[0][0] if lengths else 0


def _serialise_batch(batch: Any) -> Any:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


# ---- rows


def _spool_rows(
    rows: Iterator[Any], take_file: ImageFileTaker, overrides: Mapping[str, str], folder: Path, modality: str | None
) -> SpooledPairs:
    """Consume rows into a temporary file that has no name, so that nothing of it stays behind."""
    head = list(islice(rows, 1))
    if head and isinstance(head[0], Mapping):  # a column may be empty in the first row
        head += islice(rows, _HEAD_ROWS - 1)
    columns, unused = _find_row_columns(head, overrides, modality)
    file = TemporaryFile(dir=folder, prefix="pairs-")  # noqa: SIM115 - it is closed with the source
    ends, digest = array("q"), hashlib.sha256()
    try:
        while head:  # so that no row stays in memory
            _spool(head.pop(0), len(ends), columns, take_file, file, ends, digest)
        for row in rows:
            _spool(row, len(ends), columns, take_file, file, ends, digest)
        file.flush()
    except BaseException:
        file.close()
        raise
    source = SpooledPairs(PATH, "rows in memory", columns, unused, (), None, file, ends, digest.hexdigest())
    weakref.finalize(source, file.close)
    return source


def _spool(
    item: Any, row: int, columns: Columns, take_file: ImageFileTaker, file: IO[bytes], ends: array[int], digest: Any
) -> None:
    """Parse one row and append it to the file."""
    packed = _pack_row(_parse_item(row, item, columns, take_file))
    try:
        file.write(packed)
    except OSError as error:
        raise OutOfSpace(
            f"pairs from memory cannot be kept for the build: {error}", "room for their images", "free some space"
        ) from error
    digest.update(len(packed).to_bytes(8, "little"))
    digest.update(packed)
    ends.append((ends[-1] if ends else 0) + len(packed))


def _find_row_columns(
    head: list[Any], overrides: Mapping[str, str], modality: str | None
) -> tuple[Columns, tuple[str, ...]]:
    """Find the columns of rows by the first of them: those of dicts by name and shape, those of tuples by position."""
    if not head or _is_tuple_row(head[0]):
        if overrides:
            raise UsageError(
                f"columns ({', '.join(overrides)}) of rows without names", "rows as dicts", "leave the columns out"
            )
        return Columns(image="image", captions="captions", id="id", modality=modality or "image"), ()
    if not isinstance(head[0], Mapping):
        raise UsageError(
            f"the first pair is of type {type(head[0]).__name__}", _FORMS, "pass rows of one of these forms"
        )
    shapes: dict[str, ColumnShape] = {}
    for item in head:
        for name, value in item.items() if isinstance(item, Mapping) else ():
            if shapes.get(str(name), "null") == "null":
                shapes[str(name)] = _infer_shape(_plain(value))
    columns = find_columns(shapes, overrides, str(PATH), "captions", modality)
    if columns.precomputed:
        raise InputRefused("rows with vectors", "images and captions, or vectors in a table", "pass an Arrow table")
    return columns, _list_unused(columns, shapes)


def _list_unused(columns: Columns, shapes: Mapping[str, ColumnShape]) -> tuple[str, ...]:
    used = set(columns.by_role().values())
    return tuple(name for name in shapes if name not in used)


def _infer_shape(value: Any) -> ColumnShape:
    """Name the shape of a cell; an image in memory and an open file have that of bytes."""
    if isinstance(value, Path):
        return "text"
    if isinstance(value, Mapping):
        return "image" if "bytes" in value or "path" in value else "other"
    if isinstance(value, bytearray | memoryview) or hasattr(value, "read") or hasattr(value, "getpixel"):
        return "bytes"
    return "bytes" if getattr(value, "ndim", 0) in (2, 3) else infer_value_shape(value)


def _is_tuple_row(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) in (2, 3)


def _parse_item(row: int, item: Any, columns: Columns, take_file: ImageFileTaker) -> Pair | Reject:
    """Parse one row into a pair; an image that is none is a mistake in the first row, and a bad row later."""
    if _is_tuple_row(item):
        cells = dict(zip(("image", "captions", "id"), item, strict=False))
    elif isinstance(item, Mapping):
        named = {str(name): value for name, value in item.items()}
        cells = {role: named.get(name) for role, name in columns.by_role().items()}
    else:
        return Reject(row, None, f"row is of type {type(item).__name__}, not a pair")
    image = cells.pop("image")
    cells = {role: _plain(value) for role, value in cells.items()}
    try:
        return parse_row(row, {**cells, "image": _take_image(image, take_file)}, Path())
    except (BadMedia, UsageError) as error:
        if row == 0 and isinstance(error, UsageError):
            raise
        return parse_row(row, {**cells, "image": Flaw(f"cannot be used: {error.came}")}, Path())


def _take_image(cell: Any, take_file: ImageFileTaker) -> Any:
    """Return the encoded image of a cell: bytes, a path, or None."""
    if isinstance(cell, Mapping):
        cell = cell["bytes"] if cell.get("bytes") is not None else cell.get("path")
    if _is_missing(cell):
        return None
    taken = take_file(cell)
    return taken if isinstance(taken, bytes) else _locate_image(str(taken))


def _locate_image(cell: Any) -> Any:
    """Return the path in an image cell as an absolute one: the user's own paths may lead anywhere."""
    if isinstance(cell, dict) and cell.get("bytes") is None:
        cell = cell.get("path")
    return os.path.abspath(cell) if isinstance(cell, str) and cell.strip() and "://" not in cell else cell


def _plain(value: Any) -> Any:
    """Return a cell without the types of numpy and pandas: their scalars, sequences of texts, missing values."""
    if _is_missing(value):
        return None
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _is_missing(value: Any) -> bool:
    """Tell whether a cell has no value: None, NaN, or the marks of pandas."""
    marks = ("NAType", "NaTType")
    return value is None or type(value).__name__ in marks or (isinstance(value, float) and math.isnan(value))


def _pack_row(item: Pair | Reject) -> bytes:
    """Serialise a row; the size and time of an image file tell whether it changes."""
    if isinstance(item, Reject):
        return json.dumps({"id": item.id, "reason": item.reason}).encode() + b"\n"
    fields: dict[str, Any] = {name: getattr(item, name) for name in ("id", "captions", "source", "licence", "url")}
    image = item.image if isinstance(item.image, bytes) else b""
    if not isinstance(item.image, bytes):
        stat = os.stat(str(item.image))
        fields["file"] = [str(item.image), stat.st_size, stat.st_mtime_ns]
    return json.dumps(fields).encode() + b"\n" + image


def _unpack_row(row: int, fields: dict[str, Any], image: bytes) -> Pair | Reject:
    if "reason" in fields:
        return Reject(row, fields["id"], fields["reason"])
    file = fields.pop("file", None)
    captions = tuple(fields.pop("captions"))
    return Pair(row, image=image if file is None else Path(file[0]), captions=captions, **fields)
