"""Canonical correlation with words: what it solves, what it needs, and that edits and batches change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.anchor_pairs import Pairs, related, unit
from support.examples import examples

from asif.aligners import FittedAligner, Hubness, LexicalCca, make_aligner
from asif.aligners.hubness import build_query_bank
from asif.aligners.words import Vocabulary
from asif.compare import Candidates, score_candidates
from asif.errors import UsageError
from asif.vectors import SIDES, Embeddings, Float32, Texts

NOUNS = ["dog", "cat", "ball", "tree", "boat", "bridge", "horse", "bread"]


def with_captions(count: int, seed: int = 0, cut: int = 7, **options: Any) -> Pairs:
    """Make pairs with two captions each, whose nouns depend on the image."""
    pairs, rng = related(count, seed, **options), np.random.default_rng(seed + 1)
    nouns = pairs.sides["image"][:, :3] @ np.random.default_rng(8).standard_normal((3, len(NOUNS)))
    captions = []
    for row in nouns:
        first, second = np.argsort(-row)[:2]
        captions.append((f"a {NOUNS[first]} and a {NOUNS[second]}", f"{rng.choice(NOUNS)} near the {NOUNS[first]}"))
    return Pairs(*(pairs.sides[side] for side in SIDES), cut=cut, captions=captions)


def select(pairs: Pairs, rows: Any, cut: int = 7) -> Pairs:
    return Pairs(*(pairs.sides[side][rows] for side in SIDES), cut=cut, captions=[pairs.captions[row] for row in rows])


def take(pairs: Pairs, side: Any, rows: slice = slice(6)) -> Embeddings:
    texts: Texts | None = tuple(pairs.captions[rows]) if side == "text" else None
    return Embeddings(pairs.sides[side][rows], texts)


def score(fitted: FittedAligner, held: Pairs) -> NDArray[np.float32]:
    image, text = (fitted.represent(side, take(held, side)) for side in SIDES)
    return score_candidates(image, Candidates(text))


def scaled(rows: Any) -> NDArray[np.float64]:
    wide = np.asarray(rows, np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def join(pairs: Pairs, anchors: Pairs, weight: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return images, and texts joined with their words, by the definition."""
    x, y = (scaled(pairs.sides[side].astype(np.float64) - anchors.mean(side)) for side in SIDES)
    words = Vocabulary.count(anchors.captions).represent(pairs.captions).toarray()
    return x, np.hstack([y, weight * words])


@pytest.mark.parametrize(("name", "weight", "strength"), [("words", 0.5, 30.0), ("words=2,lambda=0.3", 2.0, 0.3)])
def test_it_is_the_canonical_correlation_of_images_and_joined_texts(name: str, weight: float, strength: float) -> None:
    """By the definition, with symmetric roots; λ = 300/√100 = 30 by rule."""
    from scipy.linalg import fractional_matrix_power, svd

    anchors, held = with_captions(100), with_captions(6, 5)
    vocabulary = Vocabulary.count(anchors.captions)
    x, y = join(anchors, anchors, weight)
    a, b = (rows - mean for rows, mean in zip(join(held, anchors, weight), (x.mean(0), y.mean(0)), strict=True))
    single = np.array([weight * vocabulary.represent([(one,) for one in some]).toarray() for some in anchors.captions])
    within = np.einsum("ncv,ncw->vw", single, single) / 200 - np.outer(y.mean(0)[9:], y.mean(0)[9:])
    x, y = x - x.mean(0), y - y.mean(0)
    squares = [x.T @ x / 100, y.T @ y / 100]
    squares[1][9:, 9:] = within
    roots = []
    for square in squares:
        shrunk = square + strength * np.trace(square) / len(square) * np.eye(len(square))
        roots.append(fractional_matrix_power(shrunk, -0.5))
    u, r, vt = svd(roots[0] @ (x.T @ y / 100) @ roots[1], full_matrices=False)
    expected = scaled(a @ roots[0] @ u * r**0.5) @ scaled(b @ roots[1] @ vt.T * r**0.5).T
    np.testing.assert_allclose(score(make_aligner(f"cca({name})").fit(anchors), held), expected, rtol=0, atol=1e-6)


def test_parameters_that_are_not_given_follow_from_the_anchors() -> None:
    few = make_aligner("cca(words)").fit(with_captions(100)).parameters
    assert (few["words"], few["lambda"], few["power"]) == (0.5, 30.0, 1.0)
    assert few["vocabulary"] == len(NOUNS) + 4  # and a, and, near, the
    positive = with_captions(400)
    positive.sides["image"] = unit(np.abs(positive.sides["image"]))
    many = make_aligner("cca(words)").fit(positive).parameters
    assert (many["words"], many["lambda"], many["power"], many["size"]) == (1.0, 15.0, 0.6, 384)
    given = make_aligner("cca(words=2, lambda=1, size=3, weight=0, power=0.5)").fit(positive)
    assert given.parameters | {"vocabulary": 0} == {
        "words": 2.0,
        "lambda": 1.0,
        "size": 3,
        "power": 0.5,
        "exponents": [0.0, 0.0],
        "vocabulary": 0,
    }
    assert given.represent("image", take(positive, "image")).values.shape == (6, 3)


