"""The kinds of sets that the format holds: anchor sets, of image-text pairs, and galleries, of items with one side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asif.vectors import SIDES, Side


@dataclass(frozen=True)
class SetKind:
    """Describe a kind: its name in manifests, its folder in a store, and the words for it in messages.

    `noun` names a set and `items` what it holds; `build` begins the command that makes one.
    """

    name: str
    folder: str
    noun: str
    items: str
    build: str

    def allows(self, sides: tuple[Side, ...]) -> bool:
        """Tell whether a set of this kind may have exactly these sides."""
        return sides == SIDES if self is ANCHORS else len(sides) == 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Let other processes have the same object: kinds are compared by identity."""
        return find_kind, (self.name,)


ANCHORS = SetKind("anchors", "anchors", "anchor set", "pairs", "asif build-anchors PAIRS")
GALLERY = SetKind("gallery", "galleries", "gallery", "items", "asif gallery build SRC")
KINDS = {kind.name: kind for kind in (ANCHORS, GALLERY)}


def find_kind(name: str) -> SetKind:
    """Return the kind of a name."""
    return KINDS[name]
