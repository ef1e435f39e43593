"""Versions of an anchor set: their log, aliases that move under compare-and-set, and what differs between two."""

from __future__ import annotations

import itertools
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from support.anchorset_sets import ENCODERS, build, files, pairs
from support.running import Cli

from asif.anchorset import AnchorSet, Store
from asif.anchorset.format.folder import SetFolder
from asif.errors import Conflict, IntegrityError, NotFound, OutOfSpace, UsageError
from asif.vectors import Fingerprint


@pytest.fixture
def three(home: Path) -> list[AnchorSet]:
    """Make a set `toy` of three versions."""
    return [build(home, pairs(count)) for count in (6, 9, 7)]


def current(home: Path) -> str:
    return Store(home).open("toy").version


# ---- log


def test_the_log_names_versions_newest_first(home: Path, three: list[AnchorSet]) -> None:
    Store(home).alias("toy", "best", "1")
    entries = Store(home).log("toy")
    assert [entry.version for entry in entries] == [opened.version for opened in reversed(three)]
    assert [entry.count for entry in entries] == [7, 9, 6]
    assert [entry.parent for entry in entries] == [three[1].version, three[0].version, None]
    assert [entry.aliases for entry in entries] == [("current",), (), ("best",)]
    assert [entry.digest for entry in entries] == [opened.digest for opened in reversed(three)]
    assert entries[0].operation == {"kind": "build", "source": "test"}


def test_a_broken_version_does_not_hide_the_others(home: Path, three: list[AnchorSet]) -> None:
    (home / f"anchors/toy/versions/{three[1].version}.json").write_bytes(b"{}")
    entries = Store(home).log("toy")
    assert [entry.error is None for entry in entries] == [True, False, True]


# ---- aliases


def test_an_alias_moves_and_current_stays(home: Path, three: list[AnchorSet]) -> None:
    store = Store(home)
    for version, meant in (("1", 0), (three[1].version, 1), ("current", 2)):
        assert store.alias("toy", "best", version) == three[meant].version
        assert store.open("toy@best").version == three[meant].version
        assert current(home) == three[2].version
    store.verify("toy").raise_if_bad()


def test_compare_and_set(home: Path, three: list[AnchorSet]) -> None:
    store = Store(home)
    with pytest.raises(Conflict, match="'best' points at nothing"):
        store.alias("toy", "best", "1", expect="1")
    store.alias("toy", "best", "1")
    with pytest.raises(Conflict, match=f"the current version is {three[2].version}"):
        store.alias("toy", "best", "3", expect="2")
    assert store.open("toy@best").version == three[0].version
    store.alias("toy", "best", "3", expect=three[0].version)
    assert store.open("toy@best").version == three[2].version


def test_an_alias_is_taken_away_and_its_version_stays(home: Path, three: list[AnchorSet], cli: Cli) -> None:
    store = Store(home)
    store.alias("toy", "best", "1")
    with pytest.raises(Conflict, match="best"):
        store.drop_alias("toy", "best", expect="2")
    assert store.open("toy@best").version == three[0].version
    assert cli("anchors", "alias", "toy", "best", "--delete", "--expect", "1").out.startswith("toy@best was deleted")
    with pytest.raises(NotFound, match="best"):
        store.open("toy@best")
    with pytest.raises(NotFound, match="no alias"):
        store.drop_alias("toy", "best")
    with pytest.raises(UsageError, match="current"):
        store.drop_alias("toy", "current")
    assert store.open("toy").version == three[2].version and len(store.log("toy")) == 3
    for arguments in (["best"], ["best", "1", "--delete"]):
        assert cli("anchors", "alias", "toy", *arguments).code == 2


@pytest.mark.parametrize("alias", ["7", "000001-0123456789ab", "../x", "", "A"])
def test_bad_aliases_are_refused(home: Path, three: list[AnchorSet], alias: str) -> None:
    before = (home / "anchors/toy/aliases.json").read_bytes()
    with pytest.raises(UsageError):
        Store(home).alias("toy", alias, "1")
    assert (home / "anchors/toy/aliases.json").read_bytes() == before


