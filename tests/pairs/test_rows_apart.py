"""Rows of one pair are joined wherever they are in a table."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.build_images import random_png
from support.table_source import TableSource

from asif.encoders.image_input import take_image_file
from asif.pairs import JoinedRow, Pair, PairSource, Reject, index_rows_apart, open_pairs
from asif.pairs.in_memory import open_in_memory


def join(source: PairSource, limit: int | None = None) -> list[Pair | Reject | JoinedRow]:
    apart = index_rows_apart(source, limit or source.rows)
    assert apart is not None
    return list(apart.join(list(source.read())[:limit]))


def test_captions_of_later_rows_come_with_the_first() -> None:
    source = TableSource.of(
        Pair(0, "a", b"x", ("one",)),
        Pair(1, "b", b"y", ("other", "more")),
        Pair(2, "a", b"x", ("two", "three")),
        Pair(3, None, b"x", ("no id",)),
        Pair(4, "a", b"x", ("one",)),
        Reject(5, "a", "caption is empty"),
        Pair(6, "a", b"x", ("four",)),
    )
    assert join(source) == [
        Pair(0, "a", b"x", ("one", "two", "three", "four")),
        source.items[1],
        JoinedRow(2, "a", 0),
        source.items[3],
        Reject(4, "a", "duplicate of the same id"),
        source.items[5],
        JoinedRow(6, "a", 0),
    ]
    limited = join(source, 3)
    assert isinstance(limited[0], Pair) and limited[0].captions == ("one", "two", "three")
    assert index_rows_apart(source, 2) is None


def test_rows_that_only_repeat_earlier_ones_are_left_to_the_build() -> None:
    pair = Pair(0, "a", b"x", ("one",))
    assert index_rows_apart(TableSource.of(pair, Pair(1, "b", b"y", ("other",)), replace(pair, row=2)), 3) is None


def test_rows_that_follow_each_other_are_not_read_before() -> None:
    ids = ["a", "a", "b", "c", "c", "c"]
    assert index_rows_apart(TableSource.of(*(Pair(row, name, b"", ("x",)) for row, name in enumerate(ids))), 6) is None


def test_other_images_sources_and_licences_are_other_pairs_and_images_are_reported() -> None:
    pair = Pair(0, "a", b"x", ("one",), "web", "CC0-1.0", "u")
    changes: list[dict[str, Any]] = [{"image": b"y"}, {"source": "film"}, {"licence": None}, {"url": "v"}, {}]
    others = [
        Pair(**{**vars(pair), "row": row, "captions": (f"{row}",), **each}) for row, each in enumerate(changes, 2)
    ]
    reported: list[Reject] = []
    source = TableSource.of(pair, Pair(1, "b", b"z", ("between",)), *others)
    apart = index_rows_apart(source, 7, report=reported.append)
    assert apart is not None
    found = list(apart.join(source.read()))
    assert found[2:6] == others[:4] and found[6] == JoinedRow(6, "a", 0)
    assert isinstance(found[0], Pair) and found[0].captions == ("one", "6")
    assert reported == [Reject(2, "a", "id used by another pair")]


def test_vectors_are_joined_one_for_each_caption() -> None:
    def vectors(row: int, name: str, image: list[float], text: list[float]) -> Pair:
        return Pair(row, name, None, ("a",), image_embedding=np.array(image), text_embedding=np.array(text))

    rows = [vectors(0, "a", [1, 0], [1, 2]), vectors(1, "b", [0, 1], [3, 4]), vectors(2, "a", [1, 0], [5, 6])]
    first, _, later = join(TableSource.of(*rows))
    assert isinstance(first, Pair) and first.text_embedding is not None
    assert first.text_embedding.tolist() == [[1, 2], [5, 6]] and first.captions == ("a", "a")
    assert later == JoinedRow(2, "a", 0)


def test_a_pair_is_bounded_in_rows_and_characters() -> None:
    many = [Pair(row, "ab"[row % 2], b"x", (f"{row}",)) for row in range(5000)]
    assert [len(item.captions) for item in join(TableSource.of(*many)) if isinstance(item, Pair)] == [
        1000,
        1000,
    ] * 2 + [500] * 2
    long = [Pair(row, "ab"[row % 2], b"x", (f"{row}" * 600_000,)) for row in range(10)]
    assert [len(item.captions) for item in join(TableSource.of(*long)) if isinstance(item, Pair)] == [2, 2, 2, 2, 1, 1]


LONG = [(f"{image}", f"{image}.png", f"caption {image} {number}") for number in range(3) for image in range(20)]


def write_images(folder: Path) -> None:
    for image in range(20):
        (folder / f"{image}.png").write_bytes(random_png(image))


def write_csv(folder: Path) -> Path:
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image_id", "file_name", "caption"), *LONG])
    return folder


def write_jsonl(folder: Path) -> Path:
    lines = [json.dumps({"image_id": int(name), "file_name": file, "caption": text}) for name, file, text in LONG]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def write_shards(folder: Path) -> Path:
    for number in range(3):
        rows = LONG[20 * number : 20 * number + 20]
        names, files, texts = zip(*rows, strict=True)
        images = [(folder / file).read_bytes() for file in files]
        table = pa.table({"image_id": [int(name) for name in names], "image": images, "caption": texts})
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=7)
    return folder


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_shards])
def test_tables_of_every_format(tmp_path: Path, write: Any) -> None:
    write_images(tmp_path)
    check_joined(open_pairs(write(tmp_path)))


@pytest.mark.parametrize("form", ["table", "rows"])
def test_pairs_in_memory(tmp_path: Path, form: str) -> None:
    write_images(tmp_path)
    rows = [{"id": name, "image": (tmp_path / file).read_bytes(), "caption": text} for name, file, text in LONG]
    check_joined(open_in_memory(pa.Table.from_pylist(rows) if form == "table" else rows, take_image_file, {}, tmp_path))


def check_joined(source: PairSource) -> None:
    found = join(source)
    for image, item in enumerate(found[:20]):
        assert isinstance(item, Pair) and item.id == f"{image}"
        assert item.captions == tuple(f"caption {image} {number}" for number in range(3))
    assert found[20:] == [JoinedRow(row, f"{row % 20}", row % 20) for row in range(20, 60)]


def test_shuffled_rows(tmp_path: Path) -> None:
    write_images(tmp_path)
    shuffled = random.Random(0).sample(LONG, len(LONG))
    names, files, texts = zip(*shuffled, strict=True)
    pq.write_table(pa.table({"id": names, "file_name": files, "caption": texts}), tmp_path / "a.parquet")
    found = [item for item in join(open_pairs(tmp_path / "a.parquet")) if isinstance(item, Pair)]
    assert {item.id: item.captions for item in found} == {
        f"{image}": tuple(text for name, _, text in shuffled if name == f"{image}") for image in range(20)
    }
