"""The values that rooms hand on: what passes the door is unit, finite and float32; what does not is named by row."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asif.errors import BadEmbedding
from asif.vectors import Embeddings, Fingerprint, SparseRows, TopK, canonical_json, find_vector_problems, join_rows

SMALLEST = float(np.float32(1e-45))  # the smallest subnormal of float32
ROW = [3.0, -4.0, 12.0]
UNIT = np.array(ROW) / 13


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-30, SMALLEST, 1.0, 1e30, 1e300])
def test_the_length_does_not_matter(scale: float) -> None:
    values = Embeddings.from_raw(np.array([ROW, [0.0, 2.0, 0.0]]) * scale).values
    np.testing.assert_allclose(values, [UNIT, [0, 1, 0]], rtol=0, atol=6e-8)
    assert values.dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [("float16", 5000.0), ("float16", 2**-24), ("float32", 1e37), ("float32", SMALLEST), ("int64", 1), ("int8", 1)],
)
def test_lengths_are_taken_wide(dtype: str, factor: float) -> None:
    """Squares of these overflow or vanish in their own type."""
    raw = (np.array([ROW]) * factor).astype(dtype)
    assert np.isfinite(raw.astype(np.float64)).all() and raw.any()
    np.testing.assert_allclose(Embeddings.from_raw(raw).values, [UNIT], rtol=0, atol=6e-8)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_and_infinity_are_refused_by_row(bad: float, dtype: str) -> None:
    raw = np.ones((5, 3), dtype)
    raw[1, 2] = raw[4, 0] = bad
    with pytest.raises(BadEmbedding, match=r"2 of 5 vectors cannot be used \(not finite\): rows 1, 4"):
        Embeddings.from_raw(raw)
    assert find_vector_problems(raw) == {1: "not finite", 4: "not finite"}


def test_zero_rows_are_refused_by_row_ten_of_them_named() -> None:
    raw = np.zeros((30, 2))
    raw[::2] = 1
    named = ", ".join(map(str, range(1, 21, 2)))
    with pytest.raises(BadEmbedding) as caught:
        Embeddings.from_raw(raw)
    assert caught.value.came == f"15 of 30 vectors cannot be used (zero): rows {named}"
    assert caught.value.exit_code == 3
    assert find_vector_problems(np.array([[-0.0, 0.0]])) == {0: "zero"}
    assert find_vector_problems(np.array([[np.nan, 0.0], [0.0, 5e-324]])) == {0: "not finite"}


def test_what_overflowed_before_the_door_is_refused() -> None:
    with np.errstate(over="ignore"):
        raw = np.array([[70000.0, 1.0]]).astype(np.float16)
    with pytest.raises(BadEmbedding, match="not finite"):
        Embeddings.from_raw(raw)


@given(arrays(np.float64, (3, 5), elements=st.floats(-1e308, 1e308)))
def test_rows_are_unit_or_refused(raw: np.ndarray[Any, Any]) -> None:
    if not raw.any(axis=1).all():
        with pytest.raises(BadEmbedding, match="zero"):
            Embeddings.from_raw(raw)
        return
    values = Embeddings.from_raw(raw).values.astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, rtol=0, atol=3e-7)
    largest = np.abs(raw).argmax(axis=1)
    assert (np.sign(values[range(3), largest]) == np.sign(raw[range(3), largest])).all()


def test_one_vector_and_none() -> None:
    assert Embeddings.from_raw([0.0, -2.0]).values.tolist() == [[0.0, -1.0]]
    none = Embeddings.from_raw(np.empty((0, 7)))
    assert (len(none), none.dim) == (0, 7)
    with pytest.raises(BadEmbedding):
        Embeddings.from_raw([])


@pytest.mark.parametrize("values", [np.ones((1, 2)), np.ones(2, np.float32), np.ones((1, 1, 1), np.float32)])
def test_only_float32_matrices_pass_unchecked(values: Any) -> None:
    with pytest.raises(TypeError, match="float32"):
        Embeddings(values)


@pytest.mark.parametrize("kind", [TopK, lambda indices, values: SparseRows(indices, values, 9)])
def test_shapes_must_agree(kind: Any) -> None:
    kind(np.zeros((2, 3), np.int64), np.zeros((2, 3), np.float32))
    for shape in [(2, 2), (3, 3), (6,)]:
        with pytest.raises(TypeError, match="equal"):
            kind(np.zeros((2, 3), np.int64), np.zeros(shape, np.float32))
    with pytest.raises(TypeError, match="equal"):
        kind(np.zeros(3, np.int64), np.zeros(3, np.float32))


def test_sparse_rows_slice_join_and_spread() -> None:
    rows = SparseRows(np.array([[4, 0], [1, 2], [3, 0]]), np.array([[1, 2], [3, 0], [5, 6]], np.float32), 5)
    expected = [[2, 0, 0, 0, 1], [0, 3, 0, 0, 0], [6, 0, 0, 5, 0]]
    assert rows.to_dense().tolist() == expected
    assert rows[1:].to_dense().tolist() == expected[1:]
    together = join_rows([rows[2:], rows[:1], rows[0:0], rows[1:2]])
    assert isinstance(together, SparseRows)
    assert together.to_dense().tolist() == [expected[2], expected[0], expected[1]]
    assert (len(rows[1:2]), rows[1:2].width) == (1, 5)


FIELDS = {"library": "timm", "model": "resnet50", "preprocessing": {"mean": [0.5, 0.25], "size": 224}, "prompt": None}


def test_fingerprints_are_equal_when_their_json_is() -> None:
    one = Fingerprint(FIELDS)
    same = Fingerprint({**dict(reversed(FIELDS.items())), "preprocessing": {"size": 224, "mean": (0.5, 0.25)}})
    assert one == same and one.digest == same.digest and one.differences(same) == {}
    assert one.digest == hashlib.sha256(canonical_json(FIELDS)).hexdigest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "resnet18"),
        ("library", None),
        ("prompt", ""),
        ("preprocessing", {"mean": [0.5, 0.26], "size": 224}),
        ("preprocessing", {"mean": [0.25, 0.5], "size": 224}),
        ("new", None),
        ("new", 1),
    ],
)
def test_one_field_makes_fingerprints_differ(field: str, value: Any) -> None:
    one, other = Fingerprint(FIELDS), Fingerprint({**FIELDS, field: value})
    assert one != other and one.digest != other.digest
    assert one.differences(other) == {field: (FIELDS.get(field), value)}
    assert other.differences(one) == {field: (value, FIELDS.get(field))}


def test_a_fingerprint_keeps_what_it_was_given() -> None:
    fields = {"mean": [0.5]}
    one = Fingerprint(fields)
    before = one.digest
    fields["mean"].append(1.0)
    assert one.digest == before
    with pytest.raises(ValueError, match="JSON"):
        Fingerprint({"mean": float("nan")})


def test_canonical_json_has_one_form() -> None:
    assert canonical_json({"b": [1, 2.5, None, True], "a": {"é": "熊", "": "\n"}}).decode() == (
        '{"a":{"":"\\n","é":"熊"},"b":[1,2.5,null,true]}'
    )
    with pytest.raises(ValueError, match="JSON"):
        canonical_json([float("inf")])