def test_a_power_below_one_is_of_images_alone() -> None:
    pairs = with_captions(60)
    images = unit(np.abs(pairs.sides["image"]))
    raised = Pairs(unit(images.astype(np.float64) ** 0.5), pairs.sides["text"], captions=pairs.captions)
    plain = Pairs(images, pairs.sides["text"], captions=pairs.captions)
    found = score(make_aligner("cca(words,power=0.5)").fit(plain), plain)
    np.testing.assert_allclose(found, score(make_aligner("cca(words,power=1)").fit(raised), raised), rtol=0, atol=1e-5)


def test_words_find_what_sentence_vectors_do_not_tell() -> None:
    rng, anchors, held = np.random.default_rng(0), with_captions(300), with_captions(60, 5)
    for pairs in (anchors, held):
        pairs.sides["text"] = unit(rng.standard_normal(pairs.sides["text"].shape))
    ranks = []
    for name in ("cca(words)", "cca"):
        fitted = make_aligner(name).fit(anchors)
        image, text = (fitted.represent(side, take(held, side, slice(60))) for side in SIDES)
        every = score_candidates(image, Candidates(text))
        ranks.append((every > np.diag(every)[:, None]).sum(axis=1).mean())
    assert ranks[0] < 0.6 * ranks[1]


@pytest.mark.parametrize("count", [1, 2, 9, 60])
@pytest.mark.parametrize("name", ["cca(words)", "cca(words=3,lambda=0.00001)", "cca(words)+0.5*asif(k=3)"])
def test_parts_add_up_to_the_score(count: int, name: str) -> None:
    anchors, held = with_captions(count), with_captions(6, 5)
    fitted = make_aligner(name).fit(anchors)
    image, text = (fitted.represent(side, take(held, side)) for side in SIDES)
    every = score_candidates(image, Candidates(text))
    for at in range(3):
        for to in range(3):
            parts = fitted.split_score(image[at : at + 1], text[to : to + 1])
            assert abs(parts.values.sum() - every[at, to]) <= 1e-6


@settings(deadline=None, max_examples=examples(20))
@given(seed=st.integers(0, 99), drop=st.sets(st.integers(0, 39), min_size=1, max_size=20), cut=st.integers(1, 41))
def test_a_removed_pair_leaves_nothing(seed: int, drop: set[int], cut: int) -> None:
    """As if it had never been there, bit for bit; the word that it alone has, too."""
    every = with_captions(40, seed)
    every.captions = [("rare", f"{some[0]} rare") if row in drop else some for row, some in enumerate(every.captions)]
    rows = [row for row in range(40) if row not in drop]
    left, built, held = select(every, rows), select(every, rows, cut), with_captions(6, 500)
    fits = [make_aligner("cca(words)").fit(pairs) for pairs in (left, built)]
    assert "rare" in Vocabulary.count(every.captions).words
    assert "rare" not in Vocabulary.from_arrays(fits[0].arrays()).words
    for one, other in zip(fits[0].arrays().items(), fits[1].arrays().items(), strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])
    np.testing.assert_array_equal(score(fits[0], held), score(fits[1], held))
    image, text = (fits[0].represent(side, take(held, side)) for side in SIDES)
    parts = [fitted.split_score(image[:1], text[:1]).values for fitted in fits]
    np.testing.assert_array_equal(*parts)


@settings(deadline=None, max_examples=examples(20))
@given(seed=st.integers(0, 99), data=st.data())
def test_the_order_of_anchors_is_of_no_consequence(seed: int, data: st.DataObject) -> None:
    anchors, held = with_captions(30, seed), with_captions(6, 500)
    order = data.draw(st.permutations(range(30)))
    found = [score(make_aligner("cca(words)").fit(each), held) for each in (anchors, select(anchors, order))]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-5)


def test_rows_do_not_depend_on_the_batch() -> None:
    some = with_captions(23, 5)
    for pairs in (with_captions(60), some):
        pairs.sides["image"] = unit(np.abs(pairs.sides["image"]))
    anchors = with_captions(60)
    anchors.sides["image"] = unit(np.abs(anchors.sides["image"]))
    fitted = make_aligner("cca(words)").fit(anchors)
    for side in SIDES:
        found = fitted.represent(side, take(some, side, slice(23))).values
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=0, atol=1e-6)
        for start in (0, 1, 4, 21):
            part = slice(start, start + 4)
            np.testing.assert_array_equal(fitted.represent(side, take(some, side, part)).values, found[part])


