"""Folders: which files are images, and how the others are counted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
from PIL import Image
from support.damaged_pairs import split
from support.labelled_files import benchmark
from support.pair_files import hugging_face_folder, tar_folder

from asif.cli.classify import expand
from asif.errors import InputRefused, UsageError
from asif.pairs import open_captioned, open_labelled, open_pairs
from asif.pairs.image_files import IMAGE_SUFFIXES, classify_file, summarise_unread, walk_images


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A class folder in which three of twelve files are images."""
    folder = tmp_path / "data" / "cat"
    for name in ("a.JPG", "b.jfif", "c.ds", "d.txt", "._a.JPG", ".h.png", "e", "sub/f.Png", ".cache/g.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "linked").symlink_to("sub", target_is_directory=True)
    os.mkfifo(folder / "pipe.jpg")
    return tmp_path / "data"


def test_files_that_are_not_read_are_counted_by_every_command(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = open_labelled(mixed).source
    assert [file.relative_to(mixed).as_posix() for file in source.files] == ["cat/a.JPG", "cat/b.jfif", "cat/sub/f.Png"]
    kinds = {kind for _, kind in walk_images(mixed)}
    assert kinds == {
        *(None, ".ds", ".txt", "._*", "hidden", "hidden folder", "no suffix"),
        *("dangling link", "linked folder", "special file"),
    }
    (unread,) = source.unused
    assert unread.startswith("9 files (") and unread in source.describe()
    assert sorted(Path(path).name for path in expand([str(mixed)])) == ["a.JPG", "b.jfif", "f.Png"]
    assert capsys.readouterr().err == f"{mixed}: not read: {unread}\n"
    with pytest.raises(InputRefused, match=r"holds no file that is known here but 1 file \(folder: 1\)"):
        open_pairs(mixed)


def test_folders_elsewhere_are_read_alike(stores: None) -> None:
    memory: Any = fsspec.filesystem("memory")
    for name in ("cat/a.JPG", "cat/b.txt", "cat/._a.JPG", "cat/.cache/g.png", "cat/sub/f.png", "e.png"):
        memory.pipe(f"/photos/{name}", b"x")
    source = open_labelled("memory://photos").source
    assert [file.name for file in source.files] == ["a.JPG", "f.png"]
    assert source.unused == ("e.png", "3 files (._*: 1, .txt: 1, hidden folder: 1)")


def test_a_file_that_is_named_is_always_tried(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = [str(mixed / "cat" / name) for name in ("e", "._a.JPG", "d.txt")]
    assert list(expand(named)) == named
    assert capsys.readouterr().err == ""
    assert list(expand([f"{mixed}/cat/[de]*"])) == [str(mixed / "cat/d.txt"), str(mixed / "cat/e")]


def test_a_glob_says_what_is_no_file(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(expand([f"{mixed}/cat/*"]))) == 5
    assert capsys.readouterr().err.endswith("not read: 4 paths (folder: 2, link or special file: 2)\n")


def test_a_folder_without_an_image(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "e").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"holds no image, but 1 file \(no suffix: 1\)"):
        list(expand([str(tmp_path / "cat")]))
    for folder in (tmp_path, tmp_path / "cat"):
        with pytest.raises(InputRefused, match=r"but 1 file \(no suffix: 1\)"):
            open_labelled(folder)


def test_files_outside_of_class_folders(mixed: Path) -> None:
    for name in ("loose.png", "labels.csv", "_skipped/a.png", "__MACOSX/._a.png"):
        (mixed / name).parent.mkdir(exist_ok=True)
        (mixed / name).write_bytes(b"x")
    loose, unread = open_labelled(mixed).source.unused
    assert loose == "loose.png"
    assert unread.startswith("12 files (folder that begins with . or _: 2, ")


def test_every_suffix_of_the_formats_that_are_read() -> None:
    Image.init()
    read = {suffix[1:] for suffix, form in Image.EXTENSION.items() if form in (*FORMATS, "MPO", "AVIF")}
    assert read <= set(IMAGE_SUFFIXES)
    assert not {suffix for suffix in IMAGE_SUFFIXES if suffix[:2] not in ("av", "he", "hi")} - read


FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


def test_suffixes_without_a_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: set[str] = set()
    monkeypatch.setattr("asif.pairs.image_files._is_installed", lambda name: name in installed)
    assert classify_file("a.HEIC") == ".heic (pip install 'asif-engine[heif]')"
    assert classify_file("a.avif") == ".avif (pip install -U pillow)"
    installed |= {"PIL._avif", "pillow_heif"}
    assert classify_file("a.HEIC") is classify_file("a.avif") is None


def test_summaries_are_bounded() -> None:
    (text,) = summarise_unread(f".{number}" for number in range(1000))
    assert text.startswith("1,000 files (.0: 1, ") and text.endswith(", …)") and len(text) < 100
    assert classify_file("a." + "x" * 200) == "another suffix"


@pytest.mark.parametrize("make", [tar_folder, hugging_face_folder])
def test_files_next_to_shards(make: Any, tmp_path: Path) -> None:
    make(tmp_path)
    before = open_pairs(tmp_path).unused
    for name in ("00000_stats.json", "a.jpg", "b.tar.gz", "README.md"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "c.tar").symlink_to("nowhere.tar")
    statistics = make is hugging_face_folder  # next to a tar they are img2dataset's
    counted = (
        "5 files (.gz: 1, .jpg: 1, .json: 1, .md: 1, .tar: 1)"
        if statistics
        else ("4 files (.gz: 1, .jpg: 1, .md: 1, .tar: 1)")
    )
    assert open_pairs(tmp_path).unused == (*before, counted)
    assert counted in open_pairs(tmp_path).describe()


def test_suffixes_of_shards_ignore_case(tmp_path: Path) -> None:
    tar_folder(tmp_path)
    (tmp_path / "00001.tar").rename(tmp_path / "00001.TAR")
    assert open_pairs(tmp_path).rows == 2
    assert open_pairs(tmp_path / "00001.TAR").rows == 1


def test_tars_beyond_the_number_of_shards(tmp_path: Path) -> None:
    path = benchmark(tmp_path / "a", shards="1", classnames="cat\ndog\n")
    assert open_labelled(path).source.unused == ("1 file (beyond nshards.txt: 1)",)
    path = benchmark(tmp_path / "b", "retrieval", shards="1")
    assert open_captioned(path).unused == ("1 file (beyond nshards.txt: 1)",)


def test_files_that_no_row_names(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("a.jpg", "b.JPG", "c.png", "in/d.jpg", "in/deep/e.jpg", "in/f.txt", ".hidden/g.jpg", "h.heix"):
        (tmp_path / name).write_bytes(b"x")
    named = ["a.jpg", "./in/d.jpg", f"{tmp_path}/c.png", ".hidden/g.jpg", "h.heix"]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,text", *(f"{name},x" for name in named)]))
    source = open_pairs(tmp_path)
    assert len(split(tmp_path)[0]) == 5
    assert source.describe().splitlines()[-1] == "  not read: 3 files (image that no row names: 2, .txt: 1)"
    assert "not read" not in open_pairs(tmp_path / "metadata.csv").describe()
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "in/d.jpg", "text": "x"}')
    (tmp_path / "metadata.csv").unlink()
    assert "8 files (image that no row names: 4, " not in open_pairs(tmp_path).describe()
    assert "image that no row names: 4" in open_pairs(tmp_path).describe()


def test_tables_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    contents = {"CSV": "file_name,text\na.jpg,x", "TSV": "file_name\ttext\na.jpg\tx"}
    for suffix, content in {**contents, "JSONL": '{"file_name": "a.jpg", "text": "x"}'}.items():
        table = tmp_path / f"Metadata.{suffix}"
        table.write_text(content)
        assert open_pairs(table).rows == open_pairs(tmp_path).rows == 1
        table.unlink()
    hugging_face_folder(tmp_path / "shards")
    for file in list((tmp_path / "shards").rglob("*.parquet")):
        file.rename(file.with_suffix(".PARQUET"))
    assert open_pairs(tmp_path / "shards").rows == 2
