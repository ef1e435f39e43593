"""Which rows of a data set are evaluated: a sample with equally many of each class, the same at every call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from asif.aligners.sampling import choose_evenly_spaced
from asif.pairs import LabelledImages, Pair, Reject
from asif.selection.concepts import divide_evenly
from asif.vectors import Int64


@dataclass(frozen=True)
class RowSample:
    """Hold which rows of a data set are evaluated: `rows` of the `total`, and how they were chosen, in words."""

    rows: int
    total: int
    chosen: str


def read_sample(data: LabelledImages, limit: int | None) -> tuple[Iterator[Pair | Reject], RowSample | None]:
    """Read at most `limit` rows, evenly many of each class, in source order; also return how they were chosen.

    The choice is None if all rows are read.
    """
    total = data.source.rows
    if limit is None or limit >= total:
        return data.read(), None
    rows = choose_rows_by_class(list(data.read_labels()), limit)
    return _read_rows(data.read(), rows), RowSample(len(rows), total, "evenly over classes, evenly spaced in each")


def describe_first_rows(total: int, limit: int | None) -> RowSample | None:
    """Describe the first rows of a data set, at most `limit`; None if these are all."""
    return None if limit is None or limit >= total else RowSample(limit, total, "the first rows")


def choose_rows_by_class(labels: Sequence[str | None], size: int) -> Int64:
    """Choose at most `size` rows, ascending: equally many of each class if it has them, evenly spaced in each.

    What a small class cannot fill goes to the others; rows without a label are left out.

    >>> choose_rows_by_class(["a", "a", "a", "a", "b", "b", "b", None, "c"], 5).tolist()
    [0, 3, 4, 6, 8]
    """
    by_class: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        if label is not None:
            by_class.setdefault(label, []).append(row)
    pools = [np.array(by_class[label]) for label in sorted(by_class)]
    sizes = np.array([len(pool) for pool in pools], np.int64)
    shares = divide_evenly(sizes, min(size, int(sizes.sum())))
    chosen = [pool[choose_evenly_spaced(len(pool), int(share))] for pool, share in zip(pools, shares, strict=True)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def _read_rows(items: Iterator[Pair | Reject], rows: Int64) -> Iterator[Pair | Reject]:
    """Yield the items of some rows, ascending; what comes after the last one is not read."""
    wanted = set(rows.tolist())
    if not wanted:
        return
    last = int(rows[-1])
    for row, item in enumerate(items):
        if row in wanted:
            yield item
        if row == last:
            return
