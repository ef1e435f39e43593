"""Readers and edits that race a purge or gc: whole versions or a Conflict, never an error about damage (P14)."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.anchorset_sets import build, pairs
from support.edited_sets import EVERY, IDS, publish

from asif.anchorset import AnchorSet, Store, find_rows
from asif.anchorset import store as store_module
from asif.anchorset.format import verify as verify_module
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.select.find import iter_ids_with_hashes
from asif.anchorset.sharing.tar_archive import write_archive
from asif.errors import Conflict, IntegrityError, NotFound
from asif.pairs.pair import Reject

FIT = {"name": "x", "parameters": {}}
READS: dict[str, Callable[[AnchorSet], Any]] = {
    "records": lambda opened: opened.records([0]),
    "ids": lambda opened: opened.ids(0),
    "pairs": lambda opened: opened.pairs(0),
    "find": lambda opened: find_rows(opened, IDS[:1]),
    "where": lambda opened: find_rows(opened, where="id != 'x'"),
    "hashes": lambda opened: list(iter_ids_with_hashes(opened)),
}


def purge_first(home: Path, name: str = IDS[0]) -> None:
    Store(home).purge("toy", [name])


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_reading_a_version_that_was_purged_is_a_conflict(read: Callable[[AnchorSet], Any], home: Path) -> None:
    publish(home)
    with Store(home).open("toy") as opened:
        purge_first(home)
        current = Store(home).resolve("toy").partition("@")[2]
        with pytest.raises(Conflict, match=f"was deleted while it was read; the current version is {current}"):
            read(opened)


def test_rejects_of_a_deleted_version_are_a_conflict(home: Path) -> None:
    opened = build(home, [*pairs(5), Reject(5, None, "image is empty")])
    build(home, pairs(6)).close()
    Store(home).gc("toy", 1)
    with pytest.raises(Conflict, match="was deleted while it was read"):
        opened.rejects()


def test_damage_is_no_conflict(home: Path) -> None:
    publish(home)
    opened = Store(home).open("toy")
    for table in (home / "anchors/toy/pairs").iterdir():
        table.unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        opened.records([0])


def test_opening_by_alias_is_repeated_and_by_version_says_what_there_is(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(home)
    real, todo = SetFolder.manifest, [IDS[0], IDS[1]]

    def manifest(self: SetFolder, version: str) -> Any:
        if todo and threading.current_thread() is threading.main_thread() and not busy:
            busy.append(version)
            purge_first(home, todo.pop(0))
            busy.clear()
        return real(self, version)

    busy: list[str] = []
    monkeypatch.setattr(SetFolder, "manifest", manifest)
    with Store(home).open("toy") as opened:
        assert (opened.count, opened.manifest.seq) == (58, 3)
    todo.append(IDS[2])
    assert [entry.error for entry in Store(home).sets()] == [None]
    todo.append(IDS[3])
    assert [entry.error for entry in Store(home).log("toy")] == []
    todo.append(IDS[4])
    with pytest.raises(NotFound, match="has no '6'"):
        Store(home).open("toy@6")


def test_an_edit_that_races_a_purge_is_a_conflict(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(home)
    real = store_module.find_rows

    def find(*args: Any) -> Any:
        purge_first(home)
        return real(*args)

    monkeypatch.setattr(store_module, "find_rows", find)
    with pytest.raises(Conflict, match="the current version is 000002"):
        Store(home).remove("toy", IDS[1:2])
    assert Store(home).open("toy").count == 59
    Store(home).verify("toy").raise_if_bad()


def test_an_export_that_races_a_purge_is_a_conflict(home: Path) -> None:
    publish(home)

    def export() -> None:
        with Store(home).pack("toy") as bundle:
            purge_first(home)
            write_archive(io.BytesIO(), bundle, lambda done: None)

    with pytest.raises(Conflict):
        export()


def test_verification_is_repeated_after_an_edit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(home)
    real, todo = verify_module._verify_once, [IDS[0], IDS[1]]

    def verify_once(folder: SetFolder, version: str | None) -> Any:
        found = real(folder, version)
        if todo:
            purge_first(home, todo.pop())
            (problem,) = (verify_module.Problem(folder.path, "a file is missing"),)
            return verify_module.VerificationReport(found.versions, (problem,), 0, 0)
        return found

    monkeypatch.setattr(verify_module, "_verify_once", verify_once)
    report = Store(home).verify("toy")
    assert (report.problems, len(report.versions)) == ((), 1)
    todo.append(IDS[2])
    with pytest.raises(Conflict):
        Store(home).verify("toy@3")


def test_files_of_an_edit_in_progress_are_no_problem(home: Path) -> None:
    publish(home)
    folder = SetFolder(home / "anchors/toy", "toy")
    with folder.locked():
        (folder.path / "blocks" / ".tmp-1-2").write_bytes(b"x")
        assert Store(home).verify("toy").problems == ()
    assert ["stray" in str(each) for each in Store(home).verify("toy").problems] == [True]


def test_a_fit_to_a_purged_version_is_not_left_behind(home: Path) -> None:
    publish(home)
    with Store(home).open("toy") as opened:
        assert opened.cache_fit(FIT, {"a": np.zeros(2)})
        assert opened.cached_fit(FIT) is not None
        purge_first(home)
        assert opened.cached_fit(FIT) is None
        assert not opened.cache_fit(FIT, {"a": np.zeros(2)})
    assert list((home / "anchors/toy/fits").iterdir()) == []
    assert Store(home).verify("toy").problems == ()


@pytest.mark.slow
def test_many_purges_edits_and_readers_at_once(home: Path) -> None:
    publish(home)
    done = threading.Event()

    def read(number: int) -> int:
        conflicts = 0
        while not done.is_set():
            try:
                store = Store(home)
                with store.open("toy") as opened:
                    assert len(opened.records(range(opened.count))) == opened.count
                assert [entry.error for entry in store.sets()] == [None]
                assert {entry.error for entry in store.log("toy")} <= {None}
                assert store.verify("toy").problems == ()
            except Conflict:
                conflicts += 1
        return conflicts

    def edit(names: list[str]) -> None:
        for name in names:
            while True:
                try:
                    if int(name, 16) % 2:
                        Store(home).purge("toy", [name])
                    else:
                        Store(home).remove("toy", [name])
                    break
                except Conflict:
                    continue

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read, number) for number in range(2)]
        writers = [pool.submit(edit, IDS[at:40:4]) for at in range(4)]
        try:
            for writer in writers:
                writer.result()
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert Store(home).open("toy").count == len(EVERY) - 40
