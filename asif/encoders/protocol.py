"""The interface of encoders: frozen unimodal models with a dimension and a fingerprint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asif.vectors import Embeddings, Fingerprint, Float32, Tokens

ImageSource = bytes | Path | str
"""An encoded image: its bytes, or the file that holds them."""


class ReadableFile(Protocol):
    """A local or remote file."""

    def open(self, mode: Literal["rb"]) -> IO[bytes]: ...


class PillowImage(Protocol):
    """An image opened by Pillow."""

    @property
    def mode(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...


class PixelTensor(Protocol):
    """A tensor of pixels, such as a `torch.Tensor` of uint8."""

    @property
    def shape(self) -> Any: ...
    def cpu(self) -> Any: ...


ImageInput: TypeAlias = (
    ImageSource | PathLike[str] | bytearray | memoryview | IO[bytes] | PillowImage | NDArray[np.uint8] | PixelTensor
)
"""An image as users pass it: encoded, or opened by Pillow, or uint8 pixels [h, w, 3] or [h, w]."""
ImageInputs: TypeAlias = ImageInput | Iterable[ImageInput]
"""One image or many; an array [n, h, w, 3] is many."""


class ImageEncoder(Protocol):
    """Encode images in two steps, so that decoding can run in parallel with the model."""

    @property
    def spec(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def fingerprint(self) -> Fingerprint: ...
    @property
    def batch(self) -> int:
        """The number of prepared images that suits one call of `forward` on this machine."""
        ...

    def prepare(self, source: ImageSource) -> Any:
        """Decode and preprocess one image; raises BadImage. Safe to call from several threads."""
        ...

    def forward(self, prepared: Sequence[Any]) -> Float32:
        """Run the model: raw vectors [n, dim], not normalised, not checked."""
        ...

    def tokens(self, prepared: Sequence[Any]) -> Tokens:
        """Run the model once: the last features of every patch, and bit for bit what `forward` returns.

        Raises UsageError if the model has no patch features.
        """
        ...


@dataclass(frozen=True)
class TokenizedText:
    """Hold the token ids that a text encoder reads of a text, and whether it is longer and therefore cut."""

    ids: tuple[int, ...]
    is_cut: bool


class TextEncoder(Protocol):
    """Encode texts."""

    @property
    def spec(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def fingerprint(self) -> Fingerprint: ...

    def forward(self, texts: Sequence[str]) -> Float32:
        """Run the model: raw vectors [n, dim], not normalised, not checked."""
        ...

    @property
    def is_english_only(self) -> bool:
        """Tell whether the vocabulary is one of English, so that texts in other scripts cannot be told apart."""
        ...

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Return what the model reads of each text; runs no model."""
        ...

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Run the model once: the last features of every token, and bit for bit what `forward` returns.

        Raises UsageError if the model has no token features.
        """
        ...


@dataclass(frozen=True)
class ClassifierHead:
    """Hold the last layer of a classifier: one prototype in image space per class.

    `prototypes` [c, dim], `ids` (WordNet synsets), `names` (comma-separated lemmas) and `definitions`, c each.
    """

    prototypes: Float32
    ids: tuple[str, ...]
    names: tuple[str, ...]
    definitions: tuple[str, ...]


def encode_images(encoder: ImageEncoder, images: ImageInputs) -> Embeddings:
    """Encode one image or many to unit rows [n, dim]; raises BadImage for the first that cannot be decoded."""
    from asif.encoders.image_input import iter_images, take_image  # they need the door to Pillow, which needs this file

    return Embeddings.from_raw(encoder.forward([encoder.prepare(take_image(image)) for image in iter_images(images)]))


def encode_texts(encoder: TextEncoder, texts: Sequence[str]) -> Embeddings:
    """Encode texts to unit rows [n, dim]."""
    return Embeddings.from_raw(encoder.forward(texts))
