"""Recipe files: found by name or path, read, checked."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from asif.aligners import make_aligner
from asif.building.pair_records import CAPTIONS
from asif.building.recipe import MARKS, METHODS, Expected, HeadRecipe, PairsRecipe, Selection
from asif.building.toml_schema import Kind, advice, checked, one_of
from asif.encoders import check_spec
from asif.errors import NotFound, UsageError
from asif.pairs.columns import ROLES
from asif.vectors import Side

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(__file__).resolve().parent.parent
COMMON: dict[str, Kind] = {"name": "text", "about": "text", "licence": "text"}


def recipes() -> dict[str, Path]:
    """Find the recipes that come with asif: in the installed package, or beside it in a checkout."""
    for folder in (PACKAGE / "recipes", PACKAGE.parent / "anchors"):
        found = {path.parent.name: path for path in sorted(folder.glob("*/recipe.toml"))}
        if found:
            return found
    return {}


def find_recipe(name_or_path: str) -> HeadRecipe | PairsRecipe:
    """Read a recipe by its name, or one's own by the path of its file; a name goes before a file (write ./NAME).

    Raises NotFound where there is neither, UsageError for a file that is no recipe.
    """
    known = recipes()
    path = known.get(name_or_path) or Path(name_or_path)
    if not path.is_file():
        raise NotFound(
            f"there is no recipe and no file {name_or_path!r}",
            f"one of {', '.join(known)}, or the path of a recipe.toml",
            advice(name_or_path, known),
        )
    return read_recipe(path)


def read_recipe(path: Path) -> HeadRecipe | PairsRecipe:
    """Read a recipe of either kind; raises UsageError for anything that is unknown, missing or of another kind."""
    content = path.read_bytes()
    try:
        fields: dict[str, Any] = tomllib.loads(content.decode())
    except ValueError as error:  # of TOML and of UTF-8 alike
        raise UsageError(f"{path} cannot be read: {error}", "a recipe in TOML, in UTF-8", "correct the file") from error
    kinds = [kind for kind in ("head", "pairs") if kind in fields]
    if len(kinds) != 1:
        raise UsageError(
            f"{path} has {'both [head] and [pairs]' if kinds else 'neither [head] nor [pairs]'}",
            "one of the two: a classifier's head, or pairs that the user brings",
            "see docs/recipes.md for an example of each",
        )
    read = read_head if kinds == ["head"] else read_pairs
    return read(fields, str(path), hashlib.sha256(content).hexdigest())


def read_head(fields: dict[str, Any], where: str, sha256: str) -> HeadRecipe:
    """Read the fields of a recipe of a classifier's head."""
    top = checked(fields, where, {**COMMON, "head": "table"}, {"profiles": "table"})
    keys: dict[str, Kind] = {"encoder": "text", "text-encoder": "text", "captions": "texts"}
    head = checked(top["head"], f"[head] of {where}", keys, {})
    return HeadRecipe(
        **{key: top[key] for key in COMMON},
        encoders=encoders(head["encoder"], head["text-encoder"], where),
        captions=tuple(head["captions"]),
        profiles=top["profiles"] or {},
        sha256=sha256,
    )


def read_pairs(fields: dict[str, Any], where: str, sha256: str) -> PairsRecipe:
    """Read the fields of a recipe of pairs."""
    required: dict[str, Kind] = {**COMMON, "status": "text", "encoders": "table", "pairs": "table"}
    optional: dict[str, Kind] = {"assumed": "text", "aligner": "text", "selection": "table", "expected": "tables"}
    top = checked(fields, where, required, optional)
    specs = checked(top["encoders"], f"[encoders] of {where}", {"image": "text", "text": "text"}, {})
    within = f"[pairs] of {where}"
    keys: dict[str, Kind] = {"from": "text", "columns": "table", "captions": "text"}
    pairs = checked(top["pairs"], within, keys, {"limit": "count"})
    roles: dict[str, Kind] = {role: "text" for role in ROLES if role != "label"}
    columns = checked(pairs["columns"], f"columns in {within}", {"image": "text", "captions": "text"}, roles)
    one_of(pairs["captions"], CAPTIONS, f"{within} has captions = {pairs['captions']!r}")
    if top["aligner"] is not None:
        sound(top["aligner"], where)
    return PairsRecipe(
        **{key: top[key] for key in (*COMMON, "status", "assumed", "aligner")},
        encoders=encoders(specs["image"], specs["text"], where),
        origin=pairs["from"],
        columns={role: column for role, column in columns.items() if column is not None},
        captions=pairs["captions"],
        limit=pairs["limit"],
        selection=None if top["selection"] is None else read_selection(top["selection"], f"[selection] of {where}"),
        expected=tuple(read_expected(each, f"[[expected]] of {where}") for each in top["expected"] or ()),
        sha256=sha256,
    )


def sound(aligner: str, where: str) -> None:
    """Refuse an aligner that there is none of, or with parameters that it does not have; raises UsageError."""
    try:
        make_aligner(aligner)
    except UsageError as error:
        raise UsageError(f"in {where}, {error.came}", error.expected, error.fix) from None


def encoders(image: str, text: str, where: str) -> dict[Side, str]:
    """Return the encoders of a recipe, their names checked; nothing is loaded."""
    specs: dict[Side, str] = {"image": image, "text": text}
    for side, spec in specs.items():
        try:
            check_spec(spec, side)
        except UsageError as error:
            raise UsageError(f"in {where}, {error.came}", error.expected, error.fix) from None
    return specs


def read_selection(table: dict[str, Any], where: str) -> Selection:
    """Read how anchors are chosen."""
    found = checked(table, where, {"method": "text", "size": "count"}, {"concepts": "text"})
    one_of(found["method"], METHODS, f"{where} has method = {found['method']!r}")
    if (found["method"] == "concepts") != (found["concepts"] is not None):
        raise UsageError(
            f"{where} has method = {found['method']!r} and {'no' if found['concepts'] is None else 'a key'} concepts",
            "a key concepts for that method, and for no other",
            "say which concepts are balanced, or leave them out",
        )
    return Selection(**found)


def read_expected(table: dict[str, Any], where: str) -> Expected:
    """Read a published figure; one whose source is not known is refused."""
    keys: dict[str, Kind] = {"dataset": "text", "metric": "text", "value": "number", "source": "text", "mark": "text"}
    found = checked(table, where, keys, {})
    one_of(found["mark"], MARKS, f"{where} has mark = {found['mark']!r}")
    return Expected(**{**found, "value": float(found["value"])})
