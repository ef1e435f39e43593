"""A pair, a rejected row, and the record that an anchor set stores of a pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from asif.pairs.location import Place


@dataclass(frozen=True)
class Pair:
    """Hold one image and its captions as read from a source; the image is not opened.

    `row` is the position in the source, from 0. `image` is encoded bytes, a file, or None when
    `image_embedding` [di] and `text_embedding` [dt] were precomputed. Captions are never empty or blank. `label` is
    set if the source was opened for its labels. `joined` are the further rows whose captions the pair has too;
    `text_embedding` is then [captions, dt].
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
    joined: tuple[int, ...] = field(default=(), repr=False)


SAME_PAIR = "duplicate of the same id"
"""The reason for a row that repeats a pair with its id."""
ID_CONFLICT = "id used by another pair"
"""The reason for a row whose id names a pair with another image or other captions."""


@dataclass(frozen=True)
class Reject:
    """Hold one row that cannot become an anchor, and why; `joined` are further rows of the same pair."""

    row: int
    id: str | None
    reason: str
    joined: tuple[int, ...] = field(default=(), repr=False)

    @property
    def bad(self) -> bool:
        """Tell whether the row is bad; one marked as not downloaded by its source, or equal to another, is not."""
        return not self.reason.startswith(("status: ", "duplicate of "))

    def split_rows(self) -> list[Reject]:
        """Return one reject for each row.

        >>> Reject(3, "a", "image is null", joined=(4,)).split_rows()
        [Reject(row=3, id='a', reason='image is null'), Reject(row=4, id='a', reason='image is null')]
        """
        return [Reject(row, self.id, self.reason) for row in (self.row, *self.joined)]


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
