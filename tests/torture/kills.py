"""Operations killed at random times and at random changes to the disk, by SIGKILL, then done again (P1, P27).

Each is done first on a copy of the store, uninterrupted: that tells how long it takes, how often it changes the disk,
and what it must come to. On the store itself it is killed, several times in a row now and then. After every kill
another process reads all there is: each version must be whole and what it was, or what the operation makes; aliases
must point where they did, or where the operation puts them. Done again, all must be as on the copy. Some operations are
not done again, and the next one comes upon what they left.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from asif.anchorset import Store
from asif.anchorset.format.row_hash import hash_record
from asif.pairs.records import read_records
from torture.children import Changes, Child, Say, run
from torture.looking import Seen, grave, lead, learn, look
from torture.operations import MAIN, Model, Operation, begin, draw
from torture.universe import REVISIONS, SIZE, digest_of, record

STEPS, BEFORE, POINTS = 12, 5, 40
AGAIN, ABANDONED, SPOILT = 0.35, 0.12, 0.2


@dataclass
class Untidy:
    """What operations that were not done again may have left: strays in some sets, and builds in progress."""

    strays: set[str] = field(default_factory=set)
    journals: bool = False

    def excuses(self, problem: str) -> bool:
        kind = "stray" in problem or "aliases.json is missing" in problem  # the latter of a set's first version
        return kind and any(f"/anchors/{name}/" in problem for name in self.strays)


def play(rng: random.Random, folder: Path, counts: Counter[str]) -> None:
    """Lead a store through some operations, each of which is killed."""
    root, model, untidy = folder / "store", begin(), Untidy()
    drawn = random.Random(rng.random())  # not what is drawn for kills: when a process dies is not ours alone to say
    for step in range(STEPS):
        operation = draw(drawn, model)
        twin = folder / f"twin-{step}"
        if root.exists():
            shutil.copytree(root, twin)
        told = run(lambda say, at=twin, what=operation: measured(say, at, what))
        expected = look(twin, model, operation)
        assert not expected.halves, (str(operation), expected.halves)
        last, killed = None, 0
        while killed == 0 or rng.random() < AGAIN:
            last = None
            if not kill(rng, root, operation, told):
                break  # it came to its end
            killed += 1
            counts["kills"] += 1
            counts[f"kills of {operation.kind}"] += 1
            last = look(root, model, operation)
            check_killed(model, operation, expected, last, counts)
            counts["journals spoilt"] += rng.random() < SPOILT and spoil_journal(rng, root)
        if last is not None and rng.random() < ABANDONED:
            counts["abandoned"] += 1
            model = learn(model, operation, last)
            untidy.strays.add(operation.name)
            untidy.journals = True
        else:
            run(lambda say, what=operation: say(what.run(Store(root)) and None))
            after = look(root, model, operation)
            if operation.deletes:
                untidy.strays.discard(operation.name)
            check_done(root, operation, expected, after, untidy)
            counts["done again, equal"] += killed > 0
            model = learn(model, operation, after)
        shutil.rmtree(twin)
    check_model(model)


def play_points(rng: random.Random, folder: Path, counts: Counter[str]) -> None:
    """Do one operation on copies of a store, killed at one change to the disk after another."""
    root = folder / "store"
    model, operation = lead(rng, root, 0, BEFORE, evenly=True)
    twin = Path(shutil.copytree(root, folder / "twin"))
    _, changes = run(lambda say: measured(say, twin, operation))
    expected = look(twin, model, operation)
    for point in sorted(rng.sample(range(1, changes + 1), min(POINTS, changes))):
        place = Path(shutil.copytree(root, folder / str(point)))
        if killed_at(point, place, operation):
            counts["kills"] += 1
            counts[f"kills of {operation.kind}"] += 1
            check_killed(model, operation, expected, look(place, model, operation), counts)
            run(lambda say, at=place: say(operation.run(Store(at)) and None))
            check_done(place, operation, expected, look(place, model, operation), Untidy())
            counts["done again, equal"] += 1
        shutil.rmtree(place)


def measured(say: Say, root: Path, operation: Operation) -> None:
    changes, started = Changes(), time.perf_counter()
    operation.run(Store(root))
    say([time.perf_counter() - started, changes.seen])


def kill(rng: random.Random, root: Path, operation: Operation, told: tuple[float, int]) -> bool:
    """Begin the operation and kill it; return whether it was still alive then."""
    seconds, changes = told
    if rng.random() < 0.5:
        return killed_at(rng.randint(1, max(1, changes)), root, operation)
    child = Child.start(lambda say: operation.run(Store(root)))
    return child.end(rng.uniform(0, seconds)).killed


def killed_at(point: int, root: Path, operation: Operation) -> bool:
    """Do the operation in a process that dies right after so many changes to the disk; return whether it did."""

    def work(say: Say) -> None:
        Changes(point)
        operation.run(Store(root))

    return Child.start(work).end().killed


def check_killed(model: Model, operation: Operation, expected: Seen, seen: Seen, counts: Counter[str]) -> None:
    """Hold what a reader saw after a kill to P1: no half-set, none lost, all else where it was."""
    counts["versions read after kills"] += sum(map(len, seen.versions.values()))
    counts["half-sets"] += len(seen.halves)
    assert not seen.halves, (str(operation), seen.halves)
    assert not grave(seen.problems, model), (str(operation), seen.problems)
    for name, known in model.items():
        there, after = set(seen.versions.get(name, [])), set(expected.versions.get(name, []))
        kept = after & set(known.versions) if operation.deletes and operation.name == name else set(known.versions)
        counts["sets lost"] += len(kept - there)
        assert kept <= there, (str(operation), "lost", name, kept - there)
        for alias in {*known.aliases, *seen.aliases.get(name, {})}:
            now, before = seen.aliases.get(name, {}).get(alias), known.aliases.get(alias)
            moved = operation.name == name and alias in operation.moves
            may = {before, expected.aliases.get(name, {}).get(alias)} if moved else {before}
            if operation.kind == "purge" and moved:  # several edits in one: each version of theirs in turn
                may |= there - set(known.versions)
            assert now in may, (str(operation), name, alias, before, now)


def check_done(root: Path, operation: Operation, expected: Seen, after: Seen, untidy: Untidy) -> None:
    """Hold a store in which a killed operation was done again to what the copy came to."""
    assert not after.halves, (str(operation), after.halves)
    assert after.same(expected), (str(operation), after.versions, expected.versions, after.aliases, expected.aliases)
    problems = [problem for problem in after.problems if not untidy.excuses(problem)]
    assert not problems, (str(operation), problems)
    left = [each for each in after.left if "/journal/" not in each or not untidy.journals]
    assert not [each for each in left if f"/{operation.name}/" in each], (str(operation), left)
    assert not operation.gone or not found(root, operation.gone), (str(operation), "is on disk still")


def found(root: Path, ids: tuple[str, ...]) -> list[Path]:
    """Return the files of the main set that have one of these pairs, in whatever revision."""
    return run(lambda say: say([str(path) for path in content_files(root) if holds(path, ids)]))  # type: ignore[no-any-return]


def content_files(root: Path) -> list[Path]:
    kinds = ("blocks", "pairs", "fits", "versions")
    return [path for kind in kinds for path in (root / "anchors" / MAIN / kind).glob("*")]


def holds(path: Path, ids: tuple[str, ...]) -> bool:
    data = path.read_bytes()
    if path.suffix == ".parquet":
        data += repr(read_records(path)).encode()
    every = (record(number, revision) for number in range(SIZE) for revision in range(REVISIONS))
    return any(known.id.encode() in data or hash_record(known) in data for known in every if known.id in ids)


def spoil_journal(rng: random.Random, root: Path) -> bool:
    """Change a byte of a build in progress, or cut a file of it short."""
    files = sorted(path for path in root.glob("anchors/*/journal/*/*") if path.is_file() and path.stat().st_size)
    if not files:
        return False
    path = rng.choice(files)
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    data[at] ^= rng.randint(1, 255)
    path.write_bytes(data if rng.random() < 0.7 else data[:at])
    return True


def check_model(model: Model) -> None:
    """Hold what the store ended as to the model: every version named by the digest of its pairs."""
    for name, known in model.items():
        for version, pairs in known.versions.items():
            assert version.endswith(digest_of(pairs)[:12]), (name, version)
