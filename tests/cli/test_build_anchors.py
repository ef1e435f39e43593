"""`asif build-anchors`: what it refuses, and how rows become pairs and are counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.build_images import random_png
from support.pair_files import table
from support.running import Cli

from asif.anchorset import Store

REFUSED = [
    (["build-anchors", "pairs", "--name", "../../x"], 2, "the anchor set name '../../x'"),
    (["build-anchors", "pairs", "--name", "/tmp/x"], 2, "the anchor set name '/tmp/x'"),
    (["build-anchors", "pairs", "--name", "a" * 300], 2, "the anchor set name"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused(check_refused: Callable[..., None], arguments: list[str], code: int, text: str) -> None:
    check_refused(arguments, code, text)


def vectors(rows: int, of_each: int = 1) -> dict[str, Any]:
    """Return vector columns [rows, 4]; `of_each` consecutive rows have the same image."""
    numbers = np.random.default_rng(0).normal(size=(2, rows, 4))
    image = np.repeat(numbers[0, : rows // of_each], of_each, axis=0)
    return {"image_embedding": image.tolist(), "text_embedding": numbers[1].tolist()}


def test_rows_of_one_image_are_joined_and_counted(asif_build: Cli, home: Path, tmp_path: Path) -> None:
    ids, captions = [row // 5 for row in range(50)], [f"caption {row}" for row in range(50)]
    path = table(tmp_path / "a.parquet", image_id=ids, caption=captions, **vectors(50, 5))
    said = asif_build(path, "--name", "a").out
    assert "  50 in = 10 kept + 0 rejected + 40 joined (further captions of the same id and image)" in said
    found = asif_build(path, "--name", "b", "--json").json
    assert (found["rows_in"], found["anchors"], found["rejected"], found["joined"]) == (50, 10, 0, 40)
    record = Store(home).open("a").records([0])[0]
    assert (record.id, record.captions) == ("0", tuple(captions[:5]))
    every = asif_build(path, "--name", "c", "--captions", "all")
    assert "  50 in = 50 kept + 0 rejected; " in every.out
    none = asif_build(path, "--name", "d", "--column", "id=")
    assert "  50 in = 50 kept + 0 rejected; " in none.out and "not read: image_id" in none.err


@pytest.mark.parametrize("captions", [{}, {"caption": [f"{row}" for row in range(50)]}])
def test_ids_of_several_images_stop_the_build(asif_build: Cli, tmp_path: Path, captions: dict[str, Any]) -> None:
    path = table(tmp_path / "a.parquet", key=[row % 25 for row in range(50)], **captions, **vectors(50))
    ran = asif_build(path, "--name", "a")
    assert ran.code == 3 and "1 bad rows (row 25: id used by another pair)" in ran.err
    assert "--column id=" in ran.err and "sort the rows by id" in ran.err
    allowed = asif_build(path, "--name", "a", "--max-bad-rows", "25")
    assert allowed.code == 0 and "50 in = 25 kept + 25 rejected;" in allowed.out


def test_one_split_is_built(asif_build: Cli, tmp_path: Path) -> None:
    for split, rows in (("train", 6), ("test", 4)):
        table(tmp_path / "d" / "data" / f"{split}-0.parquet", **vectors(rows))
    refused = asif_build(tmp_path / "d", "--name", "a")
    assert refused.code == 3 and "holds the splits test, train" in refused.err
    assert "6 in = 6 kept + 0 rejected" in asif_build(tmp_path / "d", "--name", "a", "--split", "train").out


def test_class_folders_give_captions(asif_build: Cli, tmp_path: Path) -> None:
    (tmp_path / "d" / "bus").mkdir(parents=True)
    (tmp_path / "d" / "bus" / "0.png").write_bytes(random_png(0, 20, 20))
    arguments = tmp_path / "d", "--name", "a", "--dry-run"
    ran = asif_build(*arguments, "--captions-from", "folders", "--template", "one {}")
    assert ran.code == 0 and "class folders, whose names are captions" in ran.err and "captions: one {}" in ran.err
    assert "add --captions-from folders" in asif_build(*arguments).err
    assert asif_build(*arguments, "--template", "one {}").code == 2


def test_a_column_without_a_name_is_a_usage_error(asif_build: Cli, tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", **vectors(4))
    ran = asif_build(path, "--name", "a", "--column", "captions")
    assert ran.code == 2 and "--column captions" in ran.err
