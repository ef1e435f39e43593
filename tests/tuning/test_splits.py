"""Held-out queries: each pair once, none fitted at the same time, texts that repeat, noise, large sets."""

from __future__ import annotations

import numpy as np
import pytest
from support.anchor_pairs import Pairs, labelled, related, unit

from asif.errors import InputRefused
from asif.tuning.splits import (
    MAX_PAIRS,
    QUICK_CHECK_ROWS,
    choose_runs,
    has_repeated_images,
    has_repeated_texts,
    number_equal_rows,
    split_folds,
)


def test_every_pair_is_asked_about_and_none_is_fitted_at_the_same_time() -> None:
    pairs = related(60)
    asked: list[bytes] = []
    for questions in split_folds(pairs, seed=3):
        fitted = {row.tobytes() for block in questions.anchors.blocks("image") for row in block}
        held = {row.tobytes() for row in questions.images.values}
        assert not fitted & held
        assert len(fitted) + len(held) == 60
        assert questions.matches.shape == (len(questions.images), len(questions.texts))
        np.testing.assert_array_equal(questions.matches.sum(axis=1), 1)
        asked += held
    assert sorted(asked) == sorted(row.tobytes() for row in pairs.sides["image"])


def test_what_is_right_is_what_was_paired() -> None:
    pairs = related(60)
    where = {row.tobytes(): at for at, row in enumerate(pairs.sides["image"])}
    for questions in split_folds(pairs, seed=0):
        for image, right in zip(questions.images.values, questions.matches, strict=True):
            own = pairs.sides["text"][where[image.tobytes()]]
            np.testing.assert_array_equal(questions.texts.values[right], own[None])


def test_captions_of_an_image_are_held_out_together() -> None:
    single = related(40)
    rng = np.random.default_rng(1)
    five = np.repeat(single.sides["text"], 5, axis=0)
    pairs = Pairs(np.repeat(single.sides["image"], 5, axis=0), unit(five + 0.1 * rng.standard_normal(five.shape)))
    for questions in split_folds(pairs, seed=0):
        fitted = {row.tobytes() for block in questions.anchors.blocks("image") for row in block}
        assert not fitted & {row.tobytes() for row in questions.images.values}
        np.testing.assert_array_equal(questions.matches.sum(axis=1), 5)
        np.testing.assert_array_equal(questions.matches.sum(axis=0), 1)


def test_a_text_that_several_images_share_is_one_candidate() -> None:
    for questions in split_folds(labelled(100, classes=4), seed=0):
        assert len(questions.texts) <= 4
        np.testing.assert_array_equal(questions.matches.sum(axis=1), 1)
        assert questions.matches.sum() == len(questions.images)


@pytest.mark.parametrize(("classes", "repeat"), [(4, True), (100, True), (900, False)])
def test_a_glance_tells_whether_texts_repeat(classes: int, repeat: bool) -> None:
    pairs = labelled(2000, classes)
    assert has_repeated_texts(pairs, QUICK_CHECK_ROWS) is repeat
    assert has_repeated_texts(pairs)  # two images or more for each of 900, too


def test_an_image_with_several_captions_does_not_make_texts_repeat() -> None:
    single = related(100)
    five = Pairs(np.repeat(single.sides["image"], 5, axis=0), related(500, seed=1).sides["text"])
    assert not has_repeated_texts(five) and not has_repeated_texts(single) and not has_repeated_texts(related(1))


def test_the_same_seed_divides_alike() -> None:
    one, two, other = (list(split_folds(related(60), seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one[0].images.values, two[0].images.values)
    assert not np.array_equal(one[0].images.values, other[0].images.values)


def test_blurred_images_keep_the_cosine() -> None:
    rng = np.random.default_rng(0)
    pairs = Pairs(unit(rng.standard_normal((50, 1000))), unit(rng.standard_normal((50, 9))))
    questions = next(split_folds(pairs, seed=0))
    blurred = questions.add_noise(1).images.values
    cosines = (blurred * questions.images.values).sum(axis=1)
    assert cosines.mean() == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(blurred, questions.add_noise(1).images.values)


@pytest.mark.parametrize("pairs", [related(9), labelled(50, classes=1)], ids=["few", "one text"])
def test_too_little_is_refused(pairs: Pairs) -> None:
    with pytest.raises(InputRefused, match=r"distinct images and .* distinct texts"):
        list(split_folds(pairs, seed=0))


def test_large_sets_are_looked_at_in_runs() -> None:
    rows = choose_runs(1_600_000)
    assert len(rows) == MAX_PAIRS and rows[0] == 0 and rows[-1] == 1_599_999
    assert (np.diff(rows) == 1).sum() == MAX_PAIRS * 49 // 50


def test_groups_are_numbered_as_they_come() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5, 3)).astype(np.float16)[[3, 1, 3, 0, 1, 1]]
    assert number_equal_rows(rows).tolist() == [0, 1, 0, 2, 1, 1]


@pytest.mark.parametrize(("captions", "repeat"), [(1, False), (2, True), (5, True)])
def test_images_repeat_where_each_caption_is_an_anchor(captions: int, repeat: bool) -> None:
    pairs = related(300)
    rows = np.repeat(np.arange(300), captions)
    assert has_repeated_images(Pairs(pairs.sides["image"][rows], pairs.sides["text"][rows])) is repeat
