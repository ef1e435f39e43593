"""Join rows with the same id and the same image to one pair with the captions of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.pairs.pair import SAME_PAIR, Pair, Reject

MAX_JOINED_ROWS = 1000
MAX_JOINED_CHARACTERS = 1 << 20


def join_repeated_ids(items: Iterable[Pair | Reject]) -> Iterator[Pair | Reject]:
    """Yield pairs, with rows that follow each other and have the same id and image as one pair.

    Its captions are in the order of the rows. Rows are not joined if source, licence or URL differ. A row that repeats
    one of the same pair is a Reject. Rejected rows of an id come before its pair. A pair has the captions of at most
    1,000 rows and about a million characters, so memory is bounded; the next row begins another pair.

    >>> rows = [Pair(0, "a", b"x", ("a dog",)), Pair(1, "a", b"x", ("it runs",)), Pair(2, "b", b"y", ("a cat",))]
    >>> [(pair.id, pair.captions, pair.joined) for pair in join_repeated_ids(rows)]
    [('a', ('a dog', 'it runs'), (1,)), ('b', ('a cat',), ())]
    """
    for name, rows in groupby(items, attrgetter("id")):
        yield from _join_rows(rows) if name is not None else rows  # noqa: B031  # one of the two


def _join_rows(rows: Iterable[Pair | Reject]) -> Iterator[Pair | Reject]:
    """Join rows of one id."""
    members: list[Pair] = []
    seen: set[tuple[Any, ...]] = set()
    count = characters = 0
    for item in rows:
        count += 1
        if isinstance(item, Reject):
            yield item
            continue
        full = count > MAX_JOINED_ROWS or characters > MAX_JOINED_CHARACTERS
        if members and (full or not _is_same_pair(members[0], item)):
            yield _join_rows_of_pair(members)
            members, seen, count, characters = [], set(), 1, 0
        text = item.captions, None if item.text_embedding is None else item.text_embedding.tobytes()
        if text in seen:
            yield Reject(item.row, item.id, SAME_PAIR)
        else:
            seen.add(text)
            members.append(item)
            characters += sum(map(len, item.captions))
    if members:
        yield _join_rows_of_pair(members)


def _is_same_pair(first: Pair, other: Pair) -> bool:
    if (first.source, first.licence, first.url) != (other.source, other.licence, other.url):
        return False
    if first.image_embedding is None or other.image_embedding is None:
        return first.image_embedding is other.image_embedding and first.image == other.image
    return np.array_equal(first.image_embedding, other.image_embedding)


def _join_rows_of_pair(members: list[Pair]) -> Pair:
    others = tuple(pair.row for pair in members[1:])
    return replace(join_captions(members), joined=others) if others else members[0]


def join_captions(members: list[Pair]) -> Pair:
    """Return the first row with the captions, and text vectors, of all rows of its pair."""
    first, *others = members
    if not others:
        return first
    vectors = [vectors for pair in members if (vectors := _repeat_text_vector(pair)) is not None]
    return replace(
        first,
        captions=tuple(caption for pair in members for caption in pair.captions),
        text_embedding=np.concatenate(vectors) if vectors else None,
    )


def _repeat_text_vector(pair: Pair) -> NDArray[Any] | None:
    """Return the text vector of a row once for each of its captions: [captions, dt]."""
    return None if pair.text_embedding is None else np.tile(pair.text_embedding, (len(pair.captions), 1))
