"""An item of a gallery: what is stored of one file or text, where it was found, and by which fields it is filtered."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_from_bytes

from asif.pairs.filter_expression import PAIR_FIELDS, FieldReader
from asif.pairs.pair import PairRecord


@dataclass(frozen=True)
class ItemRecord(PairRecord):
    """Hold what a gallery stores of an item; `captions` may be empty, and are the text itself in a gallery of texts.

    `uri` is the absolute path of the file, a `file://` URL if that is not UTF-8, or `<table>#<row>`. `size` and
    `mtime_ns` are those of the file when it was read; None if it has none, or may have changed within one tick of its
    clock. `label` is the name of its class. `thumbnail` is a WebP image.
    """

    uri: str = ""
    size: int | None = None
    mtime_ns: int | None = None
    label: str | None = None
    thumbnail: bytes | None = field(default=None, repr=False)

    @property
    def sha256(self) -> str:
        """Return the sha256 of the content: the encoded image file, or the text in UTF-8."""
        return self.image_sha256


ITEM_FIELDS: dict[str, FieldReader] = {
    **PAIR_FIELDS,
    "uri": lambda item: (item.uri,) if isinstance(item, ItemRecord) else (),
    "label": lambda item: (item.label,) if isinstance(item, ItemRecord) else (),
}
"""The fields of filter expressions over items."""


def name_path(path: Path) -> str:
    """Return the path as text; one that is not UTF-8 with its bytes as in a URL, such as `caf%E9.jpg`.

    >>> name_path(Path("a b.jpg")), name_path(Path(os.fsdecode(b"caf\\xe9.jpg")))
    ('a b.jpg', 'caf%E9.jpg')
    """
    text = path.as_posix()
    try:
        text.encode()
    except UnicodeEncodeError:
        return quote_from_bytes(os.fsencode(path), safe="/ ")
    return text


def make_file_uri(path: Path) -> str:
    """Return the absolute path of a file, or a `file://` URL if the path is not UTF-8; `parse_place` reads both back.

    >>> make_file_uri(Path(os.fsdecode(b"/caf\\xe9.jpg")))
    'file:///caf%E9.jpg'
    """
    text = os.path.abspath(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return Path(text).as_uri()
    return text
