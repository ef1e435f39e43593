"""Thumbnails of anchors, out of the pairs that a set was built from: the set itself keeps no pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Set

from asif.encoders.images import read_bytes, thumbnail
from asif.errors import BadImage
from asif.pairs import Pair, PairSource


def pictures(
    source: PairSource, wanted: Set[str], progress: Callable[[int], None] = lambda rows: None
) -> dict[str, bytes]:
    """Return small JPEGs of the images with these sha256, by sha256; stops when it has them all.

    Images that are not there, cannot be decoded, or have changed since the set was built are left out.
    """
    found: dict[str, bytes] = {}
    missing = set(wanted)
    for item in source.read():
        if not missing:
            break
        progress(1)
        if not isinstance(item, Pair) or item.image is None:
            continue
        try:
            content = read_bytes(item.image)
            name = hashlib.sha256(content).hexdigest()
            if name in missing:
                missing.discard(name)
                found[name] = thumbnail(content)
        except BadImage:
            continue  # a page shows an empty frame in its place
    return found
