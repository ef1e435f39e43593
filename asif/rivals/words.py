"""Words as a further input of trained projectors: texts are sentence vectors joined with their tf-idf rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from asif.aligners.joined_texts import choose_word_weight, count_images
from asif.aligners.protocol import Anchors, read_captions
from asif.aligners.sampling import number_equal_rows
from asif.aligners.words import Vocabulary
from asif.errors import UsageError
from asif.kernels import KernelName
from asif.rivals.projector import FittedProjector
from asif.rivals.training_pairs import Dims, FeatureReader, TrainingPairs
from asif.vectors import AnchorContributions, DenseRows, Embeddings, FitArrays, Float32, Float64, Int64, Side, Texts

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, eq=False)
class WordChannel:
    """Hold the vocabulary of some anchors, and the weight of words next to a unit sentence vector.

    With `directions` [v, p] the tf-idf rows are projected onto these.
    """

    vocabulary: Vocabulary
    weight: float
    directions: Float64 | None = None

    @classmethod
    def of(cls, anchors: Anchors, most: int | None = None) -> WordChannel | None:
        """Count the words of anchors; None without captions, or words that recur in them.

        Of more than `most` words the rows are projected onto so many principal directions.
        """
        captions = read_captions(anchors) or []
        images = count_images(anchors)
        vocabulary = Vocabulary.count(captions, images)
        if not len(vocabulary):
            return None
        directions = None
        if most is not None and len(vocabulary) > most:
            directions = _find_directions(vocabulary.represent(captions), most)
        return cls(vocabulary, choose_word_weight(images), directions)

    @property
    def size(self) -> int:
        """Return the number of entries that texts are joined with."""
        return len(self.vocabulary) if self.directions is None else self.directions.shape[1]

    def represent(self, texts: Texts) -> csr_array | Float32:
        """Return the weighted rows of texts [n, size]: sparse, or dense if they are projected."""
        rows = self.weight * self.vocabulary.represent(texts)
        return rows if self.directions is None else np.asarray(rows @ self.directions, np.float32)

    def join(self, embeddings: Embeddings) -> Embeddings:
        """Join sentence vectors [n, d] with the words of their texts: unit rows [n, d + size].

        Raises UsageError for vectors without texts.
        """
        if embeddings.texts is None:
            raise UsageError(
                f"{len(embeddings)} text vectors without their texts",
                "the texts too, whose words the projector compares",
                "give texts in place of vectors, Embeddings(values, texts)",
            )
        return Embeddings(_join_rows(embeddings.values, self.represent(embeddings.texts)))


def _find_directions(rows: csr_array, most: int) -> Float64:
    """Return the principal directions of sparse rows [n, v]: [v, most]."""
    from scipy import linalg

    gram = (rows.T @ rows).toarray()
    _, axes = linalg.eigh(gram, subset_by_index=[len(gram) - most, len(gram) - 1])
    return np.ascontiguousarray(axes[:, ::-1])


def _join_rows(values: Float32, words: Any) -> Float32:
    """Join rows [n, d] with rows [n, v], sparse or dense, to unit length."""
    dense = words if isinstance(words, np.ndarray) else words.toarray()
    joined = np.hstack([values, dense.astype(np.float32)])
    return np.asarray(joined / np.linalg.norm(joined, axis=1, keepdims=True), np.float32)


@dataclass(frozen=True)
class WordedPairs(TrainingPairs):
    """Hold training pairs whose texts are joined with `words` [m, v] batch by batch."""

    words: Any = None

    @classmethod
    def join(cls, anchors: Anchors, captions: tuple[Embeddings, Int64] | None, channel: WordChannel) -> WordedPairs:
        """Take the pairs as `TrainingPairs.of` does, with the words of their texts."""
        pairs = TrainingPairs.of(anchors, captions)
        texts = read_captions(anchors) if captions is None else captions[0].texts
        assert texts is not None  # a channel was counted from captions
        whose = np.arange(anchors.count) if captions is None else captions[1]
        image = np.concatenate([block.astype(np.float32) for block in anchors.blocks("image")])
        order = np.argsort(number_equal_rows(image)[whose], kind="stable")
        words = channel.represent(tuple(texts))[order]
        return cls(pairs.images, pairs.texts, pairs.owners, words)

    @property
    def dims(self) -> Dims:
        return {"image": self.images.shape[1], "text": self.texts.shape[1] + self.words.shape[1]}

    def select_images(self, images: Int64) -> WordedPairs:
        """Return a subset of the images, given in ascending order, with all their texts."""
        selected = np.flatnonzero(np.isin(self.owners, images))
        return replace(super().select_images(images), words=self.words[selected])

    def reader(self, side: Side, device: str) -> FeatureReader:
        """Return a reader that joins the rows of texts when it is called."""
        import torch

        if side == "image":
            return super().reader(side, device)
        return lambda rows: (torch.from_numpy(_join_rows(self.texts[rows], self.words[rows])).to(device),)


@dataclass(frozen=True)
class FittedWithWords:
    """Hold a trained projector of texts joined with words: it represents text embeddings by their texts, too."""

    projector: FittedProjector
    channel: WordChannel
    uses_texts = True

    @property
    def parameters(self) -> dict[str, Any]:
        return {**self.projector.parameters, "words": self.channel.weight, "vocabulary": len(self.channel.vocabulary)}

    @property
    def weight_count(self) -> int:
        """Return the number of trained weights."""
        return self.projector.weight_count

    def arrays(self) -> FitArrays:
        """Return the weights."""
        return self.projector.arrays()

    def represent(self, side: Side, embeddings: Embeddings, engine: KernelName = "auto") -> DenseRows:
        """Project embeddings [n, d], texts with their words, into the common space [n, s]."""
        return self.projector.represent(side, embeddings if side == "image" else self.channel.join(embeddings), engine)

    def split_score(self, image: Any, text: Any) -> AnchorContributions:
        """Raise UsageError: see `FittedProjector.split_score`."""
        return self.projector.split_score(image, text)
