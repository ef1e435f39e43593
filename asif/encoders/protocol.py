"""What an encoder is: a frozen unimodal model with a dimension and a fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from asif.vectors import Embeddings, Fingerprint, Float32, Tokens

ImageSource = bytes | Path | str
"""An encoded image: its bytes, or the file that holds them."""


class Readable(Protocol):
    """A file, here or elsewhere."""

    def open(self, mode: Literal["rb"]) -> IO[bytes]: ...


class ImageEncoder(Protocol):
    """Turn images into vectors, in two steps so that decoding can run beside the model."""

    @property
    def spec(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def fingerprint(self) -> Fingerprint: ...
    @property
    def batch(self) -> int:
        """How many prepared images suit one call of `forward` on this machine."""
        ...

    def prepare(self, source: ImageSource) -> Any:
        """Decode and preprocess one image; raises BadImage. Safe to call from several threads."""
        ...

    def forward(self, prepared: Sequence[Any]) -> Float32:
        """Run the model: raw vectors [n, dim], not normalised, not checked."""
        ...

    def tokens(self, prepared: Sequence[Any]) -> Tokens:
        """Run the model: its last features of every patch, and what `forward` returns, to the bit, in one pass.

        Raises UsageError where the model has none.
        """
        ...


class TextEncoder(Protocol):
    """Turn texts into vectors."""

    @property
    def spec(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def fingerprint(self) -> Fingerprint: ...

    def forward(self, texts: Sequence[str]) -> Float32:
        """Run the model: raw vectors [n, dim], not normalised, not checked."""
        ...

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Run the model: its last features of every token, and what `forward` returns, to the bit, in one pass.

        Raises UsageError where the model has none.
        """
        ...


@dataclass(frozen=True)
class Head:
    """The last layer of a classifier: one prototype in image space per class.

    `prototypes` [c, dim], `ids` (WordNet synsets), `names` (comma-separated lemmas) and `definitions`, c each.
    """

    prototypes: Float32
    ids: tuple[str, ...]
    names: tuple[str, ...]
    definitions: tuple[str, ...]


def encode_images(encoder: ImageEncoder, sources: Sequence[ImageSource]) -> Embeddings:
    """Encode images to unit rows [n, dim]; raises BadImage for the first that cannot be decoded."""
    return Embeddings.from_raw(encoder.forward([encoder.prepare(source) for source in sources]))


def encode_texts(encoder: TextEncoder, texts: Sequence[str]) -> Embeddings:
    """Encode texts to unit rows [n, dim]."""
    return Embeddings.from_raw(encoder.forward(texts))