def test_an_alias_points_only_at_what_can_be_read(home: Path, three: list[AnchorSet]) -> None:
    (home / f"anchors/toy/versions/{three[0].version}.json").write_bytes(b"{}")
    with pytest.raises(IntegrityError):
        Store(home).alias("toy", "current", "1")
    with pytest.raises(NotFound, match="has no '9'"):
        Store(home).alias("toy", "current", "9")
    with pytest.raises(UsageError, match="without @"):
        Store(home).alias("toy@1", "current", "2")
    assert current(home) == three[2].version


def test_of_many_that_expect_the_same_one_wins(home: Path, three: list[AnchorSet]) -> None:
    store = Store(home)
    store.alias("toy", "turn", "1")

    def move(at: int) -> str:
        try:
            return store.alias("toy", "turn", "2", expect="1")
        except Conflict as error:
            return error.came

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(move, range(32)))
    assert said.count(three[1].version) == 1
    assert sum(f"current version is {three[2].version}" in came for came in said) == 31


def test_aliases_moved_at_once_are_all_there(home: Path, three: list[AnchorSet]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: Store(home).alias("toy", f"a{at}", str(1 + at % 3)), range(32)))
    found = {f"a{at}": three[at % 3].version for at in range(32)}
    assert {
        name: version for entry in Store(home).log("toy") for name in entry.aliases for version in [entry.version]
    } == {
        **found,
        "current": three[2].version,
    }


# ---- versions and aliases that change while they are read


