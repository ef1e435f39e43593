"""Thumbnails of anchors, made from the source of an anchor set: the set itself stores no pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Set

from asif.encoders.images import make_thumbnail, read_image_bytes
from asif.errors import BadImage
from asif.pairs import Pair, PairSource


def read_thumbnails(
    source: PairSource, wanted: Set[str], progress: Callable[[int], None] = lambda rows: None
) -> dict[str, bytes]:
    """Return small JPEGs of the wanted images, by the sha256 of the original file; stops once all are read.

    Images that are missing, cannot be decoded, or changed since the set was built are left out.
    """
    thumbnails: dict[str, bytes] = {}
    missing = set(wanted)
    for item in source.read():
        if not missing:
            break
        progress(1)
        if not isinstance(item, Pair) or item.image is None:
            continue
        try:
            content = read_image_bytes(item.image)
            digest = hashlib.sha256(content).hexdigest()
            if digest in missing:
                missing.discard(digest)
                thumbnails[digest] = make_thumbnail(content)
        except BadImage:
            continue  # a page shows an empty frame in its place
    return thumbnails
