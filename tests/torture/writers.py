"""Many processes that edit one set, or move one alias, at the same time (P14)."""

from __future__ import annotations

import random
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

from support.build_fakes import FakeImages, FakeTexts

from asif.anchorset import Store
from asif.building import BuildOptions, build_anchor_set
from asif.errors import Conflict
from torture.children import Child, Say, run
from torture.looking import read
from torture.operations import MAIN, Known, Operation, held
from torture.universe import SIZE, record, source

WRITERS, RACES = 32, 4


def play(rng: random.Random, folder: Path, counts: Counter[str]) -> None:
    """Let 32 processes add or remove a pair each, then race for an alias."""
    numbers = rng.sample(range(SIZE), SIZE)
    there, adding, staying = numbers[:16], numbers[16:32], numbers[32:48]
    root, start = folder / "store", folder / "start"
    run(lambda say: say(laid(root, [*there, *staying], adding)))
    removers = [Child.start(lambda say, one=one: say(removing(root, start, one))) for one in there]
    adders = [Child.start(lambda say, one=one: say(putting(root, start, one))) for one in adding]
    start.touch()
    conflicts = sum(child.end().answer() for child in [*removers, *adders])
    log = run(lambda say: say(chain(root)))
    assert len(log) == 1 + WRITERS, log
    assert all(parent == before[0] for before, (_, parent, _) in pairwise(log)), log
    kinds = Counter(kind for _, _, kind in log)
    assert kinds == {"build": 1, "add": 16, "remove": 16}, kinds
    final = held([(number, 0) for number in [*adding, *staying]])
    counts.update({"edits": WRITERS, "conflicts": conflicts})
    run(lambda say: say(same(root, final, log[-1][0])))
    for race in range(RACES):
        raced(root, f"race-{race}", [version for version, _, _ in log], folder)
        counts.update({"races for an alias": 1})


def laid(root: Path, numbers: list[int], adding: list[int]) -> None:
    """Build the set, and a set of one pair for each that will be added."""
    options, how = BuildOptions(), {"kind": "build"}
    for name, some in [(MAIN, numbers), *((f"one-{number}", [number]) for number in adding)]:
        pairs = source([(number, 0) for number in some])
        build_anchor_set(pairs, Store(root), name, FakeImages(), FakeTexts(), options, how).anchors.close()


def patiently(edit: object, start: Path) -> int:
    """Wait for the start; edit, and after each conflict again. Return how many there were."""
    while not start.exists():
        time.sleep(0.001)
    conflicts = 0
    while True:
        try:
            edit()  # type: ignore[operator]
            return conflicts
        except Conflict as error:
            conflicts += "but the current version is 0" in error.came


def removing(root: Path, start: Path, number: int) -> int:
    return patiently(lambda: Store(root).remove(MAIN, [record(number, 0).id]), start)


def putting(root: Path, start: Path, number: int) -> int:
    with Store(root).open(f"one-{number}") as fresh:
        return patiently(lambda: Store(root).put(MAIN, fresh, "add"), start)


def chain(root: Path) -> list[tuple[str, str | None, str]]:
    """Return the log, oldest first: version, parent, kind of operation."""
    entries = reversed(Store(root).log(MAIN))
    return [(entry.version, entry.parent, str((entry.operation or {})["kind"])) for entry in entries]


def same(root: Path, final: dict[str, object], version: str) -> None:
    known = {MAIN: Known({version: final}, {})}  # type: ignore[dict-item]
    log = Store(root).log(MAIN)
    known[MAIN].versions |= {entry.version: {} for entry in log if entry.version != version}
    seen = read(root, known, Operation("look", MAIN, "", lambda store: None))
    wrong = [half for half in seen.halves if version in half]
    assert not wrong and not seen.problems, (wrong, seen.problems)
    assert seen.aliases[MAIN] == {"current": version}


def raced(root: Path, alias: str, versions: list[str], folder: Path) -> None:
    """Let all writers move an alias from one version, each to another: exactly one does."""
    start = folder / alias
    run(lambda say: say(Store(root).alias(MAIN, alias, versions[0])))

    def moving(say: Say, target: str) -> None:
        while not start.exists():
            time.sleep(0.001)
        try:
            say(Store(root).alias(MAIN, alias, target, expect=versions[0]))
        except Conflict:
            say(None)

    children = [Child.start(lambda say, target=target: moving(say, target)) for target in versions[1:]]
    start.touch()
    winners = [won for child in children if (won := child.end().answer()) is not None]
    assert len(winners) == 1, winners
    final = run(lambda say: say(Store(root).open(f"{MAIN}@{alias}").version))
    assert final == winners[0]
