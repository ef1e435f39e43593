"""What can be done to a store, drawn at random, and what each must come to: the model that stores are held to."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from support.build_fakes import FakeImages, FakeTexts

from asif.anchorset import Store, find_rows
from asif.building import BuildOptions, Tolerance, build_anchor_set
from asif.building.add_pairs import encode_and_add
from asif.building.copy_rows import publish_rows
from asif.building.merge import merge_sets
from asif.version import VERSION
from torture.universe import REVISIONS, SIZE, Chosen, Pairs, embeddings, name_of, record, source

MAIN, PART, BOTH = "main", "part", "both"


@dataclass
class Known:
    """What is known of one set: the pairs of each version, and where its aliases point."""

    versions: dict[str, Pairs] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def current(self) -> Pairs:
        return self.versions[self.aliases["current"]] if "current" in self.aliases else {}


Model = dict[str, Known]


@dataclass(frozen=True)
class Operation:
    """One thing done to the set `name`: `run` does it, and can be done again; `pairs` are then in its current version.

    `pairs` None says that none of its versions is new, `moves` which aliases may move, `deletes` whether versions may
    go; `gone` are ids that no file of the set may have then.
    """

    kind: str
    name: str
    said: str
    run: Callable[[Store], Any]
    pairs: Pairs | None = None
    moves: frozenset[str] = frozenset(["current"])
    deletes: bool = False
    gone: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.said}"


def draw(rng: random.Random, model: Model, evenly: bool = False) -> Operation:
    """Draw what is done next: what users do often is drawn often, or all kinds are evenly."""
    while True:
        (kind,) = rng.choices(list(KINDS), None if evenly else list(KINDS.values()))
        operation = kind(rng, model) if model[MAIN].current else building(rng, model)
        if operation is not None:
            return operation


def some(rng: random.Random, low: int, high: int) -> list[Chosen]:
    numbers = rng.sample(range(SIZE), rng.randint(low, high))
    return [(number, rng.randrange(REVISIONS)) for number in numbers]


def held(pairs: Sequence[Chosen]) -> dict[str, Any]:
    return {record(*pair).id: record(*pair) for pair in pairs}


def building(rng: random.Random, model: Model) -> Operation:
    pairs, rejected = some(rng, 1, 70), rng.choice([0, 0, 1])

    def run(store: Store) -> None:
        options = BuildOptions(max_bad_rows=Tolerance(number=1))
        build_anchor_set(source(pairs, rejected), store, MAIN, FakeImages(), FakeTexts(), options, {"kind": "build"})

    return Operation("build", MAIN, f"{len(pairs)} pairs", run, held(pairs))


def put(kind: Any, pairs: Sequence[Chosen], current: Pairs) -> Operation:
    def run(store: Store) -> None:
        tolerance, given = Tolerance(number=1), source(pairs)
        encode_and_add(
            given, store, MAIN, kind, FakeImages(), FakeTexts(), BuildOptions(max_bad_rows=tolerance), lambda rows: None
        )

    return Operation(kind, MAIN, f"{len(pairs)} pairs", run, {**current, **held(pairs)})


def adding(rng: random.Random, model: Model) -> Operation | None:
    current = model[MAIN].current
    pairs = [pair for pair in some(rng, 1, 30) if name_of(pair[0]) not in current]
    return put("add", pairs, current) if pairs else None


def updating(rng: random.Random, model: Model) -> Operation | None:
    current = model[MAIN].current
    pairs = [pair for pair in some(rng, 1, 40) if name_of(pair[0]) in current]
    return put("update", pairs, current) if pairs else None


def fewer(rng: random.Random, current: Pairs) -> list[str]:
    """Draw ids, of which some may not be there, that leave one pair at least."""
    there = sorted(current)
    gone = rng.sample(there, min(len(there) - 1, rng.choice([1, 2, 5, 20, 40])))
    return [*gone, name_of(rng.randrange(SIZE))] if rng.random() < 0.3 and len(there) > len(gone) + 1 else gone


def removing(rng: random.Random, model: Model) -> Operation | None:
    current = model[MAIN].current
    gone = fewer(rng, current)
    left = {one: known for one, known in current.items() if one not in gone}
    if not gone:
        return None
    return Operation(
        "remove", MAIN, f"{len(gone)} pairs", lambda store: store.remove(MAIN, gone, missing_ok=True), left
    )


def purging(rng: random.Random, model: Model) -> Operation | None:
    current = model[MAIN].current
    gone = fewer(rng, current)
    left = {one: known for one, known in current.items() if one not in gone}
    if not gone:
        return None

    others = sorted(set(model[MAIN].aliases) - {"current"})

    def run(store: Store) -> None:
        if others:  # one on a version that is to go would be refused
            store.remove(MAIN, gone, missing_ok=True)
            store.compact(MAIN)
        for alias in others:
            store.alias(MAIN, alias, "current")
        store.purge(MAIN, gone, missing_ok=True)

    return Operation("purge", MAIN, f"{len(gone)} pairs", run, left, frozenset(["current", *others]), True, tuple(gone))


def compacting(rng: random.Random, model: Model) -> Operation:
    return Operation("compact", MAIN, "", lambda store: store.compact(MAIN), model[MAIN].current)


def collecting(rng: random.Random, model: Model) -> Operation:
    name, keep = rng.choice([name for name, known in model.items() if known.current]), rng.randint(1, 4)
    return Operation("gc", name, f"keep {keep}", lambda store: store.gc(name, keep), deletes=True)


def pointing(rng: random.Random, model: Model) -> Operation:
    version = rng.choice(sorted(model[MAIN].versions))
    alias = rng.choice(["best", "shown", "current"])
    return Operation(
        "alias", MAIN, f"{alias} {version}", lambda store: store.alias(MAIN, alias, version), moves=frozenset([alias])
    )


def going_back(rng: random.Random, model: Model) -> Operation:
    version = rng.choice(sorted(model[MAIN].versions))
    return Operation("rollback", MAIN, version, lambda store: store.rollback(MAIN, version))


def profiling(rng: random.Random, model: Model) -> Operation:
    profile = {"aligner": "asif", "k": rng.randrange(100)}

    def run(store: Store) -> None:
        store.publish_profile(MAIN, "classify", profile, VERSION)

    return Operation("tune", MAIN, str(profile["k"]), run, model[MAIN].current)


def choosing(rng: random.Random, model: Model) -> Operation:
    current = model[MAIN].current
    ids = rng.sample(sorted(current), rng.randint(1, len(current)))

    def run(store: Store) -> None:
        with store.open(MAIN) as anchors:
            rows = find_rows(anchors, ids)
            publish_rows([(anchors, rows)], store, PART, {"kind": "subset", "pairs": len(rows)})

    return Operation("subset", PART, f"{len(ids)} pairs", run, {one: current[one] for one in ids})


def merging(rng: random.Random, model: Model) -> Operation | None:
    first, second = model[MAIN].current, model[PART].current
    if not second:
        return None

    def run(store: Store) -> None:
        with store.open(MAIN) as one, store.open(PART) as other:
            merge_sets((one, other), store, BOTH, "first")

    return Operation("merge", BOTH, "", run, {**second, **first})


KINDS: dict[Callable[[random.Random, Model], Operation | None], int] = {
    building: 3,
    adding: 3,
    updating: 2,
    removing: 4,
    purging: 2,
    compacting: 2,
    collecting: 3,
    pointing: 3,
    going_back: 2,
    profiling: 1,
    choosing: 1,
    merging: 1,
}
"""What can be done, and how often it is."""


def begin() -> Model:
    """Return what is known of an empty store."""
    return {name: Known() for name in (MAIN, PART, BOTH)}


def prepare() -> None:
    """Load what children need, and let segments and blocks be short, so that few pairs make many, and pieces."""
    import filelock  # noqa: F401
    import numpy.ma  # noqa: F401
    import pyarrow.dataset  # noqa: F401

    import asif.building.build
    import asif.building.copy_rows
    from asif.anchorset.edit import insert, row_ranges
    from asif.anchorset.write import publish

    asif.building.build.SEGMENT_ROWS = asif.building.copy_rows.COPY_SEGMENT_ROWS = 16
    publish.MAX_BLOCK_ROWS = row_ranges.MAX_BLOCK_ROWS = insert.MAX_BLOCK_ROWS = 24
    insert.PAIRS_PER_RANGE = 4
    embeddings()
