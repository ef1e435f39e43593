"""Kill builds at every point where the disk changes, and at random times; run by test_anchorset_crash.py.

Runs as a program of its own so that it can fork children cheaply: `anchorset_crash.py FOLDER points|times`.
Prints one JSON object per killed build: where it died, what was readable then, and what running it again gave.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet  # noqa: F401  loaded once, before forking
from support.anchorset_sets import build, fill, finish, pairs

from asif.anchorset import Store
from asif.anchorset.edit import insert, row_ranges
from asif.anchorset.sharing.tar_archive import TarSource, write_archive
from asif.anchorset.write import publish
from asif.errors import AsifError, NotFound
from asif.pairs.pair import Reject

ITEMS: list[Any] = [*pairs(23), Reject(23, None, "image is null"), *pairs(2)]
SEGMENT = 14
PLAN = {"dtype": "float16", "rows": len(ITEMS)}
CHANGES = ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync")


def in_child(work: Callable[[int], None]) -> tuple[int, list[str]]:
    """Run work in a forked child; return its exit status and the lines it wrote before it ended."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        status = 1
        try:
            work(write)
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with open(read) as lines:
        said = lines.read().splitlines()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def die_at(point: int) -> None:
    """Die by SIGKILL right after the point-th change to the disk in this process."""
    seen = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            mine = seen  # mkdir with parents calls itself, and fails before it succeeds
            try:
                return change(*args, **kwargs)
            finally:
                if mine == point:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))


def full_build(root: Path, say: int, pause: float = 0.0) -> None:
    with Store(root).journal("toy", PLAN) as journal:
        os.write(say, b"resumed at %d\n" % journal.next_row)
        while journal.next_row < len(ITEMS):
            fill(journal, ITEMS[: journal.next_row + SEGMENT], SEGMENT)
            os.write(say, b"kept up to %d\n" % journal.next_row)
            time.sleep(pause)
        opened = finish(journal)
    os.write(say, f"published {opened.version} {opened.digest}\n".encode())


def state(root: Path) -> list[str]:
    """Return what a reader sees, and what verify finds."""
    try:
        opened = Store(root).open("toy")
        opened.records(range(opened.count))
    except AsifError as error:
        return [type(error).__name__]
    return [opened.digest, *map(str, Store(root).verify("toy").problems)]


def resume(root: Path, killed: int, said: list[str]) -> None:
    """Print what a killed build left, and what running it again gave."""

    def look_and_resume(say: int) -> None:
        seen = state(root)
        full_build(root, say)
        os.write(say, json.dumps({"seen": seen, "after": state(root)}).encode())

    status, answers = in_child(look_and_resume)
    left = [str(path.relative_to(root)) for path in root.rglob("*") if ".tmp-" in path.name or "journal" in path.name]
    known = json.loads(answers.pop()) if status == 0 else {}
    result = {"killed": killed, "said": said, "again": status, "answers": answers, "left": left, **known}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()  # a forked child must not write it again


def old_version(root: Path) -> Path:
    """Make a store that holds an older version of the same set."""
    model = root.parent / "model"
    if not model.exists():
        in_child(lambda say: build(model, pairs(3)).close())
    shutil.copytree(model, root)
    return root


def points(folder: Path) -> None:
    for point in itertools.count(1):
        root = old_version(folder / str(point))

        def work(say: int, root: Path = root, point: int = point) -> None:
            die_at(point)
            full_build(root, say)

        killed, said = in_child(work)
        resume(root, killed, said)
        if killed == 0:
            break


def times(folder: Path) -> None:
    rng = random.Random(7)
    for trial in range(4):
        root = old_version(folder / str(trial))
        for _ in range(3):
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(read)
                full_build(root, write, pause=0.01)
                os._exit(0)
            os.close(write)
            time.sleep(rng.uniform(0.0, 0.12))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            with open(read) as lines:
                said = lines.read().splitlines()
        resume(root, -9, said)


def edits(folder: Path) -> None:
    """Kill edits: a short deletion list, one so long that the block is written anew, a whole block, and the others."""
    publish.MAX_BLOCK_ROWS = row_ranges.MAX_BLOCK_ROWS = insert.MAX_BLOCK_ROWS = 40
    insert.PAIRS_PER_RANGE = 2
    ids = sorted(pair.id for pair in pairs(80))
    model = folder / "model"
    in_child(lambda say: build(model, pairs(80)).close())
    in_child(lambda say: build(folder / "fresh", pairs(7, start=200)).close())
    some: dict[str, Callable[[Store], Any]] = {
        "list": lambda store: store.remove("toy", ids[3:5]),
        "anew": lambda store: store.remove("toy", ids[0:40:2]),
        "block": lambda store: store.remove("toy", ids[:40]),
        "add": lambda store: store.put("toy", Store(folder / "fresh").open("toy"), "add"),
        "purge": lambda store: store.purge("toy", [ids[3], ids[60]]),
        "tune": lambda store: store.publish_profile("toy", "classify", {"aligner": "asif"}, "0.0.test"),
    }
    for name, edit in some.items():
        for point in itertools.count(1):
            root = folder / f"{name}-{point}"
            shutil.copytree(model, root)

            def work(say: int, root: Path = root, point: int = point, edit: Callable[[Store], Any] = edit) -> None:
                die_at(point)
                edit(Store(root))

            def look_and_redo(say: int, root: Path = root, edit: Callable[[Store], Any] = edit) -> None:
                seen = state(root)
                with suppress(NotFound):  # done already
                    edit(Store(root))
                versions = len(Store(root).log("toy"))
                os.write(say, json.dumps({"seen": seen, "after": state(root), "versions": versions}).encode())

            killed, _ = in_child(work)
            again, answers = in_child(look_and_redo)
            left = [str(path.relative_to(root)) for path in root.rglob(".tmp-*")]
            known = json.loads(answers.pop()) if again == 0 else {}
            result = {"edit": name, "killed": killed, "again": again, "left": left, **known}
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()
            if killed == 0:
                break


def imports(folder: Path) -> None:
    """Kill imports of an archive: as a new set, and as the next version of one; then do them again."""

    def pack(say: int) -> None:
        build(folder / "source", pairs(23)).close()
        with Store(folder / "source").pack("toy") as bundle, open(folder / "toy.tar", "xb") as out:
            write_archive(out, bundle, lambda done: None)

    def receive(root: Path) -> None:
        with open(folder / "toy.tar", "rb") as file:
            Store(root).receive(TarSource(file, "toy.tar"), "toy")

    in_child(pack)
    for kind in ("new", "version"):
        for point in itertools.count(1, 4):
            root = folder / f"{kind}-{point}"
            if kind == "version":
                in_child(lambda say, root=root: build(root, pairs(3)).close())  # type: ignore[misc]

            def work(say: int, root: Path = root, point: int = point) -> None:
                die_at(point)
                receive(root)

            def look_and_redo(say: int, root: Path = root) -> None:
                seen = state(root)
                receive(root)
                os.write(say, json.dumps({"seen": seen, "after": state(root)}).encode())

            killed, _ = in_child(work)
            again, answers = in_child(look_and_redo)
            incoming = root / "anchors/.incoming"
            left = [str(path) for path in incoming.rglob("*") if path.name != ".lock"]
            left += [str(path) for path in root.rglob(".tmp-*")]
            known = json.loads(answers.pop()) if again == 0 else {}
            result = {"import": kind, "killed": killed, "again": again, "left": left, **known}
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()
            if killed == 0:
                break


if __name__ == "__main__":
    {"points": points, "times": times, "edits": edits, "imports": imports}[sys.argv[2]](Path(sys.argv[1]))