def test_many_anchors_are_summed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    anchors, held = with_captions(60), with_captions(6, 5)
    whole = make_aligner("cca(words)").fit(anchors)
    image, text = (whole.represent(side, take(held, side)) for side in SIDES)
    parts = whole.split_score(image[:1], text[:1]).values
    expected = score(whole, held)
    for name, rows in (("joined_texts._BLOCK_ROWS", 16), ("lexical._BATCH_ROWS", 4), ("lexical._MOST_PROJECTED", 0)):
        monkeypatch.setattr(f"asif.aligners.{name}", rows)
    for pairs in (anchors, Pairs(*(anchors.sides[side] for side in SIDES))):
        in_blocks = make_aligner("cca(words)").fit(pairs)
        if pairs is anchors:
            np.testing.assert_allclose(score(in_blocks, held), expected, rtol=0, atol=1e-6)
            found = LexicalCca().restore(anchors, whole.arrays()).split_score(image[:1], text[:1])
            np.testing.assert_allclose(found.values, parts, rtol=0, atol=1e-12)
        else:
            assert score(in_blocks, held).any() and in_blocks.parameters["vocabulary"] == 0


def test_a_fit_that_was_read_back_is_the_same() -> None:
    anchors, held = with_captions(150), with_captions(6, 5)
    aligner = LexicalCca()
    fitted = aligner.fit(anchors)
    stored = {name: np.frombuffer(values.tobytes(), values.dtype) for name, values in fitted.arrays().items()}
    stored = {name: values.reshape(fitted.arrays()[name].shape) for name, values in stored.items()}
    assert {values.dtype for values in stored.values()} <= {np.dtype(np.float32), np.dtype(np.float64)}
    restored = aligner.restore(anchors, stored)
    assert restored.parameters == fitted.parameters
    np.testing.assert_array_equal(score(restored, held), score(fitted, held))
    image, text = (fitted.represent(side, take(held, side)) for side in SIDES)
    parts = [each.split_score(image[:1], text[:1]).values for each in (restored, fitted)]
    np.testing.assert_array_equal(*parts)


def test_the_query_bank_has_the_words_of_the_anchors() -> None:
    anchors, held = with_captions(40), with_captions(6, 5)
    fitted = make_aligner("cca(words)").fit(anchors)
    bank = build_query_bank(fitted, anchors, "text")
    assert len(bank.rows) == 40
    whole = fitted.represent("text", take(anchors, "text", slice(40)))
    images = fitted.represent("image", take(held, "image"))
    best = np.sort(score_candidates(images, Candidates(whole)), axis=1)[:, -3:].mean(axis=1)
    np.testing.assert_allclose(Hubness("nnn", 3).compute_biases(images, bank), best / 2, rtol=0, atol=1e-6)


def test_each_caption_as_an_anchor_has_the_parameters_of_the_pairs() -> None:
    anchors, held = with_captions(60), with_captions(6, 5)
    rows = np.repeat(np.arange(60), 2)
    each = Pairs(
        anchors.sides["image"][rows],
        unit(anchors.sides["text"][rows] + 0.1 * np.random.default_rng(0).standard_normal((120, 9))),
        captions=[(caption,) for some in anchors.captions for caption in some],
    )
    means, single = (make_aligner("cca(words)").fit(pairs) for pairs in (anchors, each))
    assert single.parameters == means.parameters
    assert single._solution.joined.vocabulary.words == means._solution.joined.vocabulary.words
    assert not np.array_equal(score(single, held), score(means, held))


def test_without_captions_it_goes_on_without_words() -> None:
    anchors, held = with_captions(60), with_captions(6, 5)
    bare = Pairs(*(anchors.sides[side] for side in SIDES))
    fitted = make_aligner("cca(words)").fit(bare)
    assert fitted.parameters["vocabulary"] == 0
    text = fitted.represent("text", Embeddings(held.sides["text"])).values
    np.testing.assert_array_equal(fitted.represent("text", take(held, "text")).values, text)
    assert not np.array_equal(score(fitted, held), score(make_aligner("cca(words)").fit(anchors), held))


def test_without_words_is_the_same_map_as_of_anchors_without_captions() -> None:
    anchors, held = with_captions(60), with_captions(6, 5)
    without = make_aligner("cca(words=0)").fit(anchors)
    bare = make_aligner("cca(words)").fit(Pairs(*(anchors.sides[side] for side in SIDES)))
    assert without.parameters["words"] == without.parameters["vocabulary"] == 0
    np.testing.assert_array_equal(score(without, held), score(bare, held))


