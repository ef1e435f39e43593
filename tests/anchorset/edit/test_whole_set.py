"""Deleting and renaming whole sets, and stores that cannot be read or written."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from support.anchorset_files import read_file_states
from support.anchorset_sets import build, files, pairs
from support.edited_sets import IDS, assert_same_set, publish
from support.running import Cli

from asif.anchorset import Store
from asif.anchorset.edit import whole_set
from asif.errors import AsifError, Busy, IntegrityError, NotFound, UsageError

FIT = {"name": "x", "parameters": {}}


@pytest.fixture
def toy(home: Path) -> Store:
    publish(home).close()
    Store(home).remove("toy", IDS[:3])
    Store(home).alias("toy", "best", "1")
    with Store(home).open("toy") as opened:
        opened.cache_fit(FIT, {"a": np.arange(3.0)})
    build(home, pairs(4), name="other").close()
    return Store(home)


def test_a_renamed_set_is_the_same_set(toy: Store, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(toy.root, tmp_path / "copy")
    old = Store(tmp_path / "copy")
    toy.rename("toy", "new")
    with pytest.raises(NotFound, match="one of: new, other"):
        toy.open("toy")
    for ref in ("", "@1", "@best"):
        with toy.open(f"new{ref}") as found, old.open(f"toy{ref}") as expected:
            assert_same_set(found, expected)
            assert (found.name, found.version) == ("new", expected.version)
            assert found.manifest.operation == expected.manifest.operation
    with toy.open("new") as opened:
        fit = opened.cached_fit(FIT)
        assert fit is not None and fit["a"].tolist() == [0, 1, 2]
    assert [(entry.seq, entry.aliases) for entry in toy.log("new")] == [(2, ("current",)), (1, ("best",))]
    toy.verify("new").raise_if_bad()
    assert sorted(path.name for path in (toy.root / "anchors").iterdir()) == [".lock", "new", "other"]
    assert toy.remove("new", IDS[3:4]).ref == "new@3"


def test_a_rename_that_is_refused_changes_nothing(toy: Store) -> None:
    before = read_file_states(toy.root / "anchors/toy/versions")
    for new, why in (("other", "already"), ("../x", "the anchor set name"), ("toy", "already")):
        with pytest.raises(UsageError, match=why):
            toy.rename("toy", new)
    with pytest.raises(NotFound):
        toy.rename("nothing", "new")
    toy.journal("toy", {"dtype": "float16", "input": "other"}).close()
    with pytest.raises(UsageError, match="has an unfinished build"):
        toy.rename("toy", "new")
    assert read_file_states(toy.root / "anchors/toy/versions") == before
    manifest = files(toy.root / "anchors/other/versions")[0]
    manifest.write_bytes(manifest.read_bytes()[:-9])
    with pytest.raises(IntegrityError):
        toy.rename("other", "new")
    assert sorted(path.name for path in (toy.root / "anchors").iterdir()) == [".lock", "other", "toy"]


@pytest.mark.parametrize("point", range(1, 8))
def test_a_rename_that_fails_leaves_the_set_under_a_name(
    point: int, toy: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.rename, [point]
    digest = toy.open("toy").digest

    def fail(*names: Path) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(5, "Input/output error")
        real(*names)

    monkeypatch.setattr(os, "rename", fail)
    try:
        toy.rename("toy", "new")
    except AsifError as error:
        assert point <= 2 and "Input/output error" in str(error)  # noqa: PT017
    found = {entry.name for entry in toy.sets() if entry.error is None} - {"other"}
    assert found == ({"toy"}, {"toy", "new"}, {"new"})[min(point, 3) - 1]
    assert {toy.open(name).digest for name in found} == {digest}


def test_a_set_is_deleted_unless_it_is_used(toy: Store) -> None:
    with pytest.raises(UsageError, match="the alias 'best' points at a version"):
        toy.delete("toy")
    toy.drop_alias("toy", "best")
    with toy.journal("toy", {"dtype": "float16", "input": "other"}), pytest.raises(Busy, match="a build of 'toy' is"):
        toy.delete("toy")
    opened = toy.open("toy")
    deleted = toy.delete("toy")
    assert (deleted.name, len(deleted.versions)) == ("toy", 2) and deleted.bytes > 10_000
    assert [entry.name for entry in toy.sets()] == ["other"]
    assert len(opened.blocks("image")) > 0
    with pytest.raises(AsifError, match="was deleted while it was read; the current version is none"):
        opened.records([0])
    with pytest.raises(NotFound):
        toy.delete("toy")
    with pytest.raises(UsageError):
        toy.delete(str(toy.root / "anchors/other"))


def test_a_broken_set_is_deleted_and_leftovers_are_removed(toy: Store) -> None:
    (toy.root / "anchors/toy/aliases.json").write_text("{}")
    (toy.root / "anchors/.tmp-1-2").mkdir()
    toy.delete("toy")
    assert sorted(path.name for path in (toy.root / "anchors").iterdir()) == [".lock", "other"]


def test_two_deletions_take_turns(toy: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.drop_alias("toy", "best")
    monkeypatch.setattr(whole_set, "WAIT_SECONDS", 0.05)
    with whole_set._whole_set(toy._find("other")[0]), pytest.raises(Busy, match="is deleted or renamed now"):
        toy.delete("toy")
    workers = [threading.Thread(target=toy.delete, args=[name]) for name in ("toy", "other")]
    monkeypatch.undo()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert toy.sets() == []


def test_commands(toy: Store, cli: Cli) -> None:
    assert "toy is now new@000002" in cli("anchors", "rename", "toy", "new").out
    ran = cli("anchors", "delete", "other")
    assert (ran.code, "pass --yes" in ran.err) == (2, True)
    assert cli("anchors", "delete", "new", "--yes").code == 2
    assert cli("anchors", "alias", "new", "best", "--delete").code == 0
    assert len(cli("anchors", "delete", "new", "--yes", "--json").json["versions"]) == 2
    assert cli("anchors", "list", "--json").lines[0]["name"] == "other"


@pytest.mark.parametrize("place", ["", "anchors"])
def test_a_store_that_is_no_folder_is_an_error(place: str, home: Path, cli: Cli, tmp_path: Path) -> None:
    if place:
        home.mkdir()
    (home / place).write_text("x")
    store = Store(home)
    for use in (store.sets, lambda: store.open("toy"), store.check_writable, lambda: build(home, pairs(3))):
        with pytest.raises(AsifError, match=f"cannot (read|write) {home / place}") as raised:
            use()
        assert "none yet" not in str(raised.value)
    ran = cli("anchors", "list")
    assert ran.code in (1, 2) and "no anchor sets yet" not in ran.err + ran.out
    (tmp_path / "pairs").mkdir()
    ran = cli("build-anchors", tmp_path / "pairs", "--name", "toy")
    assert ran.code in (1, 2) and (not place or "cannot read" in ran.err or "cannot write" in ran.err)
