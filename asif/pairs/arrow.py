"""Read Arrow columns: the shape of their type, their cells, their vectors."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from asif.pairs.columns import ColumnShape
from asif.pairs.row_parser import CAPTION_FIELDS, Flaw, split_vectors

_TEXT = ("string", "large_string", "string_view")
_BYTES = ("binary", "large_binary", "binary_view")
_FLOAT = ("halffloat", "float", "double")


def infer_arrow_shape(kind: Any) -> ColumnShape:
    """Name the shape of an Arrow type.

    >>> import pyarrow as pa
    >>> infer_arrow_shape(pa.list_(pa.float16(), 4)), infer_arrow_shape(pa.large_list(pa.large_string()))
    ('vector', 'texts')
    >>> infer_arrow_shape(pa.struct({"bytes": pa.binary()})), infer_arrow_shape(pa.list_(pa.int64()))
    ('image', 'other')
    """
    from pyarrow import types

    if types.is_dictionary(kind):
        return infer_arrow_shape(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _infer_list_shape(kind.value_type)
    if types.is_struct(kind):
        parts = {field.name: str(field.type) for field in kind}
        return "image" if parts.get("bytes") in (*_BYTES, "null") else "other"
    if str(kind) in _TEXT:
        return "text"
    if str(kind) in _BYTES:
        return "bytes"
    if types.is_integer(kind) or str(kind) in _FLOAT:
        return "number"
    return "null" if types.is_null(kind) else "other"


def _infer_list_shape(item: Any) -> ColumnShape:
    from pyarrow import types

    if str(item) in _FLOAT:
        return "vector"
    if types.is_struct(item):
        return "texts" if any(field.name in CAPTION_FIELDS and str(field.type) in _TEXT for field in item) else "other"
    return "texts" if str(item) in (*_TEXT, "null") else "other"


def read_cell(column: Any, row: int) -> Any:
    """Return one value as a Python object, or a Flaw if its text cannot be decoded."""
    try:
        return column[row].as_py()
    except UnicodeDecodeError:
        return Flaw("is not valid UTF-8")


def read_vector_column(column: Any, width: int) -> list[NDArray[Any] | Flaw]:
    """Return the rows of a list column as vectors of `width`, with a Flaw for each row that is not one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).to_pylist()
    right = pa.array([bool(length) and length == width for length in lengths], pa.bool_())
    flat = pc.list_flatten(column.filter(right)).to_numpy(zero_copy_only=False)
    good = iter(split_vectors(flat.reshape(-1, max(width, 1))))
    flaws = {length: Flaw(f"has {length} numbers instead of {width}") for length in lengths}
    flaws |= {None: Flaw("is null"), 0: Flaw("is empty")}
    return [next(good) if length and length == width else flaws[length] for length in lengths]