def test_an_alias_that_moves_while_it_is_read(
    home: Path, three: list[AnchorSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publish between the two looks at the disk that finding a version takes."""
    real, published = SetFolder.versions, []

    def versions(folder: SetFolder) -> list[str]:
        monkeypatch.setattr(SetFolder, "versions", real)
        found = folder.versions()
        published.append(build(home, pairs(20)).version)
        return found

    monkeypatch.setattr(SetFolder, "versions", versions)
    assert Store(home).open("toy").version in (three[2].version, *published) and published


@pytest.mark.parametrize(("ref", "late"), [("toy", "aliases"), ("toy", "manifest"), ("toy@2", "manifest")])
def test_a_version_that_is_deleted_while_it_is_opened(
    home: Path, three: list[AnchorSet], monkeypatch: pytest.MonkeyPatch, ref: str, late: str
) -> None:
    """Purge after the alias was read, or when the version that it meant is about to be opened."""
    real, gone = getattr(SetFolder, late), pairs(1)[0].id

    def read(folder: SetFolder, *which: str) -> object:
        monkeypatch.setattr(SetFolder, late, real)
        found = real(folder, *which) if late == "aliases" else None
        Store(home).purge("toy", [gone])
        return found or real(folder, *which)

    monkeypatch.setattr(SetFolder, late, read)
    if ref == "toy":
        opened = Store(home).open(ref)
        assert (opened.manifest.seq, opened.count) == (4, 6)
    else:
        with pytest.raises(NotFound, match="has no '2'"):
            Store(home).open(ref)
    assert [entry.seq for entry in Store(home).log("toy")] == [4]


def test_a_file_that_goes_while_sets_are_listed(
    home: Path, three: list[AnchorSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.lstat

    def lstat(path: str) -> os.stat_result:
        if str(path).endswith(".parquet"):
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    (entry,) = Store(home).sets()
    assert entry.error is None and entry.size > 0


# ---- rollback


def test_rollback_goes_to_the_parent_and_deletes_nothing(home: Path, three: list[AnchorSet]) -> None:
    before = set(files(home))
    assert Store(home).rollback("toy") == three[1].version == current(home)
    assert Store(home).rollback("toy") == three[0].version == current(home)
    with pytest.raises(NotFound, match="it was the first"):
        Store(home).rollback("toy")
    assert Store(home).rollback("toy", to="3") == three[2].version == current(home)
    assert set(files(home)) == before
    Store(home).verify("toy").raise_if_bad()


def test_a_parent_that_is_gone_is_not_gone_back_to(home: Path, three: list[AnchorSet]) -> None:
    (home / f"anchors/toy/versions/{three[1].version}.json").unlink()
    with pytest.raises(NotFound, match=f"the parent of {three[2].version} is {three[1].version}"):
        Store(home).rollback("toy")
    assert current(home) == three[2].version


def test_what_is_built_after_a_rollback_follows_it(home: Path, three: list[AnchorSet]) -> None:
    Store(home).rollback("toy", to="1")
    after = build(home, pairs(8))
    assert (after.manifest.seq, after.manifest.parent) == (4, three[0].version)


# ---- diff


@pytest.mark.parametrize("cut", [1, 4, 100])
def test_diff_names_pairs_by_what_was_done_to_them(home: Path, cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.anchorset.write.publish.MAX_BLOCK_ROWS", cut)
    old = sorted(pairs(12), key=lambda pair: pair.id)
    new = [replace(old[1], licence="other"), *old[2:9], *pairs(3, start=50)]
    build(home, old)
    build(home, new)
    found = Store(home).diff("toy@1", "toy@2")
    assert found.changed == (old[1].id,)
    assert found.removed == tuple(pair.id for pair in (old[0], *old[9:]))
    assert found.added == tuple(sorted(pair.id for pair in new[8:]))
    assert found.encoders == {} and found.stored == {}
    back = Store(home).diff("toy@2", "toy@1")
    assert (back.added, back.removed, back.changed) == (found.removed, found.added, found.changed)
    assert Store(home).diff("toy@1", "toy@1").added == ()


def test_diff_names_fields_of_encoders_and_how_sets_are_stored(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(home, pairs(4))
    other = replace(ENCODERS["image"], fingerprint=Fingerprint({"model": "stub-2", "mean": [0.5, 0.25], "new": 1}))
    monkeypatch.setitem(ENCODERS, "image", replace(other))
    build(home, pairs(4), name="other", dtype="float32")
    found = Store(home).diff("toy", "other")
    assert found.encoders == {"image": {"model": ("stub", "stub-2"), "new": (None, 1), "dtype": ("float32", None)}}
    assert found.stored == {"dtype": ("float16", "float32")}
    assert found.changed == found.added == found.removed == ()


# ---- the command line


def test_commands(home: Path, three: list[AnchorSet], cli: Cli) -> None:
    assert cli("anchors", "alias", "toy", "best", "1").out == f"toy@best is {three[0].version}\n"
    refused = cli("anchors", "alias", "toy", "best", "2", "--expect", "3")
    assert refused.code == 1 and f"the current version is {three[2].version}" in refused.err
    assert cli("anchors", "rollback", "toy").out == f"toy@current is {three[1].version}\n"
    assert [line["aliases"] for line in cli("anchors", "log", "toy", "--json").lines] == [[], ["current"], ["best"]]
    assert "build test" in cli("anchors", "log", "toy").out
    assert len(cli("anchors", "diff", "toy@1", "toy@2", "--json").json["added"]) == 3
    told = cli("anchors", "diff", "toy@2", "toy@1").out.splitlines()
    assert told[0] == "added: 0" and told[1].startswith("removed: 3 (") and told[2] == "changed: 0"
    assert cli("anchors", "rollback", "toy", "--to", "nine").code == 2
    assert cli("anchors", "log", "nowhere").code == 2


def test_a_full_disk_leaves_the_aliases(home: Path, three: list[AnchorSet], monkeypatch: pytest.MonkeyPatch) -> None:
    real, before = os.fsync, (home / "anchors/toy/aliases.json").read_bytes()
    for point in itertools.count(1):
        left = [point]

        def fsync(descriptor: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(28, "No space left on device")
            real(descriptor)

        root = home.parent / str(point)
        shutil.copytree(home, root)
        monkeypatch.setattr(os, "fsync", fsync)
        try:
            Store(root).rollback("toy")
            break
        except OutOfSpace:
            assert (root / "anchors/toy/aliases.json").read_bytes() == before or current(root) == three[1].version
        finally:
            monkeypatch.setattr(os, "fsync", real)
        Store(root).verify("toy").raise_if_bad()
    assert point > 1
