"""A pair, a rejected row, and the record that an anchor set stores of a pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from asif.pairs.location import Place


@dataclass(frozen=True)
class Pair:
    """Hold one image and its captions as read from a source; the image is not opened.

    `row` is the position in the source, from 0. `image` is encoded bytes, a file, or None when
    `image_embedding` [di] and `text_embedding` [dt] were precomputed. Captions are never empty or blank. `label` is
    set if the source was opened for its labels.
    """

    row: int
    id: str | None
    image: bytes | Place | None
    captions: tuple[str, ...]
    source: str | None = None
    licence: str | None = None
    url: str | None = None
    image_embedding: NDArray[Any] | None = None
    text_embedding: NDArray[Any] | None = None
    label: str | None = None


@dataclass(frozen=True)
class Reject:
    """Hold one row that cannot become an anchor, and why."""

    row: int
    id: str | None
    reason: str

    @property
    def bad(self) -> bool:
        """Tell whether the row is damaged; a row marked as not downloaded by its source is not."""
        return not self.reason.startswith("status: ")


@dataclass(frozen=True)
class PairRecord:
    """Hold what an anchor set stores of a pair: everything but the pixels.

    `image_sha256` is the hash of the encoded image file (of the float32 vector if vectors were precomputed).
    """

    id: str
    captions: tuple[str, ...]
    image_sha256: str
    source: str | None = None
    licence: str | None = None
    url: str | None = None
