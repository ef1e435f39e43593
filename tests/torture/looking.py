"""What a reader sees of a store, held against what is known of it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from asif.anchorset import Store
from asif.errors import AsifError
from torture.children import run
from torture.operations import Known, Model, Operation, begin, draw
from torture.universe import Pairs, contents, flaws


@dataclass
class Seen:
    """What a reader saw: versions and aliases of each set, what is wrong with a version, what `verify` says."""

    versions: dict[str, list[str]] = field(default_factory=dict)
    aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    halves: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def same(self, other: Seen) -> bool:
        """Tell whether two stores have the same versions, and aliases on the same ones."""
        return (self.versions, self.aliases) == (other.versions, other.aliases)


def look(root: Path, model: Model, operation: Operation) -> Seen:
    """Read all of a store in a process of its own."""
    return Seen(**run(lambda say: say(asdict(read(root, model, operation)))))


def read(root: Path, model: Model, operation: Operation) -> Seen:
    """Open every version and alias of every set; one that was not known must be what the operation makes."""
    seen, store = Seen(), Store(root)
    for name, known in model.items():
        if not (root / "anchors" / name / "versions").is_dir():
            continue
        new = operation.pairs if operation.name == name else None
        try:
            entries = store.log(name)
        except AsifError as error:
            seen.halves.append(f"{name}: {error.came}")
            continue
        seen.versions[name] = sorted(entry.version for entry in entries)
        seen.aliases[name] = {alias: entry.version for entry in entries for alias in entry.aliases}
        for entry in entries:
            seen.halves += whole(store, f"{name}@{entry.version}", known.versions.get(entry.version, new))
        for alias, version in seen.aliases[name].items():
            if store.open(f"{name}@{alias}").version != version:
                seen.halves.append(f"{name}@{alias} is another version than the log says")
        seen.problems += map(str, store.verify(name).problems)
    left = [path for path in root.rglob("*") if ".tmp-" in path.name or path.parent.name == "journal"]
    seen.left = sorted(str(path.relative_to(root)) for path in left)
    return seen


def grave(problems: list[str], model: Model) -> list[str]:
    """Return the problems that nothing excuses: neither strays, nor missing aliases of a set that had none yet."""
    new = [f"/{name}/aliases.json is missing" for name, known in model.items() if not known.aliases]
    return [problem for problem in problems if not any(excuse in problem for excuse in ("stray", *new))]


def whole(store: Store, ref: str, expected: Pairs | None) -> list[str]:
    """Say in what a version is not whole, or not what it should be."""
    if expected is None:
        return [f"{ref} should not be there"]
    try:
        with store.open(ref) as opened:
            wrong = flaws(opened)
            if contents(opened) != expected:
                now = contents(opened)
                odd = {one for one in {**now, **expected} if now.get(one) != expected.get(one)}
                wrong.append(f"{ref} differs from what it should be in {len(odd)} pairs: {sorted(odd)[:3]}")
            return wrong
    except AsifError as error:
        return [f"{ref}: {type(error).__name__}: {error.came}"]


def learn(model: Model, operation: Operation, seen: Seen) -> Model:
    """Return what is known after an operation."""
    learnt: Model = {}
    for name, known in model.items():
        new = operation.pairs if operation.name == name else None
        versions: Mapping[str, Any] = {
            version: known.versions.get(version, new) for version in seen.versions.get(name, [])
        }
        learnt[name] = Known(dict(versions), seen.aliases.get(name, {}))
    return learnt


def lead(rng: random.Random, root: Path, least: int, most: int, evenly: bool = False) -> tuple[Model, Operation]:
    """Lead a store through so many operations; return what is known of it then, and what is next."""
    model = begin()
    for _ in range(rng.randint(least, most)):
        operation = draw(rng, model)
        run(lambda say, what=operation: say(what.run(Store(root)) and None))
        model = learn(model, operation, look(root, model, operation))
    root.mkdir(exist_ok=True)
    return model, draw(rng, model, evenly)