def test_texts_of_unknown_words_are_represented_by_the_regression_on_their_sentence_vectors() -> None:
    anchors, held = with_captions(150), with_captions(6, 5)
    fitted = make_aligner("cca(words,lambda=2)").fit(anchors)
    found = fitted.represent("text", Embeddings(held.sides["text"])).values
    arrays = fitted.arrays()
    centre = arrays["centre_text"]

    def prepare(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = rows - centre
        return centred / np.linalg.norm(centred, axis=1, keepdims=True)

    dense = prepare(anchors.sides["text"].astype(np.float64))
    whole = fitted.represent("text", take(anchors, "text", slice(150)))
    words = fitted._solution.joined.represent_words(tuple(anchors.captions)).toarray()
    mapped = np.hstack([dense, words]) @ (arrays["map_text"] * arrays["scale_text"])
    mapped -= mapped.mean(axis=0)
    np.testing.assert_allclose(mapped / np.linalg.norm(mapped, axis=1, keepdims=True), whole.values, rtol=0, atol=1e-5)
    centred = dense - dense.mean(axis=0)
    within = centred.T @ centred / 150
    ridge = 2 * np.trace(within) / len(within) * np.eye(len(within))
    solved = np.linalg.solve(within + ridge, centred.T @ mapped / 150)
    expected = (prepare(held.sides["text"].astype(np.float64)) - dense.mean(axis=0)) @ solved
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    restored = LexicalCca(strength=2).restore(anchors, arrays)
    np.testing.assert_array_equal(restored.represent("text", Embeddings(held.sides["text"])).values, found)


def test_embeddings_of_other_dimensions_are_refused() -> None:
    fitted = make_aligner("cca(words)").fit(with_captions(60))
    with pytest.raises(UsageError, match="image embeddings have 9 dimensions, anchors 12"):
        fitted.represent("image", Embeddings(with_captions(6, 5).sides["text"]))


@pytest.mark.parametrize(
    ("name", "came"),
    [
        ("cca(words=-1)", "words is -1"),
        ("cca(words=4)", "words is 4"),
        ("cca(words,lambda=0)", "lambda is 0"),
        ("cca(words,lambda=1e-7)", "lambda is 1e-07"),
        ("cca(words,size=0)", "size is 0"),
        ("cca(words,power=2)", "power is 2"),
        ("cca(words,weight=20)", "weight is 20"),
        ("cca(words,k=3)", "cca was given k"),
        ("cca(power=0.6)", "cca was given power"),
        ("ridge(words)", "ridge was given words"),
    ],
)
def test_parameters_out_of_range_are_refused(name: str, came: str) -> None:
    with pytest.raises(UsageError, match=came):
        make_aligner(name)


def test_its_name_and_parameters_differ_from_those_of_cca() -> None:
    assert make_aligner("cca(words)").parameters == {"words": True, "size": 384, "exponents": [0.5, 0.5]}
    assert make_aligner("cca(words=1,lambda=3)").parameters["words"] == 1.0
    assert "words" not in make_aligner("cca").parameters


@pytest.mark.slow
@pytest.mark.realdata
def test_words_find_more_captions_and_images_of_photographs(realdata: Path) -> None:
    """1,000 pairs of Flickr8k, 1,000 images and 5,000 captions of its development part: R@1 in both directions."""
    folder = realdata / "flickr8k"

    def read(part: str) -> tuple[Float32, Float32, list[tuple[str, ...]]]:
        images, captions = (
            np.load(folder / "features" / f"{part}-{name}.npy") for name in ("image-lite0", "text-minilm")
        )
        said = pq.read_table(folder / f"{part}.parquet", columns=["captions"])["captions"].to_pylist()
        return unit(images), unit(captions.reshape(-1, 384)).reshape(captions.shape), [tuple(some) for some in said]

    images, captions, said = read("train")
    anchors = Pairs(images[::6], unit(captions[::6].mean(axis=1)), 8192, said[::6])
    images, captions, said = read("dev")
    texts = Embeddings(captions.reshape(-1, 384), tuple((text,) for some in said for text in some))
    recalls = []
    for known in (anchors, Pairs(*(anchors.sides[side] for side in SIDES), 8192)):
        fitted, nnn = make_aligner("cca(words)").fit(known), Hubness("nnn")
        rows = {"image": fitted.represent("image", Embeddings(images)), "text": fitted.represent("text", texts)}
        biases = [nnn.compute_biases(rows[to], build_query_bank(fitted, known, of)) for of, to in (SIDES, SIDES[::-1])]
        found = score_candidates(rows["image"], Candidates(rows["text"], biases=biases[0])).argmax(axis=1) // 5
        back = score_candidates(rows["text"], Candidates(rows["image"], biases=biases[1])).argmax(axis=1)
        recalls.append([(found == np.arange(1000)).mean(), (back == np.arange(5000) // 5).mean()])
    assert recalls[0][0] > 0.2 and recalls[0][1] > 0.17
    assert np.subtract(*recalls).min() > 0.005
