"""Relative representations against their definition, written out: similarities, top k, clamp, power, length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.engine_toys import DIMS, Toy, queries, toy, unit
from support.examples import examples

from asif.aligners import Aligner, Relative, make_aligner
from asif.aligners.relative import CentredBlocks, centre_rows
from asif.errors import UsageError
from asif.kernels import sparse_similarity
from asif.kernels.quantised import is_immutable
from asif.vectors import Embeddings, Side, SparseRows

SIDES: tuple[Side, Side] = ("image", "text")


def centre_slowly(row: Any, mean: Any) -> Any:
    shifted = [float(x) - float(m) for x, m in zip(row, mean, strict=True)]
    length = sum(x * x for x in shifted) ** 0.5
    return [x / length if length > 1e-6 else 0.0 for x in shifted]


def slowly(aligner: Relative, anchors: Toy, side: Side, rows: Any) -> NDArray[np.float64]:
    """Represent row by row, anchor by anchor: dense [n, N]."""
    known, out = anchors.sides[side].astype(np.float64), np.zeros((len(rows), anchors.count))
    if aligner.centre:
        known = np.array([centre_slowly(row, anchors.mean(side)) for row in known])
        rows = [centre_slowly(row, anchors.mean(side)) for row in rows]
    for at, row in enumerate(np.asarray(rows, np.float64)):
        similarities = [float(np.dot(row, anchor)) for anchor in known]
        best = sorted(range(anchors.count), key=lambda i: (-similarities[i], i))[: aligner.k]
        for i in best:
            out[at, i] = max(similarities[i], 0.0) ** aligner.power
        length = np.sqrt((out[at] ** 2).sum())
        if (aligner.normalise == "both" or side == "text") and length > 0:
            out[at] /= length
    return out


def assert_defined(aligner: Relative, anchors: Toy, side: Side, given: Embeddings, atol: float = 3e-7) -> SparseRows:
    """Compare with the definition; returns what was found."""
    found = aligner.fit(anchors).represent(side, given)
    np.testing.assert_allclose(found.to_dense(), slowly(aligner, anchors, side, given.values), rtol=0, atol=atol)
    assert found.width == anchors.count
    assert found.indices.shape == (len(given), min(aligner.k, anchors.count))
    return found


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("power", [0.5, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("k", [1, 7, 40, 41, 90])
def test_equal_to_the_definition(side: Side, power: float, k: int) -> None:
    found = assert_defined(Relative(k=k, power=power), toy(40, cut=7), side, queries(side))
    np.testing.assert_allclose(np.linalg.norm(found.values, axis=1), 1, rtol=0, atol=1e-6)
    assert (found.values >= 0).all() and (np.diff(found.values, axis=1) <= 0).all()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_stored_values_are_the_truth(side: Side, dtype: str) -> None:
    anchors = toy(30, dtype)
    assert_defined(Relative(k=6, power=2), anchors, side, queries(side))
    if dtype == "float16":  # not those that were rounded
        exact = Relative(k=6, power=2).fit(toy(30)).represent(side, queries(side)).to_dense()
        assert (
            np.abs(Relative(k=6, power=2).fit(anchors).represent(side, queries(side)).to_dense() - exact).max() > 1e-5
        )


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_centred_as_defined(side: Side, shift: float) -> None:
    anchors = toy(25, cut=4, shift=shift)
    found = assert_defined(Relative(k=5, power=3, centre=True), anchors, side, queries(side, shift=shift), atol=2e-6)
    plain = Relative(k=5, power=3).fit(anchors).represent(side, queries(side, shift=shift))
    assert np.abs(found.to_dense() - plain.to_dense()).max() > 0.01


@pytest.mark.parametrize("side", SIDES)
def test_a_row_that_equals_the_mean_has_no_direction(side: Side) -> None:
    one = unit(1, DIMS[side], 4)
    anchors = Toy(np.repeat(one, 3, axis=0), np.repeat(one, 3, axis=0))
    found = Relative(centre=True).fit(anchors).represent(side, Embeddings(np.concatenate([one, -one])))
    assert found.to_dense().tolist() == [[0, 0, 0]] * 2  # no anchor has a direction
    lone = Toy(np.concatenate([one, -one]), np.concatenate([one, -one]))  # the mean is 0
    assert Relative(centre=True).fit(lone).represent(side, Embeddings(one)).to_dense().tolist() == [[1, 0]]
    rows = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)
    found = centre_rows(rows, rows[0].astype(np.float64) + 1e-8)  # equal but for rounding
    np.testing.assert_allclose(found, [[0, 0], [0.4 / 0.8**0.5, -0.8 / 0.8**0.5]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["asif", "asif-paper"])
@pytest.mark.parametrize("side", SIDES)
def test_one_anchor(name: str, side: Side) -> None:
    anchors = toy(1)
    row = anchors.sides[side]
    found = make_aligner(name).fit(anchors).represent(side, Embeddings(np.concatenate([row, -row])))
    np.testing.assert_allclose(found.to_dense(), [[1], [0]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("power", [0.5, 1.0, 8.0])
@pytest.mark.parametrize("name", ["asif", "asif-paper"])
@pytest.mark.parametrize("side", SIDES)
def test_rows_with_no_positive_similarity_are_zero(name: str, side: Side, power: float) -> None:
    anchors = Toy(np.abs(unit(6, 12, 1)), np.abs(unit(6, 5, 2)))
    fitted = make_aligner(name, k=4, power=power).fit(anchors)
    away = Embeddings(np.concatenate([-np.abs(unit(3, DIMS[side], 3)), np.abs(unit(1, DIMS[side], 3))]))
    found = fitted.represent(side, away)
    assert (found.values[:3] == 0).all() and found.values[3].min() > 0
    scores = sparse_similarity(found, found)
    assert np.isfinite(scores).all() and (scores[:3] == 0).all() and (scores[:, :3] == 0).all()


def test_clamping_comes_before_the_power() -> None:
    """An even power would make a negative similarity the largest."""
    anchors = Toy([[1, 0], [-0.6, 0.8]], [[1, 0], [-0.6, 0.8]])
    found = Relative(k=2, power=2).fit(anchors).represent("image", Embeddings.from_raw([[1.0, 0.1]]))
    np.testing.assert_allclose(found.to_dense(), [[1, 0]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("power", [8.0, 40.0, 300.0])
def test_high_powers_of_small_similarities_do_not_vanish(power: float) -> None:
    tiny = np.array([[2.0**-13, 1.0], [2.0**-14, 1.0], [0.0, 1.0]], np.float32)
    found = (
        Relative(k=3, power=power).fit(Toy(tiny, tiny)).represent("image", Embeddings(np.eye(2, dtype=np.float32)[:1]))
    )
    np.testing.assert_allclose(found.to_dense(), [[1 / np.hypot(1, 0.5**power), 0.5**power, 0]], rtol=1e-5, atol=1e-7)


@settings(deadline=None, max_examples=examples(60))
@given(
    k=st.integers(1, 14),
    power=st.floats(0.1, 12),
    centre=st.booleans(),
    side=st.sampled_from(SIDES),
    seed=st.integers(0, 10**6),
    cut=st.integers(1, 12),
)
def test_any_parameters(k: int, power: float, centre: bool, side: Side, seed: int, cut: int) -> None:
    anchors = Toy(unit(11, 12, seed), unit(11, 5, seed + 1), np.float16, cut)
    given = Embeddings(unit(4, DIMS[side], seed + 2))
    aligner = Relative(k=k, power=power, centre=centre)
    found = aligner.fit(anchors).represent(side, given)
    # a small power makes a similarity's last digits large where it is near zero
    np.testing.assert_allclose(
        found.to_dense(), slowly(aligner, anchors, side, given.values), rtol=0, atol=5e-6 if power >= 1 else 0.05
    )
    for row in range(len(given)):
        alone = aligner.fit(anchors).represent(side, Embeddings(given.values[row : row + 1]))
        np.testing.assert_array_equal(alone.values[0], found.values[row])
        np.testing.assert_array_equal(alone.indices[0], found.indices[row])


def test_the_published_way() -> None:
    paper = make_aligner("asif-paper")
    assert paper.parameters == {"k": 800, "power": 8.0, "centre": False, "normalise": "text"}
    assert (paper.name, paper.template_mode) == ("asif-paper", "max")
    own = make_aligner("asif")
    assert own.parameters == {"k": None, "power": 3.0, "centre": False, "normalise": "both"}
    assert (own.name, own.template_mode) == ("asif", "mean")
    aligner = make_aligner("asif-paper", k=6, power=4)
    assert isinstance(aligner, Relative)
    text = assert_defined(aligner, toy(30), "text", queries("text"))
    image = assert_defined(aligner, toy(30), "image", queries("image"))
    np.testing.assert_allclose(np.linalg.norm(text.values, axis=1), 1, rtol=0, atol=1e-6)
    assert np.linalg.norm(image.values, axis=1).max() < 0.9


@pytest.mark.parametrize("power", [1.0, 8.0, 24.0])
def test_one_side_or_both_give_the_same_label(power: float) -> None:
    """Normalising images changes no argmax, not even at powers that make the published scores tiny."""
    anchors = toy(60)
    scores = {}
    for normalise in ("both", "text"):
        fitted = Relative(k=20, power=power, normalise=normalise).fit(anchors)  # type: ignore[arg-type]
        rows = [fitted.represent(side, queries(side, 30)) for side in SIDES]
        scores[normalise] = sparse_similarity(*rows)
    np.testing.assert_array_equal(scores["both"].argmax(axis=1), scores["text"].argmax(axis=1))
    assert len(set(scores["both"].argmax(axis=1))) > 5
    assert np.abs(scores["both"] - scores["text"]).max() > 0.1


def test_unspecified_parameters_keep_their_defaults() -> None:
    assert make_aligner("asif", power=1).parameters == {"k": None, "power": 1, "centre": False, "normalise": "both"}
    assert make_aligner("asif-paper", k=3).parameters["power"] == 8.0


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("ASIF", {}, "the aligner is 'ASIF'"),
        ("asif", {"k": 0}, "k is 0"),
        ("asif", {"k": -1}, "k is -1"),
        ("asif", {"power": 0}, "power is 0"),
        ("asif", {"power": -2.0}, "power is -2.0"),
        ("asif", {"power": float("nan")}, "power is nan"),
        ("asif", {"power": float("inf")}, "power is inf"),
        ("asif-paper", {"k": 0}, "k is 0"),
        ("asif-paper", {"centre": True}, "asif-paper was given centre, which it does not have"),
        ("procrustes", {"k": 3, "strength": 1.0}, "procrustes was given k, lambda, which it does not have"),
        ("cca", {"strength": 0.0}, "lambda is 0.0"),
        ("ridge", {"strength": float("nan")}, "lambda is nan"),
        ("ridge", {"towards": "sound"}, "ridge leads towards 'sound'"),
        ("procrustes", {"size": 0}, "size is 0"),
        ("cca", {"weight": -1.0}, "weight is -1.0"),
        ("cca", {"weight": float("nan")}, "weight is nan"),
        ("cca", {"weight": 11.0}, "weight is 11.0"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_aligner(name, **parameters)
    assert caught.value.came == message


def test_wrong_dimensions_are_refused() -> None:
    aligner: Aligner = make_aligner("asif")
    with pytest.raises(UsageError, match="queries have 5 dimensions, anchors 12"):
        aligner.fit(toy(3)).represent("image", queries("text"))


class Counting(list[NDArray[Any]]):
    """Blocks that count how often each is read."""

    def __init__(self, blocks: list[NDArray[Any]]) -> None:
        super().__init__(blocks)
        self.reads = [0] * len(blocks)

    def __getitem__(self, at: Any) -> Any:
        self.reads[at] += 1
        return super().__getitem__(at)


@pytest.mark.parametrize("budget", [0, 100, 2 * 4 * 12 * 4, 2**30])
def test_centred_blocks_stay_within_their_budget(budget: int) -> None:
    anchors = toy(14, np.float16, cut=4)
    source = Counting(anchors.blocks("image"))
    blocks = CentredBlocks(source, anchors.mean("image"), cached_bytes=budget)
    expected = [centre_rows(block, anchors.mean("image")) for block in anchors.blocks("image")]
    for _ in range(3):
        for found, block in zip([*blocks, *blocks[:], blocks[-1]], [*expected, *expected, expected[-1]], strict=True):
            np.testing.assert_array_equal(found, block)
            assert found.dtype == np.float32
    assert len(blocks) == 4
    assert sum(block.nbytes for block in blocks._cache.values()) <= budget
    assert all(map(is_immutable, blocks._cache.values()))
    read_once = [at for at, reads in enumerate(source.reads) if reads == 1]
    assert read_once == {0: [], 100: [3], 384: [0, 1], 2**30: [0, 1, 2, 3]}[budget]
