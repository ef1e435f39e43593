"""Thumbnails of anchors: from the files that a set was built from, only while these hold the same images."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support.build_fakes import write_parquet
from support.build_images import random_png
from support.engine_sets import make_precomputed
from support.pair_files import tar
from support.stand_in_encoders import replace_encoders

from asif.anchorset import AnchorSet, Store, View, open_view
from asif.encoders.images import make_webp_thumbnail
from asif.engine import build_anchors, merge_anchors, subset_anchors
from asif.engine.pair_thumbnails import PairThumbnails
from asif.pairs import open_pairs

COUNT = 30
PICTURES = [random_png(seed, 40, 300) for seed in range(COUNT)]
CAPTIONS = [f"caption {row // 2}" for row in range(COUNT)]  # two pairs each have the same


@pytest.fixture(autouse=True)
def _encoders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    replace_encoders(monkeypatch, tmp_path)


def write_table(folder: Path) -> Path:
    return write_parquet(folder / "pairs.parquet", PICTURES, CAPTIONS, id=[f"p{row}" for row in range(COUNT)])


def write_table_without_ids(folder: Path) -> Path:
    return write_parquet(folder / "pairs.parquet", PICTURES, [[text, f"{text} more"] for text in CAPTIONS])


def write_tar(folder: Path) -> Path:
    members = [(f"{row:03}.png", PICTURES[row]) for row in range(COUNT)]
    texts = [(f"{row:03}.txt", CAPTIONS[row].encode()) for row in range(COUNT)]
    return tar(folder / "pairs.tar", dict(sorted(members + texts)))


def write_folder(folder: Path) -> Path:
    lines = [json.dumps({"file_name": f"{row}.png", "caption": CAPTIONS[row]}) for row in range(COUNT)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    for row in range(COUNT):
        (folder / f"{row}.png").write_bytes(PICTURES[row])
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return write_table(tmp_path / "source")


def read_all(anchors: AnchorSet | View, home: Path) -> list[bytes | None]:
    """Read the thumbnails of all anchors, together and one by one."""
    records = anchors.records(range(anchors.count))
    thumbnails = PairThumbnails(anchors, home)
    found = thumbnails.read(records)
    alone = PairThumbnails(anchors, home)
    assert [alone.read_thumbnail(record) for record in records] == [found.get(each.image_sha256) for each in records]
    assert thumbnails.read(records) == found  # from memory
    return [found.get(record.image_sha256) for record in records]


@pytest.mark.parametrize("captions", ["mean", "first", "all"])
@pytest.mark.parametrize("write", [write_table, write_table_without_ids, write_tar, write_folder])
def test_all_pairs_have_thumbnails(tmp_path: Path, home: Path, write: Callable[[Path], Path], captions: str) -> None:
    (tmp_path / "source").mkdir()
    anchors = build_anchors(write(tmp_path / "source"), "seen", captions=captions, home=home).anchors  # type: ignore[arg-type]
    expected = {make_webp_thumbnail(picture) for picture in PICTURES}
    found = read_all(anchors, home)
    assert set(found) == expected and len(expected) == COUNT
    assert Image.open(io.BytesIO(found[0] or b"")).size == (128, 17)


def test_folders_of_classes_have_thumbnails(tmp_path: Path, home: Path) -> None:
    for row in range(COUNT):
        folder = tmp_path / "photos" / f"class {row % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.png").write_bytes(PICTURES[row])
    anchors = build_anchors(open_pairs(tmp_path / "photos", captions_from="folders"), "seen", home=home).anchors
    assert set(read_all(anchors, home)) == {make_webp_thumbnail(picture) for picture in PICTURES}


def test_an_image_that_changed_has_none(home: Path, source: Path) -> None:
    anchors = build_anchors(source, "seen", home=home).anchors
    ids = [record.id for record in anchors.records(range(COUNT))]
    changed = [random_png(1000) if row == 7 else picture for row, picture in enumerate(PICTURES)]
    write_parquet(source, changed, CAPTIONS, id=[f"p{row}" for row in range(COUNT)])
    missing = [name for name, found in zip(ids, read_all(anchors, home), strict=True) if found is None]
    assert missing == ["p7"]


def test_rows_that_moved_are_found_by_their_ids(home: Path, source: Path) -> None:
    anchors = build_anchors(source, "seen", home=home).anchors
    write_parquet(source, PICTURES[::-1], CAPTIONS[::-1], id=[f"p{row}" for row in reversed(range(COUNT))])
    assert None not in read_all(anchors, home)


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_a_source_that_is_not_there_any_more(home: Path, source: Path, damage: str) -> None:
    anchors = build_anchors(source, "seen", home=home).anchors
    records = anchors.records(range(COUNT))
    opened = PairThumbnails(anchors, home)
    assert opened.read(records[:3])
    content = source.read_bytes()
    source.unlink()
    if damage != "gone":
        source.write_bytes(content[: len(content) // 2] if damage == "cut" else b"something else")
    assert set(read_all(anchors, home)) == {None}
    assert opened.read(records[3:]) == {} and len(opened.read(records)) == 3


def test_nothing_is_opened_elsewhere(home: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anchors = build_anchors(source, "seen", home=home).anchors
    monkeypatch.setitem(anchors.manifest.operation, "source", "https://a.example/pairs.parquet")  # type: ignore[arg-type]
    monkeypatch.setattr("asif.engine.pair_thumbnails.open_pairs", lambda *_, **__: pytest.fail("opened"))
    monkeypatch.setattr(anchors.folder.__class__, "manifest", lambda *_: anchors.manifest)
    thumbnails = PairThumbnails(anchors, home)
    assert thumbnails.places == ("https://a.example/pairs.parquet",)
    assert thumbnails.read(anchors.records(range(COUNT))) == {}


def test_vectors_have_no_place_of_images(home: Path, tmp_path: Path) -> None:
    anchors = make_precomputed(tmp_path / "vectors", home)
    thumbnails = PairThumbnails(anchors, home)
    assert thumbnails.places == () and thumbnails.read(anchors.records(range(anchors.count))) == {}


def test_sets_that_were_copied_or_edited_keep_their_thumbnails(home: Path, source: Path, tmp_path: Path) -> None:
    more = write_parquet(tmp_path / "more.parquet", [random_png(500 + n) for n in range(4)], ["m"] * 4, id=list("abcd"))
    build_anchors(source, "seen", home=home).anchors.close()
    build_anchors(more, "more", home=home).anchors.close()
    store = Store(home)
    store.remove("seen", ["p3"])
    assert len(read_all(store.open("seen"), home)) == COUNT - 1 and None not in read_all(store.open("seen"), home)
    subset_anchors("seen", "some", ["p1", "p2"], home=home).close()
    assert None not in read_all(store.open("some"), home)
    merge_anchors("some", "more", "both", home=home).close()
    assert PairThumbnails(store.open("both"), home).places == (str(source), str(more))
    assert len(read_all(store.open("both"), home)) == 6 and None not in read_all(store.open("both"), home)
    assert None not in read_all(open_view([store.open("seen"), store.open("more")]), home)
    store.delete("seen")
    assert read_all(store.open("some"), home) == [None, None]


def test_only_rows_that_may_be_the_pairs_are_read(home: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anchors = build_anchors(source, "seen", home=home).anchors
    read: list[int] = []
    monkeypatch.setattr(
        "asif.engine.pair_thumbnails.read_image_bytes", lambda image: read.append(len(image)) or bytes(image)
    )
    record = next(each for each in anchors.records(range(COUNT)) if each.id == "p20")
    assert PairThumbnails(anchors, home).read_thumbnail(record) == make_webp_thumbnail(PICTURES[20])
    assert read == [len(PICTURES[20])]


def test_a_long_search_for_rows_says_what_it_does(
    home: Path, source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    anchors = build_anchors(source, "seen", home=home).anchors
    monkeypatch.setattr("asif.engine.pair_thumbnails._MANY_ROWS", COUNT)
    with caplog.at_level("INFO", "asif"):
        thumbnails = PairThumbnails(anchors, home)
        for row in range(3):
            assert thumbnails.read_thumbnail(anchors.records([row])[0]) is not None
    assert caplog.messages.count(f"looking for the images of anchors among {COUNT} rows of {source}") == 1


def test_tars_are_not_extracted(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anchors = build_anchors(write_tar(tmp_path), "seen", home=home).anchors
    read: list[str] = []
    extract = tarfile.TarFile.extractfile
    monkeypatch.setattr(
        tarfile.TarFile, "extractfile", lambda self, member: read.append(member.name) or extract(self, member)
    )
    record = next(each for each in anchors.records(range(COUNT)) if each.captions == (CAPTIONS[20],))
    assert PairThumbnails(anchors, home).read_thumbnail(record) is not None
    assert sum(name.endswith(".png") for name in read) <= 2
