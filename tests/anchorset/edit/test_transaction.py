"""Edits at the same time, killed, and on a full disk."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.anchorset_kills import needs_fork, run_killed_builds
from support.edited_sets import EVERY, IDS, assert_same_set, publish

from asif.anchorset import Store
from asif.errors import Conflict, OutOfSpace


def test_only_the_current_version_is_edited(home: Path) -> None:
    publish(home)
    current = Store(home).remove("toy", IDS[:1]).version
    with pytest.raises(Conflict, match=f"but the current version is {current}"):
        Store(home).remove("toy@1", IDS[1:2])
    assert Store(home).remove("toy@2", IDS[1:2]).manifest.seq == 3


@pytest.mark.slow
def test_of_many_edits_at_once_none_is_lost(home: Path) -> None:
    publish(home)

    said: list[str] = []

    def edit(name: str) -> int:
        for conflicts in itertools.count():
            try:
                Store(home).remove("toy", [name])
                return conflicts
            except Conflict as error:
                said.append(error.came)
        raise AssertionError

    with ThreadPoolExecutor(8) as pool:
        conflicts = list(pool.map(edit, IDS[:32]))
    assert sum(conflicts) == len(said) and all("but the current version is 0000" in came for came in said)
    assert Store(home).open("toy").manifest.seq == 33
    assert_same_set(Store(home).open("toy"), publish(home / "other", EVERY[32:]))
    Store(home).verify("toy").raise_if_bad()


@pytest.mark.slow
@needs_fork
def test_an_edit_killed_at_any_change_to_the_disk_leaves_a_whole_version(tmp_path: Path) -> None:
    results = run_killed_builds(tmp_path, "edits")
    for name in ("list", "anew", "block", "add", "purge", "tune"):
        mine = [result for result in results if result["edit"] == name]
        assert [result["killed"] for result in mine] == [-9] * (len(mine) - 1) + [0] and len(mine) > 8
        old, new = mine[0]["seen"][0], mine[-1]["seen"][0]
        assert (old == new) == (name == "tune")
        for result in mine:
            assert result["seen"][0] in (old, new), result
            assert all("stray" in problem for problem in result["seen"][1:]), result
            assert (result["after"], result["left"]) == ([new], []), result
            assert result["versions"] == (1 if name == "purge" else 2), result


def test_a_full_disk_leaves_the_old_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, real = publish(home).digest, os.fsync
    new = publish(home.parent / "other", EVERY[1::2]).digest
    for point in itertools.count(1):
        left, root = [point], home.parent / str(point)
        shutil.copytree(home, root)

        def fsync(descriptor: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        try:
            Store(root).remove("toy", IDS[::2])
            break
        except OutOfSpace:
            left[0] = 0
        assert Store(root).open("toy").digest in (old, new)
        assert Store(root).remove("toy", IDS[::2], missing_ok=True).digest == new
        assert len(Store(root).log("toy")) == 2
        Store(root).verify("toy").raise_if_bad()
    assert point > 4
