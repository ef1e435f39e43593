"""Collection files: which data sets are evaluated, where they are, and which are shifted versions of another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from asif.building.toml_schema import ValueKind, check_allowed, check_toml_table, read_toml_file
from asif.errors import NotFound, UsageError, suggest_nearest
from asif.evaluate.evaluation import Benchmark

_TASKS: tuple[Benchmark, ...] = ("zeroshot_classification", "zeroshot_retrieval")
_FOLDER = Path(__file__).resolve().parent
_ENTRY_KEYS: dict[str, ValueKind] = {"name": "text", "path": "text", "task": "text"}
_ENTRY_OPTIONS: dict[str, ValueKind] = {
    "templates": "text",
    "classnames": "text",
    "split": "text",
    "columns": "table",
    "shift-of": "text",
}


@dataclass(frozen=True)
class CollectionEntry:
    """Hold one data set: its name in results, its path, its task, and the options of `asif eval` that it needs.

    `shift_of` names the data set of which it is a shifted version.
    """

    name: str
    path: str
    task: Benchmark
    templates: str | None = None
    classnames: str | None = None
    split: str | None = None
    columns: Mapping[str, str] | None = None
    shift_of: str | None = None


@dataclass(frozen=True)
class ReferenceModel:
    """Hold accuracies of a standard model by data set, shares of 1, from which effective robustness is computed."""

    name: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Collection:
    """Hold the data sets of a collection; their paths are relative to `root`. `sha256` is that of its file."""

    name: str
    about: str
    entries: tuple[CollectionEntry, ...]
    references: tuple[ReferenceModel, ...]
    root: Path
    sha256: str

    def locate(self, path: str) -> str:
        """Return a path of an entry below the root; URLs and absolute paths are as they are."""
        return path if "://" in path else str(self.root / path)

    def is_missing(self, entry: CollectionEntry) -> bool:
        """Tell whether the path of an entry does not exist; URLs are taken to exist."""
        return "://" not in entry.path and not Path(self.locate(entry.path)).exists()


def list_collections() -> dict[str, Path]:
    """Return the collections that come with asif {name: path}."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}


def find_collection(name_or_path: str, root: Path | None = None) -> Collection:
    """Read a collection by its name or by the path of its file; a name wins over a file (write ./NAME for the file).

    Paths are relative to `root`, by default the folder of the file; for a collection that comes with asif, the working
    directory. Raises NotFound if there is neither, UsageError for a file that is no collection.
    """
    known = list_collections()
    path = known.get(name_or_path) or Path(name_or_path)
    if not path.is_file():
        raise NotFound(
            f"there is no collection and no file {name_or_path!r}",
            f"one of {', '.join(known)}, or the path of a TOML file",
            suggest_nearest(name_or_path, known),
        )
    return read_collection(path, root or (Path() if name_or_path in known else path.parent))


def read_collection(path: Path, root: Path) -> Collection:
    """Read a collection file; raises UsageError for anything that is unknown, missing or of another kind."""
    fields, content = read_toml_file(path, "a collection")
    required: dict[str, ValueKind] = {"name": "text", "about": "text", "datasets": "tables"}
    top = check_toml_table(fields, str(path), required, {"references": "tables"})
    entries = tuple(_read_entry(each, f"[[datasets]] of {path}") for each in top["datasets"])
    if not entries:
        raise UsageError(f"{path} has no [[datasets]]", "one table or more", "add the first data set")
    names = [entry.name for entry in entries]
    for at, entry in enumerate(entries):
        if entry.name in names[:at]:
            raise UsageError(f"{path} has the data set {entry.name!r} twice", "distinct names", "rename one")
        if entry.shift_of is not None:
            came = f"[[datasets]] of {path} has shift-of = {entry.shift_of!r}"
            check_allowed(entry.shift_of, [name for name in names if name != entry.name], came)
    references = tuple(_read_reference(each, f"[[references]] of {path}", names) for each in top["references"] or ())
    return Collection(top["name"], top["about"], entries, references, root, hashlib.sha256(content).hexdigest())


def _read_entry(table: dict[str, Any], where: str) -> CollectionEntry:
    """Read one data set."""
    found = check_toml_table(table, where, _ENTRY_KEYS, _ENTRY_OPTIONS)
    check_allowed(found["task"], _TASKS, f"{where} has task = {found['task']!r}")
    retrieval = [key for key in ("templates", "classnames") if found[key]]
    if found["task"] == "zeroshot_retrieval" and retrieval:
        raise UsageError(
            f"{where} has {retrieval[0]} for {found['name']}, a retrieval", "captions as they are", "leave it out"
        )
    columns = None if found["columns"] is None else {str(role): str(name) for role, name in found["columns"].items()}
    task, shift_of = cast("Benchmark", found.pop("task")), found.pop("shift-of")
    return CollectionEntry(**{**found, "columns": columns}, task=task, shift_of=shift_of)


def _read_reference(table: dict[str, Any], where: str, names: list[str]) -> ReferenceModel:
    """Read a standard model's accuracies; raises UsageError for other data sets, and for what is no share."""
    found = check_toml_table(table, where, {"name": "text", "figures": "table"}, {})
    for name, figure in found["figures"].items():
        check_allowed(name, names, f"{where} has a figure of {name!r}")
        if type(figure) not in (int, float) or not 0 <= figure <= 1:
            raise UsageError(f"{where} has {name} = {figure!r}", "a share from 0 to 1", f"correct {name}")
    return ReferenceModel(found["name"], {name: float(figure) for name, figure in found["figures"].items()})
