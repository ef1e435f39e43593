"""Splits of one data set: one is chosen, several are refused, in every command that reads pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.damaged_pairs import refusal
from support.pair_files import EMBEDDED, files, table, tar

from asif.errors import InputRefused, UsageError
from asif.pairs import Pair, open_captioned, open_labelled, open_pairs


def shards(path: Path) -> None:
    for split in ("train", "test"):
        table(path / f"data/{split}-00000-of-00001.parquet", image=EMBEDDED, text=[f"{split} {row}" for row in "ab"])


def suffixed_shards(path: Path) -> None:
    for split in ("train", "test"):
        table(path / f"flickr_{split}.parquet", image=EMBEDDED, text=[f"{split} {row}" for row in "ab"])


def split_folders(path: Path) -> None:
    for split in ("train", "test"):
        table(path / split / "0.parquet", image=EMBEDDED, text=[f"{split} {row}" for row in "ab"])


def data_folders(path: Path) -> None:
    split_folders(path / "data")


def tars(path: Path) -> None:
    path.mkdir()
    for split in ("train", "test"):
        members = {"0.jpg": b"x", "0.txt": f"{split} a".encode(), "1.jpg": b"y", "1.txt": f"{split} b".encode()}
        tar(path / f"{split}-0.tar", members)


def metadata_folders(path: Path) -> None:
    for split in ("train", "test"):
        files(path / split, a=b"x")
        (path / split / "metadata.csv").write_text(f"file_name,text\na.jpg,{split} a\na.jpg,{split} b\n")


@pytest.mark.parametrize("make", [shards, suffixed_shards, split_folders, data_folders, tars, metadata_folders])
def test_one_split_of_several_is_read(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "d")
    for opened in (open_pairs, open_captioned):
        with pytest.raises(InputRefused, match="holds the splits test, train") as caught:
            opened(tmp_path / "d")
        assert "--split train" in caught.value.fix
        for split in ("train", "test"):
            pairs = opened(tmp_path / "d", split=split).read()
            assert [pair.captions for pair in pairs if isinstance(pair, Pair)] == [(f"{split} a",), (f"{split} b",)]
        with pytest.raises(UsageError, match="the split 'dev'"):
            opened(tmp_path / "d", split="dev")


def test_names_of_one_split_are_one(tmp_path: Path) -> None:
    for name in ("val-0", "validation-1", "train-0"):
        table(tmp_path / f"{name}.parquet", image=EMBEDDED, text=["a", "b"])
    assert open_pairs(tmp_path, split="valid").rows == 4
    (tmp_path / "train-0.parquet").unlink()
    assert open_pairs(tmp_path).rows == 4


def test_a_file_and_a_folder_without_splits_have_none_to_choose(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", image=EMBEDDED, text=["a", "b"])
    for place in (path, tmp_path):
        with pytest.raises(UsageError, match="the split 'train'"):
            open_pairs(place, split="train")
    named = table(tmp_path / "train.parquet", image=EMBEDDED, text=["a", "b"])
    assert open_pairs(named, split="train").rows == 2


def test_a_class_named_like_a_split_is_a_class(tmp_path: Path) -> None:
    for name in ("train", "bus"):
        files(tmp_path / name, a=b"x")
    assert open_labelled(tmp_path).classes == ("bus", "train")


@pytest.mark.parametrize(("template", "caption"), [(None, "a photo of a fire truck."), ("{} here", "fire truck here")])
def test_class_folders_are_pairs(template: str | None, caption: str, tmp_path: Path) -> None:
    for split in ("train", "test"):
        files(tmp_path / split / "fire_truck", a=b"x", b=b"y")
        files(tmp_path / split / "bus", c=split.encode())
    source = open_pairs(tmp_path, captions_from="folders", template=template, split="test")
    pairs = [pair for pair in source.read() if isinstance(pair, Pair)]
    assert [(pair.id, pair.label) for pair in pairs] == [
        (f"{name}.jpg", None) for name in ("bus/c", "fire_truck/a", "fire_truck/b")
    ]
    assert pairs[1].captions == pairs[2].captions == (caption,)
    assert source.rows == 3 and [pair.row for pair in source.read(2)] == [2]
    assert source.identity != open_pairs(tmp_path, captions_from="folders", template="a {}", split="test").identity


def test_what_makes_no_captions_is_refused(tmp_path: Path) -> None:
    files(tmp_path / "d" / "bus", a=b"x")
    with pytest.raises(UsageError, match=r"has no \{\}"):
        open_pairs(tmp_path / "d", captions_from="folders", template="bus")
    with pytest.raises(UsageError, match="without captions from folders"):
        open_pairs(tmp_path / "d", template="a {}")
    path = table(tmp_path / "a.parquet", image=EMBEDDED, text=["a", "b"], label=["c", "d"])
    with pytest.raises(InputRefused, match="is no folder of class folders"):
        open_pairs(path, captions_from="folders")
    assert "--captions-from folders" in refusal(tmp_path / "d")[1].fix
