"""The shrinkage by leave-one-out, compared with regressions that are solved again without each image."""

from __future__ import annotations

import numpy as np
import pytest
from support.anchor_pairs import Pairs, labelled, related, unit

from asif.aligners import make_aligner
from asif.aligners.joined_texts import find_joined_sums
from asif.aligners.leave_one_out import STRENGTHS, _compute_loss, _compute_losses, choose_strength
from asif.vectors import DenseRows, Embeddings, Float64, Int64


def define_losses(images: Float64, targets: Float64, own: Int64, strength: float) -> Float64:
    """Return the scores [n, c] of images, each left out of the regression of texts on images."""
    count = len(images)
    texts = targets[own]
    xx, yy = images.T @ images / count, texts.T @ texts / count
    ridge = strength * np.trace(xx) / len(xx) * np.eye(len(xx))
    facing = np.linalg.solve(yy + strength * np.trace(yy) / len(yy) * np.eye(len(yy)), targets.T)
    mapped = images.T @ texts / count @ facing
    lengths = np.sqrt(np.einsum("dc,dc->c", mapped, np.linalg.solve(xx + ridge, mapped)))
    scores = np.empty((count, len(targets)))
    for row in range(count):
        others = np.arange(count) != row
        x, y = images[others] - images[others].mean(axis=0), texts[others] - texts[others].mean(axis=0)
        weights = np.linalg.solve(x.T @ x / count + ridge, x.T @ y / count)
        predicted = (images[row] - images[others].mean(axis=0)) @ weights + texts[others].mean(axis=0)
        scores[row] = predicted @ facing / lengths
    return scores


@pytest.mark.parametrize("count", [60, 10])  # more images than dimensions, and fewer
def test_losses_are_those_of_regressions_without_each_image(count: int) -> None:
    pairs = labelled(count, classes=6 if count == 60 else 3)
    joined, moments = find_joined_sums(pairs, 0, 1)
    images = joined.centre(pairs.sides["image"], "image")
    texts = joined.centre(pairs.sides["text"], "text")
    targets, own = np.unique(texts, axis=0, return_inverse=True)
    own = own.ravel()
    images, targets = images - images.mean(axis=0), targets - texts.mean(axis=0)
    found = _compute_losses(images, targets, own, moments)
    for strength, loss in zip(STRENGTHS, found, strict=True):
        defined = _compute_loss(define_losses(images, targets, own, strength), own)
        assert loss == pytest.approx(defined, rel=1e-6)


def test_noise_asks_for_more_shrinkage() -> None:
    rng = np.random.default_rng(0)
    classes = np.arange(200) % 5
    centres, texts = unit(rng.standard_normal((5, 40))), unit(rng.standard_normal((5, 9)))
    chosen = []
    for noise in (0.02, 0.6):
        pairs = Pairs(unit(centres[classes] + noise * rng.standard_normal((200, 40))), texts[classes])
        chosen.append(make_aligner("cca(words)").fit(pairs).parameters["lambda"])
    assert chosen[0] < chosen[1] and set(chosen) <= set(STRENGTHS)


def test_where_texts_do_not_repeat_the_number_of_pairs_decides() -> None:
    pairs = related(100)
    assert choose_strength(pairs, *find_joined_sums(pairs, None, None)) is None
    assert make_aligner("cca(words)").fit(pairs).parameters["lambda"] == 30
    assert make_aligner("cca(words,lambda=7)").fit(labelled(60, classes=6)).parameters["lambda"] == 7


def test_one_text_of_all_images_decides_nothing() -> None:
    pairs = labelled(20, classes=2)
    same = Pairs(pairs.sides["image"], np.repeat(pairs.sides["text"][:1], 20, axis=0))
    assert choose_strength(same, *find_joined_sums(same, None, None)) is None
    rows = make_aligner("cca(words)").fit(same).represent("image", Embeddings(same.sides["image"]))
    assert isinstance(rows, DenseRows) and not rows.values.any()


def test_how_anchors_lie_in_blocks_does_not_matter() -> None:
    pairs = labelled(60, classes=6)
    fits = [make_aligner("cca(words)").fit(Pairs(*pairs.sides.values(), cut=cut)).arrays() for cut in (7, 60)]
    assert fits[0].keys() == fits[1].keys()
    for name, values in fits[0].items():
        np.testing.assert_array_equal(values, fits[1][name])
