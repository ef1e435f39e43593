"""Errors of the system while a set is written and read: always errors of the family, and true about what happened."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.anchorset_sets import build, pairs
from support.edited_sets import IDS, publish
from support.running import environment

from asif.anchorset import Store
from asif.anchorset.format.atomic_io import translate_read_errors, translate_write_errors
from asif.errors import AsifError, IntegrityError, OutOfSpace

CODES = ("EMFILE", "ENFILE", "EIO", "EXDEV", "EACCES", "ENOSPC", "ENOMEM", "ELOOP", "ESTALE")
EDITS: dict[str, Callable[[Store, int], Any]] = {
    "remove": lambda store, step: store.remove("toy", IDS[step : step + 1]),
    "purge": lambda store, step: store.purge("toy", IDS[step : step + 1]),
    "compact": lambda store, step: store.compact("toy"),
    "gc": lambda store, step: store.gc("toy", 1 + step % 2),
    "alias": lambda store, step: store.alias("toy", "best", store.log("toy")[step % 2].version),
    "build": lambda store, step: build(store.root, pairs(5 + step)),
}


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str, code: str, point: int) -> list[int]:
    """Let the call number `point` of a function of `os` fail."""
    real, left = getattr(os, name), [point]

    def failing(*args: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))
        return real(*args, **named)

    monkeypatch.setattr(os, name, failing)
    return left


@pytest.mark.parametrize("code", ["EMFILE", "EIO", "EXDEV"])
@pytest.mark.parametrize("call", ["open", "replace", "fsync"])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_no_error_of_the_system_is_raw(
    edit: Callable[[Store, int], Any], call: str, code: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in (60, 59):
        publish(home, sorted(pairs(60), key=lambda pair: pair.id)[:count]).close()
    for step, point in enumerate((1, 2, 3, 5, 8, 13)):
        with monkeypatch.context() as patch:
            left = fail_at(patch, call, code, point)
            try:
                edit(Store(home), step)
            except AsifError:
                assert left[0] <= 0
        assert all("stray" in str(problem) for problem in Store(home).verify("toy").problems)


@pytest.mark.parametrize("code", ["EIO", "ENOSPC"])
def test_an_error_after_the_rename_says_what_is_in_effect(
    code: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in (3, 4):
        build(home, pairs(count)).close()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), os.stat(home / "anchors/toy")):
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(AsifError, match=r"aliases\.json is written, and in effect, but its folder") as raised:
        Store(home).alias("toy", "current", "1")
    assert isinstance(raised.value, OutOfSpace) == (code == "ENOSPC")
    assert Store(home).open("toy").count == 3


@pytest.mark.parametrize("code", CODES)
def test_every_number_has_three_beats(code: str, tmp_path: Path) -> None:
    for translate in (lambda: translate_write_errors(tmp_path, 1), lambda: translate_read_errors(tmp_path)):
        with pytest.raises(AsifError) as raised, translate():
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))
        error = raised.value
        assert all((error.came, error.expected, error.fix)) and str(tmp_path) in error.came
    expected = {"ENOMEM": OutOfSpace, "EIO": IntegrityError}.get(code, AsifError)
    assert type(error) is expected


def test_errors_of_libraries_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no thrift"), translate_read_errors(tmp_path):
        raise OSError("no thrift")


def test_a_failing_disk_is_a_problem_and_a_full_memory_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mmap

    publish(home)
    for code, kind in ((errno.EIO, None), (errno.ENOMEM, OutOfSpace), (errno.EMFILE, AsifError)):

        def fail(*args: Any, code: int = code, **named: Any) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(mmap, "mmap", fail)
        if kind is None:
            assert os.strerror(code) in str(Store(home).verify("toy").problems[0])
        else:
            with pytest.raises(kind) as raised:
                Store(home).verify("toy")
            assert not isinstance(raised.value, IntegrityError)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as on Linux")
@pytest.mark.parametrize("megabytes", [520, 560, 600])
def test_verification_in_a_tight_memory_ends(megabytes: int, home: Path) -> None:
    from support.audit_sets import publish as publish_vectors
    from support.audit_sets import sha256

    from asif.pairs import PairRecord
    from asif.vectors import Embeddings

    random = np.random.default_rng(0)
    records = [PairRecord(f"p{at:06}", (f"caption {at}",), sha256(str(at))) for at in range(16000)]
    sides = [Embeddings.from_raw(random.standard_normal((16000, dim)) + 0.1).values for dim in (512, 384)]
    publish_vectors(home, "big", records, *sides)
    ran = subprocess.run(
        [sys.executable, "-m", "asif", "anchors", "verify", "big"],
        env=environment(OMP_NUM_THREADS="2"),
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20,) * 2),
    )
    assert ran.returncode in (0, 6), ran.stderr
    assert ("memory" in ran.stderr) == (ran.returncode == 6)
