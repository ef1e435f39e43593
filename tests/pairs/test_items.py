"""What a gallery is made from: folders, globs, lists of files, tables without captions, lines of text."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asif.errors import InputRefused, UsageError
from asif.pairs import Pair, PairSource, open_pairs
from asif.pairs.item import make_file_uri, name_path
from asif.pairs.items import open_items
from asif.pairs.location import parse_place


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b.jpg", "cat/1.png", "cat/more/2.png", "dog/3.jpg", "notes.txt", ".hidden/4.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "photos"


def read(source: PairSource) -> list[tuple[str | None, str | None]]:
    """Return id and label of each row."""
    pairs = [item for item in source.read() if isinstance(item, Pair)]
    assert len(pairs) == source.rows and [pair.row for pair in pairs] == list(range(len(pairs)))
    assert [pair for pair in source.read(1) if isinstance(pair, Pair)] == pairs[1:]
    return [(pair.id, pair.label) for pair in pairs]


def test_a_folder(photos: Path) -> None:
    source = open_items([photos])
    assert read(source) == [("b.jpg", None), ("cat/1.png", "cat"), ("cat/more/2.png", "cat"), ("dog/3.jpg", "dog")]
    assert source.unused == ("2 files (.txt: 1, hidden folder: 1)",) and source.bytes == 5 + 9 + 14 + 9


def test_globs_lists_and_overlaps(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = read(open_items([photos]))
    for sources in (["photos/**/*"], ["photos/*"], ["photos/b.jpg", "photos/*/*", "photos/cat/1.png"]):
        monkeypatch.chdir(photos.parent)
        assert sorted(read(open_items(sources))) == sorted(everything)
    assert read(open_items(["photos/cat/*.png"])) == [("1.png", None)]
    assert read(open_items([photos / "dog/3.jpg"])) == [("3.jpg", None)]
    with pytest.raises(UsageError, match="matches none"):
        open_items(["photos/b.jpg", "photos/*.gif"])
    with pytest.raises(InputRefused, match="holds no image, but 1 other"):
        open_items(["photos/*.txt"])
    with pytest.raises(UsageError, match="does not exist"):
        open_items(["photos/none.jpg"])


def test_the_identity_changes_with_a_file(photos: Path) -> None:
    before = open_items([photos]).identity
    assert open_items([photos]).identity == before
    (photos / "b.jpg").write_bytes(b"other content")
    assert open_items([photos]).identity != before


def test_shards(tmp_path: Path) -> None:
    for number in (10, 2):
        pq.write_table(
            pa.table({"image": [b"a", b"b"], "id": [f"{number}a", f"{number}b"]}), tmp_path / f"p-{number}.parquet"
        )
    source = open_items([f"{tmp_path}/p-*.parquet"])
    assert [name for name, _ in read(source)] == ["2a", "2b", "10a", "10b"]
    assert source.locate_row(3) == (tmp_path / "p-10.parquet", 1)


def test_tables_need_no_captions_here(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"image": [b"a", b"b"], "label": [1.0, float("nan")]}), path)
    assert read(open_items([path])) == [(None, "1"), (None, None)]
    with pytest.raises(InputRefused, match="looks like captions"):
        open_pairs(path)
    with pytest.raises(InputRefused, match="looks like captions"):
        open_items([path], "text")
    with pytest.raises(UsageError, match="has no column 'none'"):
        open_items([path], columns={"image": "none"})


def test_texts(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes("\ufeffone\r\n\n \ntwo\n".encode() + b"caf\xe9\n")
    source = open_items([tmp_path / "t.txt"], "text")
    items = list(source.read())
    assert source.rows == 3 and [item.captions for item in items if isinstance(item, Pair)] == [("one",), ("two",)]
    assert not isinstance(items[2], Pair) and items[2].reason == "caption is not valid UTF-8"
    (tmp_path / "t.csv").write_text("id,text\nx,one\ny,two\n")
    assert [name for name, _ in read(open_items([tmp_path / "t.csv"], "text"))] == ["x", "y"]
    with pytest.raises(InputRefused, match="one text a line") as error:
        open_items([tmp_path], "text")
    assert "holds no file that is known here" in error.value.came


def test_names_that_are_not_utf8() -> None:
    path = Path(os.fsdecode(b"/tmp/a b/caf\xe9%.jpg"))
    assert name_path(path) == "/tmp/a b/caf%E9%25.jpg" and name_path(Path("/tmp/é%.jpg")) == "/tmp/é%.jpg"
    assert parse_place(make_file_uri(path)) == path
    assert make_file_uri(Path("/tmp/é%.jpg")) == "/tmp/é%.jpg"
