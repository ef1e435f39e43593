"""Operations on a disk that is full after ever more bytes, or files: a small tmpfs, really mounted (P2).

The disk is given a page, or a file, more each time, until the operation fits. Until then it must end with OutOfSpace
and the bytes it needs, leave every version and alias as it was, and no temporary file. With room it must then go on to
what it comes to without a fault.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from asif.anchorset import Store
from asif.encoders.text_cache import TextCache
from asif.errors import AsifError, OutOfSpace
from torture.children import Say, run
from torture.looking import Seen, grave, lead, look
from torture.operations import Model, Operation

BEFORE, MOST = 3, 60
SIZE, PAGE = 64 << 20, 4096


def play(rng: random.Random, folder: Path, counts: Counter[str]) -> None:
    """Do one operation on disks that are too small for it, one after another."""
    root = folder / "store"
    model, operation = lead(rng, root, 0, BEFORE, evenly=True)
    before = Seen({name: sorted(known.versions) for name, known in model.items() if known.versions},
                  {name: known.aliases for name, known in model.items() if known.versions})  # fmt: skip
    twin = Path(shutil.copytree(root, folder / "twin"))
    run(lambda say: say(operation.run(Store(twin)) and None))
    expected = look(twin, model, operation)
    files = rng.random() < 0.3
    with mounted(folder / "disk") as disk:
        for room in range(MOST):
            place = Path(shutil.copytree(root, disk / "store"))
            leave(disk, room, files)
            said = run(lambda say, at=place: attempted(say, at, operation))
            counts["disks"] += 1
            if said is not None:
                counts["full"] += 1
                counts[f"full in {operation.kind}"] += 1
                check_full(place, model, operation, said, before, expected)
            leave(disk, None, files)
            run(lambda say, at=place: say(operation.run(Store(at)) and None))
            after = look(place, model, operation)
            assert not after.halves and after.same(expected), (str(operation), after, expected)
            shutil.rmtree(place)
            if said is None:
                break
        assert operation.kind != "gc" or not room, "gc needs room"
        cache(rng, disk, counts)


def attempted(say: Say, root: Path, operation: Operation) -> None:
    try:
        operation.run(Store(root))
        say(None)
    except AsifError as error:
        say([type(error).__name__, error.exit_code, error.came])


def check_full(root: Path, model: Model, operation: Operation, said: list[Any], before: Seen, expected: Seen) -> None:
    """Hold what a full disk left to P2."""
    assert said[:2] == [OutOfSpace.__name__, 6] and "bytes needed" in said[2], (str(operation), said)
    seen = look(root, model, operation)
    assert not seen.halves, (str(operation), seen.halves)
    assert not grave(seen.problems, model), (str(operation), seen.problems)
    temporaries = [left for left in seen.left if ".tmp-" in left and (root / left).is_file()]
    assert not temporaries, (str(operation), temporaries)
    for name, versions in before.versions.items():
        kept = set(versions) if not operation.deletes else set(versions) & set(expected.versions[name])
        assert kept <= set(seen.versions[name]), (str(operation), name, seen.versions)
        if operation.kind != "purge":  # several edits in one
            moved = seen.aliases[name] in (before.aliases[name], expected.aliases[name])
            assert moved, (str(operation), name, seen.aliases)


def cache(rng: random.Random, disk: Path, counts: Counter[str]) -> None:
    """Fill the disk below a cache of texts: it forgets, and never errs."""
    leave(disk, rng.randrange(1, 12), False)
    run(lambda say: say(cached(disk / "cache" / "texts.sqlite")))
    counts["full below a cache"] += 1
    leave(disk, None, False)
    kept = run(lambda say: say(cached(disk / "cache" / "texts.sqlite")))
    assert kept == 40, kept


def cached(path: Path) -> int:
    """Keep forty vectors, five at a time; return how many come back, each as it was."""
    texts = {f"text {at}": np.eye(64, dtype=np.float32)[at] for at in range(40)}
    for start in range(0, 40, 5):
        TextCache(path).put("print", dict(list(texts.items())[start : start + 5]))
    found = TextCache(path).get("print", list(texts), 64)
    assert all((vector == texts[text]).all() for text, vector in found.items())
    return len(found)


@contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """Mount a small disk."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def leave(disk: Path, room: int | None, files: bool) -> None:
    """Leave room for so many pages on a disk, or for so many files; None for plenty."""
    found = os.statvfs(disk)
    size = SIZE if room is None or files else (found.f_blocks - found.f_bfree) * found.f_frsize + room * PAGE
    inodes = 1 << 14 if room is None or not files else found.f_files - found.f_ffree + room
    size = max(size, PAGE)  # 0 would mean no limit
    subprocess.run(["mount", "-o", f"remount,size={size},nr_inodes={inodes}", str(disk)], check=True)


def can_mount() -> bool:
    """Tell whether this process may mount a tmpfs."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0
