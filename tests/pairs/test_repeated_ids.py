"""Rows of one id and one image become one pair, and no row is lost."""

from __future__ import annotations

from typing import Any

import numpy as np

from asif.pairs import Pair, Reject, join_repeated_ids


def vectors(row: int, image: list[float], text: list[float], caption: str = "a") -> Pair:
    return Pair(row, "a", None, (caption,), image_embedding=np.array(image), text_embedding=np.array(text))


def rows_of(items: list[Pair | Reject]) -> list[int]:
    return sorted(row for item in items for row in (item.row, *item.joined))


def test_captions_keep_the_order_of_rows_and_rejects_come_first() -> None:
    rows = [
        Pair(0, "a", b"x", ("one", "two")),
        Reject(1, "a", "caption is empty"),
        Pair(2, "a", b"x", ("three",)),
        Pair(3, "a", b"x", ("three",)),
        Pair(4, None, b"x", ("no id",)),
        Pair(5, None, b"x", ("no id",)),
    ]
    found = list(join_repeated_ids(rows))
    assert [item.row for item in found] == [1, 3, 0, 4, 5]
    assert found[1] == Reject(3, "a", "duplicate of the same id")
    assert isinstance(found[2], Pair) and found[2].captions == ("one", "two", "three")
    assert rows_of(found) == [0, 1, 2, 3, 4, 5]


def test_other_images_sources_and_licences_are_other_pairs() -> None:
    pair = Pair(0, "a", b"x", ("one",), "web", "CC0-1.0", "u")
    others: list[dict[str, Any]] = [{"image": b"y"}, {"source": "film"}, {"licence": None}, {"url": "v"}]
    for change in others:
        other = Pair(**{**vars(pair), "row": 1, "captions": ("two",), **change})
        assert list(join_repeated_ids([pair, other])) == [pair, other]


def test_vectors_are_joined_one_for_each_caption() -> None:
    rows = [vectors(0, [1, 0], [1, 2, 3]), vectors(1, [1, 0], [4, 5, 6]), vectors(2, [0, 1], [7, 8, 9])]
    one, two = join_repeated_ids(rows)
    assert isinstance(one, Pair) and one.text_embedding is not None and one.joined == (1,)
    assert one.text_embedding.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert two is rows[2]


def test_a_pair_is_bounded_in_rows_and_characters() -> None:
    many = list(join_repeated_ids(Pair(row, "a", b"x", (f"{row}",)) for row in range(2500)))
    assert [len(item.joined) for item in many] == [999, 999, 499]
    assert rows_of(many) == list(range(2500))
    long = list(join_repeated_ids(Pair(row, "a", b"x", (f"{row}" * 600_000,)) for row in range(5)))
    assert [len(item.joined) for item in long] == [1, 1, 0]
