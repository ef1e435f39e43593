"""What Arrow columns hold: the shape of a type, the cells of a column."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from asif.pairs.columns import Shape
from asif.pairs.row_parser import CAPTION_FIELDS, Flaw, vector_cells

_TEXT = ("string", "large_string", "string_view")
_BYTES = ("binary", "large_binary", "binary_view")
_FLOAT = ("halffloat", "float", "double")


def shape_of_type(kind: Any) -> Shape:
    """Name the shape of an Arrow type.

    >>> import pyarrow as pa
    >>> shape_of_type(pa.list_(pa.float16(), 4)), shape_of_type(pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    ('vector', 'image')
    >>> shape_of_type(pa.large_list(pa.large_string())), shape_of_type(pa.list_(pa.int64()))
    ('texts', 'other')
    """
    from pyarrow import types

    if types.is_dictionary(kind):
        return shape_of_type(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _shape_of_list(kind.value_type)
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


def _shape_of_list(item: Any) -> Shape:
    from pyarrow import types

    if str(item) in _FLOAT:
        return "vector"
    if types.is_struct(item):
        return "texts" if any(field.name in CAPTION_FIELDS and str(field.type) in _TEXT for field in item) else "other"
    return "texts" if str(item) in (*_TEXT, "null") else "other"


def cell(column: Any, row: int) -> Any:
    """Return one value as Python, or a flaw where its text cannot be decoded."""
    try:
        return column[row].as_py()
    except UnicodeDecodeError:
        return Flaw("is not valid UTF-8")


def vectors(column: Any, width: int) -> list[NDArray[Any] | Flaw]:
    """Return the rows of a list column as vectors of `width`, with a flaw in place of each that is not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).to_pylist()
    right = pa.array([bool(length) and length == width for length in lengths], pa.bool_())
    flat = pc.list_flatten(column.filter(right)).to_numpy(zero_copy_only=False)
    good = iter(vector_cells(flat.reshape(-1, max(width, 1))))
    flaws = {length: Flaw(f"has {length} numbers instead of {width}") for length in lengths}
    flaws |= {None: Flaw("is null"), 0: Flaw("is empty")}
    return [next(good) if length and length == width else flaws[length] for length in lengths]
