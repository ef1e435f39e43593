"""Short titles of data sets: the ends of their paths that tell them apart."""

from __future__ import annotations

from collections.abc import Sequence

from asif.pairs.source import SPLIT_NAMES


def shorten_names(names: Sequence[str]) -> dict[str, str]:
    """Return a title for each name: the last part of a path or URL, and more parts where that is not distinct.

    The name of a split, such as `test`, keeps the folder that it is in.

    >>> shorten_names(["/data/cars.parquet", "s3://b/pets/test/?key=1", "/old/cars/images", "/new/cars/images"])
    ... # doctest: +NORMALIZE_WHITESPACE
    {'/data/cars.parquet': 'cars.parquet', 's3://b/pets/test/?key=1': 'pets/test',
     '/old/cars/images': 'old/cars/images', '/new/cars/images': 'new/cars/images'}
    """
    parts = {name: [part for part in name.partition("?")[0].split("/") if part] or [name] for name in names}
    sizes = {name: 2 if some[-1] in SPLIT_NAMES else 1 for name, some in parts.items()}
    while True:
        titles = {name: "/".join(parts[name][-size:]) for name, size in sizes.items()}
        shared = [name for name, title in titles.items() if list(titles.values()).count(title) > 1]
        longer = [name for name in shared if sizes[name] < len(parts[name])]
        if not longer:
            return titles
        for name in longer:
            sizes[name] += 1
