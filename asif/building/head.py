"""Read a classifier's head as pairs: class prototypes with class descriptions; no image is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asif.encoders import ClassifierHead
from asif.errors import UsageError
from asif.pairs import Pair, Reject
from asif.vectors import canonical_json

HEAD_CAPTIONS = ("{name}: {definition}", "a photo of a {short}.")
_PLACEHOLDERS = ("{name}", "{short}", "{definition}")


@dataclass(frozen=True)
class HeadSource:
    """Read a classifier's head as pairs; every caption template is filled with {name}, {short} and {definition}.

    {name} holds all names of a class, "tench, Tinca tinca", {short} the first of them.
    """

    path: Path
    head: ClassifierHead
    captions: tuple[str, ...] = HEAD_CAPTIONS

    def __post_init__(self) -> None:
        for template in self.captions:
            if not any(place in template for place in _PLACEHOLDERS):
                raise UsageError(
                    f"the caption template {template[:80]!r} names no class",
                    f"a text with one of {', '.join(_PLACEHOLDERS)} in it",
                    f"use for example {HEAD_CAPTIONS[0]!r}",
                )

    @property
    def rows(self) -> int:
        """Count the classes."""
        return len(self.head.ids)

    @property
    def identity(self) -> str:
        """Hash the prototypes, the names and the templates."""
        words = canonical_json([self.head.ids, self.head.names, self.head.definitions, self.captions])
        return hashlib.sha256(words + self.head.prototypes.tobytes()).hexdigest()

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one pair per class from `start` on."""
        for row in range(start, self.rows):
            name, definition = self.head.names[row], self.head.definitions[row]
            yield Pair(
                row,
                self.head.ids[row],
                None,
                tuple(_fill_template(template, name, definition) for template in self.captions),
                source=str(self.path),
                image_embedding=self.head.prototypes[row],
            )


def _fill_template(template: str, name: str, definition: str) -> str:
    """Fill a caption template for one class.

    >>> _fill_template("a photo of a {short}.", "tench, Tinca tinca", "freshwater game fish")
    'a photo of a tench.'
    """
    short = name.split(",", maxsplit=1)[0].strip()
    return template.replace("{name}", name).replace("{short}", short).replace("{definition}", definition)
