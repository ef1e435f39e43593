"""Queries: texts, images, sounds and items of a gallery, each with a weight, of which the representations are added."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from asif.encoders import ImageInput
from asif.encoders.image_input import name_image
from asif.errors import UsageError

PartKind = Literal["text", "image", "audio", "item"]
_WEIGHT = re.compile(r"(\d+(?:\.\d+)?):(?=.)", re.DOTALL)


@dataclass(frozen=True)
class QueryPart:
    """Hold one part of a query: a text, an image, a sound, or an item's id; a negative weight takes its meaning away.

    Raises UsageError for a weight of zero or one that is not finite, and for an empty text.
    """

    kind: PartKind
    content: ImageInput
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or self.weight == 0:
            raise UsageError(f"the weight {self.weight:g} of {self}", "a number other than 0", "leave that part out")
        if self.kind == "text" and not str(self.content).strip():
            raise UsageError("a query without text", "words", "pass for example --text 'a red kite'")

    @property
    def is_file(self) -> bool:
        """Tell whether the part is an image or a sound, which has to be decoded."""
        return self.kind in ("image", "audio")

    def __str__(self) -> str:
        name = name_image(self.content) if self.is_file else str(self.content)
        return name if self.kind != "item" else f"item {name}"


@dataclass(frozen=True)
class Query:
    """Hold a query of one or several parts; each part counts as a vector of unit length, times its weight.

    >>> str(Query.of(texts=["2:golden retriever", "snow"], minus=["a child"]))
    '2:golden retriever + snow - a child'
    """

    parts: tuple[QueryPart, ...]

    def __post_init__(self) -> None:
        if not any(part.weight > 0 for part in self.parts):
            raise UsageError(
                "a query that only takes away" if self.parts else "a query without parts",
                "a text, an image, a sound or an item that results are similar to",
                "pass --text or --image",
            )

    @classmethod
    def of(
        cls,
        texts: Sequence[str] = (),
        images: Sequence[ImageInput] = (),
        items: Sequence[str] = (),
        minus: Sequence[str] = (),
        sounds: Sequence[ImageInput] = (),
    ) -> Query:
        """Make a query of texts, files and ids of items, less the texts `minus`; `2:kite` counts twice as much."""
        return cls(
            (
                *(QueryPart("text", text, weight) for weight, text in map(split_weight, texts)),
                *(QueryPart("image", image, 1.0) for image in images),
                *(QueryPart("audio", sound, 1.0) for sound in sounds),
                *(QueryPart("item", item, 1.0) for item in items),
                *(QueryPart("text", text, -weight) for weight, text in map(split_weight, minus)),
            )
        )

    def __str__(self) -> str:
        shown = ""
        for part in self.parts:
            sign = " - " if part.weight < 0 else " + "
            weight = "" if abs(part.weight) == 1 else f"{abs(part.weight):g}:"
            shown += (sign if shown else sign.strip(" +")) + weight + str(part)
        return shown


def split_weight(text: str) -> tuple[float, str]:
    """Split a weight off a text.

    >>> split_weight("2:golden retriever"), split_weight("ratio 2:1"), split_weight("1:2:3 scale")
    ((2.0, 'golden retriever'), (1.0, 'ratio 2:1'), (1.0, '2:3 scale'))
    """
    found = _WEIGHT.match(text)
    return (float(found[1]), text[found.end() :]) if found else (1.0, text)
