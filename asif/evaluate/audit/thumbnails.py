"""Thumbnails of anchors, made from the source of an anchor set: the set itself stores no pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set

from asif.encoders.images import make_thumbnail
from asif.engine.pair_thumbnails import make_wanted_thumbnails
from asif.pairs import Pair, PairSource, Reject


def read_thumbnails(
    source: PairSource, wanted: Set[str], progress: Callable[[int], None] = lambda rows: None
) -> dict[str, bytes]:
    """Return small JPEGs of the wanted images, by the sha256 of the original file; stops once all are read.

    Images that are missing, cannot be decoded, or changed since the set was built are left out.
    """

    def read() -> Iterator[Pair | Reject]:
        for item in source.read():
            progress(1)
            yield item

    return make_wanted_thumbnails(read(), wanted, make_thumbnail)
