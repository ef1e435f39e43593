"""Pairs from memory: each form gives the pairs of the same rows in parquet; rows are consumed once and counted."""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from asif.encoders.image_input import take_image_file
from asif.errors import InputRefused, OutOfSpace, UsageError
from asif.pairs import Pair, PairSource, Reject, open_pairs
from asif.pairs.in_memory import SpooledPairs, TablePairs, open_in_memory

COUNT = 20


def photo(number: int) -> bytes:
    drawn = np.random.default_rng(number).integers(0, 256, (6, 5, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = [photo(number) for number in range(COUNT)]
CAPTIONS = [f"caption {number}" for number in range(COUNT)]
MANY = [[caption, f"another {number}"][: 1 + number % 2] for number, caption in enumerate(CAPTIONS)]
IDS = [f"id {number}" for number in range(COUNT)]


def take(pairs: Any, folder: Path, limit: int | None = None, **columns: str) -> PairSource:
    return open_in_memory(pairs, take_image_file, columns, folder, limit)


def content(source: PairSource) -> list[Any]:
    """Read pairs, with the bytes of their images."""
    found: list[Any] = []
    for item in source.read():
        assert isinstance(item, Pair), item
        image = item.image if isinstance(item.image, bytes) else Path(str(item.image)).read_bytes()
        found.append((item.row, item.id, image, item.captions, item.source))
    assert len(found) == source.rows
    return found


def from_parquet(folder: Path, captions: Any = CAPTIONS, ids: Any = None) -> list[Any]:
    columns = {"image": IMAGES, "caption": captions, **({} if ids is None else {"id": ids})}
    pq.write_table(pa.table(columns), folder / "reference.parquet")
    return content(open_pairs(folder / "reference.parquet"))


class Frame:
    """Stand in for a data frame of pandas that Arrow cannot convert."""

    def __init__(self, **columns: Any) -> None:
        self.columns, self._cells = list(columns), list(columns.values())

    def itertuples(self, index: bool, name: None) -> Iterator[tuple[Any, ...]]:
        return zip(*self._cells, strict=True)


class Converted:
    """Stand in for a data frame of polars."""

    def to_arrow(self) -> Any:
        return pa.table({"image": IMAGES, "caption": CAPTIONS})


class Dataset:
    """Stand in for `datasets.Dataset`: its indices apply to the tables that it gives."""

    column_names = ("image", "caption")

    def __init__(self, rows: list[int]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def with_format(self, kind: str) -> Dataset:
        assert kind == "arrow"
        return self

    def __getitem__(self, some: slice) -> Any:
        cells = [{"bytes": IMAGES[row], "path": None} for row in self._rows[some]]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return pa.table({"image": pa.array(cells, kind), "caption": [CAPTIONS[row] for row in self._rows[some]]})


def written(folder: Path) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(COUNT)]
    for path, image in zip(paths, IMAGES, strict=True):
        if not path.exists():
            path.write_bytes(image)
    return paths


def opened() -> list[Any]:
    return [Image.open(io.BytesIO(image)) for image in IMAGES]


def both(images: Any) -> Any:
    return zip(images, CAPTIONS, strict=True)


FORMS: dict[str, Callable[[Path], Any]] = {
    "tuples": lambda folder: list(both(IMAGES)),
    "a generator": lambda folder: ((image, [caption]) for image, caption in both(IMAGES)),
    "lists": lambda folder: [[image, (caption,)] for image, caption in both(IMAGES)],
    "paths": lambda folder: both(written(folder)),
    "paths as texts": lambda folder: zip(map(str, written(folder)), np.array(CAPTIONS), strict=True),
    "open files": lambda folder: both(map(io.BytesIO, IMAGES)),
    "opened images": lambda folder: both(opened()),
    "pixels": lambda folder: both(map(np.asarray, opened())),
    "dicts": lambda folder: [{"photo": image, "text": caption, "n": 3} for image, caption in both(IMAGES)],
    "dicts of images": lambda folder: [{"photo": image, "text": caption} for image, caption in both(opened())],
    "dicts of structs": lambda folder: [{"image": {"bytes": i, "path": None}, "text": c} for i, c in both(IMAGES)],
    "a table": lambda folder: pa.table({"image": IMAGES, "caption": CAPTIONS}),
    "a table in pieces": lambda folder: pa.concat_tables(
        [pa.table({"image": [image], "caption": [caption]}) for image, caption in both(IMAGES)]
    ),
    "a table of paths": lambda folder: pa.table({"image": list(map(str, written(folder))), "caption": CAPTIONS}),
    "a batch": lambda folder: pa.record_batch({"image": IMAGES, "caption": CAPTIONS}),
    "a data frame of images": lambda folder: Frame(image=opened(), caption=CAPTIONS),
    "another data frame": lambda folder: Converted(),
    "a data set": lambda folder: Dataset(list(range(COUNT))),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_pairs_of_parquet(form: str, tmp_path: Path) -> None:
    source = take(FORMS[form](tmp_path), tmp_path)
    assert content(source) == from_parquet(tmp_path)
    assert [item.row for item in source.read(17)] == [17, 18, 19]
    assert source.identity == take(FORMS[form](tmp_path), tmp_path).identity == source.sha256
    assert source.describe().startswith("pairs in memory: ") and "20 rows" in source.describe()


def test_real_data_frames(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    for images in (IMAGES, opened()):
        frame = pandas.DataFrame({"image": images, "caption": CAPTIONS}, index=range(7, 27))
        assert content(take(frame, tmp_path)) == from_parquet(tmp_path)


def test_real_polars_frames(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"image": IMAGES, "caption": CAPTIONS})
    assert content(take(frame, tmp_path)) == from_parquet(tmp_path)
    lists = polars.DataFrame({"image": IMAGES, "captions": MANY, "id": IDS})
    assert content(take(lists, tmp_path)) == from_parquet(tmp_path, MANY, IDS)


def test_real_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(decode=True), "caption": datasets.Value("string")})
    rows = {"image": [{"bytes": image, "path": None} for image in IMAGES], "caption": CAPTIONS}
    data = datasets.Dataset.from_dict(rows, features)
    assert content(take(data, tmp_path)) == from_parquet(tmp_path)
    mixed = data.select(list(range(COUNT))[::-1])
    assert [row[2:] for row in content(take(mixed, tmp_path))][::-1] == [row[2:] for row in from_parquet(tmp_path)]
    with pytest.raises(UsageError, match="DatasetDict with train"):
        take(datasets.DatasetDict({"train": data}), tmp_path)


def test_several_captions_and_ids(tmp_path: Path) -> None:
    expected = from_parquet(tmp_path, MANY, IDS)
    assert content(take(zip(IMAGES, MANY, IDS, strict=True), tmp_path)) == expected
    rows = [{"pic": i, "captions": c, "id": n} for i, c, n in zip(IMAGES, MANY, IDS, strict=True)]
    assert content(take(rows, tmp_path)) == expected
    assert content(take(pa.table({"image": IMAGES, "captions": MANY, "id": IDS}), tmp_path)) == expected
    numbered = content(take(zip(IMAGES, MANY, np.arange(COUNT), strict=True), tmp_path))
    assert [row[1] for row in numbered] == list(map(str, range(COUNT)))


def test_columns_can_be_named(tmp_path: Path) -> None:
    rows = [{"a": i, "b": c, "caption": "not this", "from": "web"} for i, c in zip(IMAGES, CAPTIONS, strict=True)]
    for pairs in (rows, pa.Table.from_pylist(rows)):
        source = take(pairs, tmp_path, captions="b", source="from")
        assert [row[3:] for row in content(source)] == [((caption,), "web") for caption in CAPTIONS]
        assert source.unused == ("caption",)
    with pytest.raises(UsageError, match="rows without names"):
        take(zip(IMAGES, CAPTIONS, strict=True), tmp_path, image="a")


def test_a_data_set_keeps_its_own_order(tmp_path: Path) -> None:
    rows = [5, 3, 3, 19]
    source = take(Dataset(rows), tmp_path)
    assert [row[2:4] for row in content(source)] == [(IMAGES[row], (CAPTIONS[row],)) for row in rows]


def test_vectors_in_a_table_are_used_as_they_are(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((COUNT, 3)).astype(np.float32)
    table = pa.table({"image_embedding": list(vectors), "text_embedding": list(vectors[::-1, :2]), "caption": CAPTIONS})
    source = take(table, tmp_path)
    assert source.dims == (3, 2)
    found = [item.image_embedding for item in source.read() if isinstance(item, Pair)]
    np.testing.assert_array_equal(np.stack(found), vectors)  # type: ignore[arg-type]


# ---- rows are consumed once, and not held


class Held(np.ndarray):  # type: ignore[type-arg]
    """An image that tells when it goes."""


def test_a_generator_is_consumed_once_and_nothing_of_it_stays(tmp_path: Path) -> None:
    alive, most, given = 0, 0, 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def rows() -> Iterator[Any]:
        nonlocal alive, most, given
        for number in range(300):
            image = np.full((4, 4), number % 256, np.uint8).view(Held)
            alive, given = alive + 1, given + 1
            most = max(most, alive)
            weakref.finalize(image, gone)
            yield image, f"caption {number}"

    folder = tmp_path / "spool"
    folder.mkdir()
    source = take(rows(), folder)
    assert (source.rows, given, len(list(source.read())), len(list(source.read(290)))) == (300, 300, 300, 10)
    assert most <= 4 and given == 300
    assert os.listdir(folder) == []  # the file has no name, so that a killed process leaves nothing


def test_an_endless_iterable_is_read_up_to_its_limit(tmp_path: Path) -> None:
    numbers = count()
    source = take(((IMAGES[0], f"caption {number}") for number in numbers), tmp_path, limit=50)
    assert source.rows == 50 and next(numbers) == 50


def test_other_pairs_and_changed_files_are_another_input(tmp_path: Path) -> None:
    (path,) = written(tmp_path)[:1]
    identities = [take([(path, "x")], tmp_path).identity]
    path.write_bytes(IMAGES[1] + b"more")
    identities.append(take([(path, "x")], tmp_path).identity)
    for rows in ([(IMAGES[0], "x")], [(IMAGES[0], "y")], [(IMAGES[1], "x")], [(IMAGES[0], "x", "id")], []):
        identities.append(take(rows, tmp_path).identity)
    assert len(set(identities)) == 7


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, content: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("asif.pairs.in_memory.TemporaryFile", lambda **options: Full())
    with pytest.raises(OutOfSpace, match="No space left"):
        take([(IMAGES[0], "x")], tmp_path)


# ---- bad rows and mistakes


def test_bad_rows_are_counted_one_by_one(tmp_path: Path) -> None:
    rows: list[Any] = [
        (IMAGES[0], "a caption"),
        (None, "a caption"),
        (float("nan"), "a caption"),
        (IMAGES[0], None),
        (IMAGES[0], [" ", ""]),
        (np.zeros((4, 4, 3)), "a caption"),
        (tmp_path / "missing.png", "a caption"),
        ("https://example.org/x.png", "a caption"),
        (b"", "a caption"),
        (IMAGES[0], 7),
        7,
        (IMAGES[0],),
        (IMAGES[0], "a caption", "an id"),
    ]
    found = list(take(rows, tmp_path).read())
    assert [item.row for item in found] == list(range(len(rows)))
    reasons = {item.row: item.reason for item in found if isinstance(item, Reject)}
    assert reasons == {
        1: "image is null",
        2: "image is null",
        3: "caption is null",
        4: "caption is empty",
        5: "image cannot be used: an image is ndarray float64 (4, 4, 3)",
        6: f"image file not found: {tmp_path / 'missing.png'}",
        7: "image is a URL, not a file: https://example.org/x.png",
        8: "image is empty",
        9: "caption is of type int, not text",
        10: "row is of type int, not a pair",
        11: "row is of type tuple, not a pair",
    }


@pytest.mark.parametrize(
    ("pairs", "error", "came"),
    [
        (7, UsageError, "pairs are of type int"),
        (None, UsageError, "pairs are of type NoneType"),
        (b"...", UsageError, "pairs are of type bytes"),
        ({"train": [], "test": []}, UsageError, "pairs are a dict with train, test"),
        (["cat.jpg"], UsageError, "the first pair is of type str"),
        ([("cat.jpg",)], UsageError, "the first pair is of type tuple"),
        ([(np.zeros((4, 4, 3)), "x")], UsageError, "an image is ndarray float64 (4, 4, 3)"),
        ([{"caption": "x"}], InputRefused, "no column that looks like image"),
        (pa.table({"image": IMAGES}), InputRefused, "no column that looks like captions"),
        ([{"image_embedding": [0.1], "text_embedding": [0.1], "caption": "x"}], InputRefused, ""),
    ],
)
def test_mistakes_are_named(pairs: Any, error: type[Exception], came: str, tmp_path: Path) -> None:
    with pytest.raises(error) as caught:
        take(pairs, tmp_path)
    assert came in str(caught.value)


def test_kinds(tmp_path: Path) -> None:
    assert isinstance(take([], tmp_path), SpooledPairs) and take([], tmp_path).rows == 0
    assert isinstance(take(pa.table({"image": IMAGES[:0], "caption": CAPTIONS[:0]}), tmp_path), TablePairs)
