"""Words as an input of projectors: rows against the definition, projected rows, and that networks learn from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from asif.aligners.words import Vocabulary
from asif.errors import UsageError
from asif.rivals import Ape, FuseMix, TrainingPairs
from asif.rivals.words import FittedWithWords, WordChannel, WordedPairs
from asif.vectors import Embeddings, Float32, Int64, Side

LEARNERS = [
    Ape(steps=100, hidden=32, rate=0.01, dropout=0.0),
    pytest.param(FuseMix(epochs=100, width=16, blocks=1, rate=0.003, dropout=0.0), marks=pytest.mark.slow),
]
WORDS = ["cat", "dog", "fox", "owl", "hen", "bee", "ant", "cow", "yak", "emu"]


@dataclass
class Anchored:
    """Anchors with captions; the text vectors tell nothing of the images, the captions' words do."""

    image: Float32
    text: Float32
    captions: list[tuple[str, ...]]

    @property
    def count(self) -> int:
        return len(self.image)

    def blocks(self, side: Side) -> list[Float32]:
        return [self.image if side == "image" else self.text]

    def mean(self, side: Side) -> Float32:
        return np.asarray(self.blocks(side)[0].mean(axis=0))

    def read_captions(self) -> list[tuple[str, ...]]:
        return self.captions


def anchored(count: int = 80, seed: int = 0) -> Anchored:
    random = np.random.default_rng(seed)
    kinds = np.arange(count) % len(WORDS)
    images = np.eye(len(WORDS), 16)[kinds] + 0.05 * random.standard_normal((count, 16))
    captions = [(f"a {WORDS[kind]}", f"one {WORDS[kind]} number") for kind in kinds]
    text = Embeddings.from_raw(random.standard_normal((count, 6))).values
    return Anchored(Embeddings.from_raw(images).values, text, captions)


def single_captions(anchors: Anchored, seed: int = 1) -> tuple[Embeddings, Int64]:
    said = tuple((caption,) for some in anchors.captions for caption in some)
    vectors = np.random.default_rng(seed).standard_normal((len(said), 6))
    return Embeddings.from_raw(vectors, said), np.repeat(np.arange(anchors.count), 2)


@pytest.mark.parametrize(("count", "weight"), [(80, 0.5), (300, 1.0)])
def test_texts_are_joined_with_the_weighted_rows_of_their_words(count: int, weight: float) -> None:
    anchors = anchored(count)
    channel = WordChannel.of(anchors)
    assert channel is not None and channel.weight == weight and channel.directions is None
    vocabulary = Vocabulary.count(anchors.captions)
    assert channel.vocabulary.words == vocabulary.words
    texts = (("a cat and a dog",), ("nothing known",), ("a bee", "one bee"))
    rows = Embeddings.from_raw(np.random.default_rng(2).standard_normal((3, 6)), texts)
    expected = np.hstack([rows.values, weight * vocabulary.represent(texts).toarray()])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(channel.join(rows).values, expected, atol=1e-6)
    with pytest.raises(UsageError, match="3 text vectors without their texts"):
        channel.join(Embeddings(rows.values))


def test_many_words_are_projected_onto_directions_that_keep_what_recurs() -> None:
    anchors = anchored()
    whole, some = WordChannel.of(anchors), WordChannel.of(anchors, 4)
    assert whole is not None and some is not None and some.directions is not None
    assert some.size == 4 and whole.size == len(whole.vocabulary) > 4
    np.testing.assert_allclose(some.directions.T @ some.directions, np.eye(4), atol=1e-9)
    rows = whole.represent(tuple(anchors.captions)).toarray()
    spectrum = np.linalg.svd(rows, compute_uv=False) ** 2
    kept = float(np.square(some.represent(tuple(anchors.captions))).sum())
    assert kept == pytest.approx(spectrum[:4].sum(), rel=1e-5)


def test_without_captions_or_words_that_recur_there_is_no_channel() -> None:
    anchors = anchored()
    anchors.captions = []
    assert WordChannel.of(anchors) is None
    anchors.captions = [(f"w{chr(97 + at % 26)}{chr(97 + at // 26)}q",) for at in range(80)]
    assert WordChannel.of(anchors) is None


@pytest.mark.parametrize("single", [False, True])
def test_worded_pairs_are_the_pairs_with_words(single: bool) -> None:
    anchors = anchored()
    anchors.image[50] = anchors.image[3]  # one image with the captions of both
    captions = single_captions(anchors) if single else None
    channel = WordChannel.of(anchors)
    assert channel is not None
    plain, pairs = TrainingPairs.of(anchors, captions), WordedPairs.join(anchors, captions, channel)
    assert np.array_equal(pairs.texts, plain.texts) and np.array_equal(pairs.owners, plain.owners)
    assert pairs.dims == {"image": 16, "text": 6 + channel.size}
    given = captions[0] if captions else Embeddings(anchors.text, tuple(anchors.captions))
    joined = {row[:6].tobytes(): whole for row, whole in zip(given.values, channel.join(given).values, strict=True)}
    (read,) = pairs.reader("text", "cpu")(np.arange(len(pairs.texts)))
    assert np.array_equal(read.numpy(), np.stack([joined[row.tobytes()] for row in plain.texts]))
    some = pairs.select_images(np.arange(0, 79, 3))
    (few,) = some.reader("text", "cpu")(np.arange(len(some.texts)))
    assert np.array_equal(few.numpy(), np.stack([joined[row.tobytes()] for row in some.texts]))


@pytest.mark.parametrize("projector", LEARNERS)
def test_networks_learn_from_words_what_vectors_do_not_tell(projector: Ape | FuseMix) -> None:
    anchors, new = anchored(100), anchored(40, seed=5)
    captions = single_captions(anchors)
    channel = WordChannel.of(anchors)
    assert channel is not None
    pairs = WordedPairs.join(anchors, captions, channel)
    steps = projector.resolve(100).build_schedule(100)
    fitted = FittedWithWords(projector.train_steps(pairs, steps, steps.steps), channel)
    plain = projector.train_steps(TrainingPairs.of(anchors, captions), steps, steps.steps)
    assert fitted.uses_texts and fitted.parameters["vocabulary"] == len(channel.vocabulary)
    texts = Embeddings(new.text, tuple(new.captions))
    right = []
    for each in (fitted, plain):
        scores = each.represent("image", Embeddings(new.image)).values @ each.represent("text", texts).values.T
        right.append(np.mean(scores.argmax(axis=1) % len(WORDS) == np.arange(40) % len(WORDS)))
    assert right[0] > 0.8 and right[1] < 0.5
