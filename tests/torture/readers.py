"""Processes that read while another edits, and must never be shown a half-set, nor fail (P15, P27)."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from asif.anchorset import Store
from asif.errors import AsifError, Conflict, IntegrityError
from torture.children import Child, Say, run
from torture.looking import learn, look
from torture.operations import MAIN, begin, building, draw
from torture.universe import contents, flaws

STEPS, READERS = 40, 2


def play(rng: random.Random, folder: Path, counts: Counter[str]) -> None:
    """Edit a store while others read it without a pause."""
    root, model, stop = folder / "store", begin(), folder / "stop"
    first = building(rng, model)
    run(lambda say: say(first.run(Store(root)) and None))
    model = learn(model, first, look(root, model, first))
    readers = [Child.start(lambda say: reading(say, root, stop)) for _ in range(READERS)]
    try:
        for _ in range(STEPS):
            operation = draw(rng, model)
            run(lambda say, what=operation: say(what.run(Store(root)) and None))
            seen = look(root, model, operation)
            assert not seen.halves and not seen.problems, (str(operation), seen.halves, seen.problems)
            model = learn(model, operation, seen)
            counts["edits"] += 1
    finally:
        stop.touch()
        told = [reader.end() for reader in readers]
    for each in told:
        answer: dict[str, Any] = each.answer()
        assert not answer["wrong"], answer
        counts["reads"] += answer["reads"]
        counts["reads of versions deleted meanwhile"] += answer["deleted"]
        counts["half-sets"] += len(answer["wrong"])


def reading(say: Say, root: Path, stop: Path) -> None:
    """Open the current version again and again: it is whole, or, once open, was deleted since."""
    reads, deleted, wrong = 0, 0, []
    while not stop.exists() and not wrong and os.getppid() != 1:
        store = Store(root)
        try:
            with store.open(MAIN) as opened:
                try:
                    wrong += flaws(opened)
                    assert len(contents(opened)) == opened.count
                except (Conflict, IntegrityError) as error:
                    gone = not (root / "anchors" / MAIN / "versions" / f"{opened.version}.json").exists()
                    wrong += [] if gone else [error.came]
                    deleted += gone
        except AsifError as error:
            wrong.append(f"{type(error).__name__}: {error.came}")
        wrong += [str(entry.error) for entry in store.sets() if entry.error and entry.name == MAIN]
        reads += 1
        time.sleep(0.001)
    say({"reads": reads, "deleted": deleted, "wrong": wrong})
