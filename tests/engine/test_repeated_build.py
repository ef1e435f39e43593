"""A build that an earlier run has done is not done again, and any other is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.build_fakes import some_rows, write_parquet
from support.running import Ran

from asif.anchorset import Store
from asif.building import BuildOptions, Tolerance
from asif.engine import build as build_module
from asif.engine import build_anchors

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = some_rows(12)
    return write_parquet(tmp_path / "pairs.parquet", [row[1] for row in rows], [row[2] for row in rows])


def test_an_equal_build_is_found_before_an_encoder_is_loaded(
    pairs: Path, fakes: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_anchors(pairs, "toy")
    monkeypatch.setattr(build_module, "load_image_encoder", lambda *args: pytest.fail("an encoder was loaded"))
    again = build_anchors(pairs, "toy")
    assert (first.already_built, again.already_built, again.rows) == (False, True, 0)
    assert again.anchors.version == first.anchors.version
    Store(home).publish_profile("toy", "classify", {"aligner": "asif"}, "0")
    tuned = build_anchors(pairs, "toy")
    assert (tuned.already_built, tuned.anchors.manifest.seq) == (True, 2)


@pytest.mark.parametrize(
    "options",
    [
        BuildOptions(limit=5),
        BuildOptions(dtype="float32"),
        BuildOptions(captions="first"),
        BuildOptions(dedup="keep"),
        BuildOptions(max_bad_rows=Tolerance(0.0)),
        BuildOptions(resume=False),
    ],
)
def test_other_options_build_again(options: BuildOptions, pairs: Path, fakes: Any) -> None:
    build_anchors(pairs, "toy")
    assert not build_anchors(pairs, "toy", options=options).already_built


def test_another_input_encoder_library_or_set_builds_again(
    pairs: Path, fakes: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_built(**arguments: Any) -> bool:
        return build_anchors(pairs, "toy", **arguments).already_built

    assert [is_built(), is_built()] == [False, True]
    os.utime(pairs, (1, 1))
    assert [is_built(), is_built()] == [False, True]
    assert [is_built(image_encoder="timm:other"), is_built(image_encoder="timm:other")] == [False, True]
    assert [is_built(), is_built()] == [False, True]
    monkeypatch.setattr(build_module, "version", lambda library: "99")
    assert [is_built(), is_built()] == [False, True]
    Store(home).remove("toy", [Store(home).open("toy").ids(0)[0]])
    assert [is_built(), is_built()] == [False, True]
    assert not build_anchors(pairs, "another").already_built


def test_a_changed_image_beside_its_table_builds_again(tmp_path: Path, fakes: Any) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "metadata.csv").write_text("file_name,text\na.png,one\nb.png,two\n")
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(name.encode())
    assert [build_anchors(folder, "toy").already_built for _ in range(2)] == [False, True]
    (folder / "b.png").write_bytes(b"another image")
    found = build_anchors(folder, "toy")
    assert (found.already_built, found.anchors.manifest.seq) == (False, 2)


def test_a_damaged_set_is_not_taken_for_a_build(pairs: Path, fakes: Any, home: Path) -> None:
    built = build_anchors(pairs, "toy").anchors
    (home / "anchors/toy/versions" / f"{built.version}.json").write_text("{}")
    assert Store(home).find_build("toy", str(built.manifest.operation["plan"])) is None


@pytest.mark.usefixtures("fakes")
def test_the_command_says_so(asif_build: Callable[..., Ran], pairs: Path) -> None:
    assert "already" not in asif_build(pairs, "--name", "toy").err
    ran = asif_build(pairs, "--name", "toy")
    assert ran.code == 0 and "built already" in ran.err and ran.out.startswith("toy@1: 12 anchors")
    assert asif_build(pairs, "--name", "toy", "--json").json["already_built"] is True
    assert asif_build(pairs, "--name", "toy", "--json", "--fresh").json["already_built"] is False
