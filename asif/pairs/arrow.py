"""Read Arrow columns: the shape of their type, their cells, their vectors."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from asif.pairs.columns import ColumnShape
from asif.pairs.row_parser import CAPTION_FIELDS, Flaw, split_vectors

_TEXT = ("string", "large_string", "string_view")
_BYTES = ("binary", "large_binary", "binary_view")
_FLOAT = ("halffloat", "float", "double")
_TYPE_CHARACTERS = 60


def infer_arrow_shape(kind: Any) -> ColumnShape:
    """Name the shape of an Arrow type.

    >>> import pyarrow as pa
    >>> infer_arrow_shape(pa.list_(pa.float16(), 4)), infer_arrow_shape(pa.large_list(pa.large_string()))
    ('vector', 'texts')
    >>> infer_arrow_shape(pa.struct({"bytes": pa.binary()})), infer_arrow_shape(pa.list_(pa.int8()))
    ('image', 'list of int8')
    >>> infer_arrow_shape(pa.fixed_shape_tensor(pa.float32(), [16])), infer_arrow_shape(pa.timestamp("s"))
    ('tensor [16] of float', 'timestamp[s]')
    """
    from pyarrow import types

    if hasattr(kind, "storage_type"):
        return f"tensor {list(kind.shape)} of {kind.value_type}" if hasattr(kind, "shape") else _name_type(kind)
    if types.is_dictionary(kind):
        return infer_arrow_shape(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _infer_list_shape(kind.value_type)
    if types.is_struct(kind):
        parts = {field.name: str(field.type) for field in kind}
        return "image" if parts.get("bytes") in (*_BYTES, "null") else _name_type(kind)
    if str(kind) in _TEXT:
        return "text"
    if str(kind) in _BYTES:
        return "bytes"
    if types.is_integer(kind):
        return "number"
    if str(kind) in _FLOAT:
        return "float"
    return "null" if types.is_null(kind) else _name_type(kind)


def _infer_list_shape(item: Any) -> ColumnShape:
    from pyarrow import types

    if str(item) in _FLOAT:
        return "vector"
    if types.is_struct(item):
        caption = any(field.name in CAPTION_FIELDS and str(field.type) in _TEXT for field in item)
        return "texts" if caption else f"list of structs ({_name_type(item)})"
    if types.is_nested(item):
        return "list of lists"
    return "texts" if str(item) in (*_TEXT, "null") else f"list of {_name_type(item)}"


def _name_type(kind: Any) -> str:
    return str(kind)[:_TYPE_CHARACTERS]


def read_cell(column: Any, row: int) -> Any:
    """Return one value as a Python object, or a Flaw if its text cannot be decoded."""
    try:
        return column[row].as_py()
    except UnicodeDecodeError:
        return Flaw("is not valid UTF-8")


def decode_text(value: bytes) -> str | Flaw:
    """Return the text of a cell, or a Flaw if it cannot be decoded."""
    try:
        return value.decode()
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
