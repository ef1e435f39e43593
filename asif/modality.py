"""The modalities of the two sides of a pair, and the words for them in messages.

Everywhere in the numerics and on disk the sides are called `image` and `text`: the first and the second half of a pair.
What they hold is a property of the encoder that made them, so its fingerprint says it; without a word the first half
holds images and the second texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Protocol

_Side = Literal["image", "text"]
FIELD = "modality"
"""The field of a fingerprint."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_REWORDED = re.compile(r"\b(?:an image|images?|looks like|look most like)\b", re.IGNORECASE)
_NOUNS = {"image": ("an image", "images"), "text": ("a text", "texts"), "audio": ("a sound", "sounds")}


class HasFields(Protocol):
    """The fingerprint of an encoder."""

    @property
    def fields(self) -> Mapping[str, Any]: ...


class Encoded(Protocol):
    """Vectors of an encoder for each side, such as an anchor set or a gallery."""

    @property
    def dims(self) -> Mapping[_Side, int]: ...

    def fingerprint(self, side: _Side) -> HasFields: ...


def read_modality(fingerprint: HasFields, side: _Side) -> str:
    """Return the modality of what an encoder encodes.

    >>> from asif.vectors import Fingerprint
    >>> read_modality(Fingerprint({"modality": "audio"}), "image"), read_modality(Fingerprint({}), "text")
    ('audio', 'text')
    """
    return str(fingerprint.fields.get(FIELD, side))


def find_modality(encoded: Encoded, side: _Side) -> str:
    """Return the modality of one side of a set."""
    return read_modality(encoded.fingerprint(side), side)


def find_modalities(encoded: Encoded) -> dict[_Side, str]:
    """Return the modality of each side that a set has."""
    sides: tuple[_Side, _Side] = ("image", "text")
    return {side: find_modality(encoded, side) for side in sides if side in encoded.dims}


def is_modality(name: object) -> bool:
    """Tell whether a value can name a modality.

    >>> is_modality("audio"), is_modality("Audio!"), is_modality(None)
    (True, False, False)
    """
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def name_one(modality: str) -> str:
    """Name one input of a modality, with its article.

    >>> name_one("audio"), name_one("depth")
    ('a sound', 'a depth input')
    """
    return _NOUNS[modality][0] if modality in _NOUNS else f"a {modality} input"


def name_many(modality: str) -> str:
    """Name inputs of a modality.

    >>> name_many("audio"), name_many("depth")
    ('sounds', 'depth inputs')
    """
    return _NOUNS[modality][1] if modality in _NOUNS else f"{modality} inputs"


def reword(text: str, modality: str) -> str:
    """Put inputs of a modality in place of the images in a text of our own.

    >>> reword("Images that look most like an image; image and caption", "audio")
    'Sounds that sound most like a sound; sound and caption'
    >>> reword("Captions shared by many images", "image")
    'Captions shared by many images'
    """
    if modality == "image":
        return text
    one, many = name_one(modality), name_many(modality)
    words = {"an image": one, "images": many, "image": one.partition(" ")[2]}
    if modality == "audio":
        words |= {"looks like": "sounds like", "look most like": "sound most like"}

    def replace(found: re.Match[str]) -> str:
        word = words.get(found[0].lower(), found[0])
        return word.capitalize() if found[0][0].isupper() else word

    return _REWORDED.sub(replace, text)
