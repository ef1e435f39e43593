"""Recipe files: found by name or path, read, checked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from asif.aligners import make_aligner
from asif.building.pair_records import CAPTION_MODES
from asif.building.recipe import (
    SELECTION_METHODS,
    SOURCE_MARKS,
    HeadRecipe,
    PairsRecipe,
    PublishedFigure,
    RecipeSelection,
)
from asif.building.toml_schema import ValueKind, check_allowed, check_toml_table, read_toml_file
from asif.encoders import check_spec
from asif.errors import NotFound, UsageError, suggest_nearest
from asif.pairs.columns import ROLES
from asif.vectors import Side

_PACKAGE = Path(__file__).resolve().parent.parent
_COMMON_KEYS: dict[str, ValueKind] = {"name": "text", "about": "text", "licence": "text"}


def list_recipes() -> dict[str, Path]:
    """Return the recipes that come with asif {name: path}: in the installed package, or in a checkout."""
    for folder in (_PACKAGE / "recipes", _PACKAGE.parent / "anchors"):
        found = {path.parent.name: path for path in sorted(folder.glob("*/recipe.toml"))}
        if found:
            return found
    return {}


def find_recipe(name_or_path: str) -> HeadRecipe | PairsRecipe:
    """Read a recipe by its name or by the path of its file; a name wins over a file (write ./NAME for the file).

    Raises NotFound if there is neither, UsageError for a file that is no recipe.
    """
    known = list_recipes()
    path = known.get(name_or_path) or Path(name_or_path)
    if not path.is_file():
        raise NotFound(
            f"there is no recipe and no file {name_or_path!r}",
            f"one of {', '.join(known)}, or the path of a recipe.toml",
            suggest_nearest(name_or_path, known),
        )
    return read_recipe(path)


def read_recipe(path: Path) -> HeadRecipe | PairsRecipe:
    """Read a recipe of either kind; raises UsageError for anything that is unknown, missing or of another kind."""
    fields, content = read_toml_file(path, "a recipe")
    kinds = [kind for kind in ("head", "pairs") if kind in fields]
    if len(kinds) != 1:
        raise UsageError(
            f"{path} has {'both [head] and [pairs]' if kinds else 'neither [head] nor [pairs]'}",
            "one of the two: a classifier's head, or pairs that the user brings",
            "see docs/recipes.md for an example of each",
        )
    read = _read_head_recipe if kinds == ["head"] else _read_pairs_recipe
    return read(fields, str(path), hashlib.sha256(content).hexdigest())


def _read_head_recipe(fields: dict[str, Any], where: str, sha256: str) -> HeadRecipe:
    """Read the fields of a recipe of a classifier's head."""
    top = check_toml_table(fields, where, {**_COMMON_KEYS, "head": "table"}, {"profiles": "table"})
    keys: dict[str, ValueKind] = {"encoder": "text", "text-encoder": "text", "captions": "texts"}
    head = check_toml_table(top["head"], f"[head] of {where}", keys, {})
    return HeadRecipe(
        **{key: top[key] for key in _COMMON_KEYS},
        encoders=_check_encoders(head["encoder"], head["text-encoder"], where),
        captions=tuple(head["captions"]),
        profiles=top["profiles"] or {},
        sha256=sha256,
    )


def _read_pairs_recipe(fields: dict[str, Any], where: str, sha256: str) -> PairsRecipe:
    """Read the fields of a recipe of pairs."""
    required: dict[str, ValueKind] = {**_COMMON_KEYS, "status": "text", "encoders": "table", "pairs": "table"}
    optional: dict[str, ValueKind] = {"assumed": "text", "aligner": "text", "selection": "table", "expected": "tables"}
    top = check_toml_table(fields, where, required, optional)
    specs = check_toml_table(top["encoders"], f"[encoders] of {where}", {"image": "text", "text": "text"}, {})
    within = f"[pairs] of {where}"
    keys: dict[str, ValueKind] = {"from": "text", "columns": "table", "captions": "text"}
    pairs = check_toml_table(top["pairs"], within, keys, {"limit": "count"})
    roles: dict[str, ValueKind] = {role: "text" for role in ROLES if role != "label"}
    columns = check_toml_table(pairs["columns"], f"columns in {within}", {"image": "text", "captions": "text"}, roles)
    check_allowed(pairs["captions"], CAPTION_MODES, f"{within} has captions = {pairs['captions']!r}")
    if top["aligner"] is not None:
        _check_aligner(top["aligner"], where)
    return PairsRecipe(
        **{key: top[key] for key in (*_COMMON_KEYS, "status", "assumed", "aligner")},
        encoders=_check_encoders(specs["image"], specs["text"], where),
        origin=pairs["from"],
        columns={role: column for role, column in columns.items() if column is not None},
        captions=pairs["captions"],
        limit=pairs["limit"],
        selection=None if top["selection"] is None else _read_selection(top["selection"], f"[selection] of {where}"),
        expected=tuple(_read_figure(each, f"[[expected]] of {where}") for each in top["expected"] or ()),
        sha256=sha256,
    )


def _check_aligner(aligner: str, where: str) -> None:
    """Raise UsageError for an unknown aligner or unknown parameters."""
    try:
        make_aligner(aligner)
    except UsageError as error:
        raise UsageError(f"in {where}, {error.came}", error.expected, error.fix) from None


def _check_encoders(image: str, text: str, where: str) -> dict[Side, str]:
    """Return the encoders of a recipe after checking their names; loads nothing."""
    specs: dict[Side, str] = {"image": image, "text": text}
    for side, spec in specs.items():
        try:
            check_spec(spec, side)
        except UsageError as error:
            raise UsageError(f"in {where}, {error.came}", error.expected, error.fix) from None
    return specs


def _read_selection(table: dict[str, Any], where: str) -> RecipeSelection:
    """Read the [selection] table."""
    found = check_toml_table(table, where, {"method": "text", "size": "count"}, {"concepts": "text"})
    check_allowed(found["method"], SELECTION_METHODS, f"{where} has method = {found['method']!r}")
    if (found["method"] in ("concepts", "concept-lists")) != (found["concepts"] is not None):
        raise UsageError(
            f"{where} has method = {found['method']!r} and {'no' if found['concepts'] is None else 'a key'} concepts",
            "a key concepts for that method, and for no other",
            "set concepts, or remove the key",
        )
    return RecipeSelection(**found)


def _read_figure(table: dict[str, Any], where: str) -> PublishedFigure:
    """Read a published figure; raises UsageError if its source is missing."""
    keys: dict[str, ValueKind] = {
        "dataset": "text",
        "metric": "text",
        "value": "number",
        "source": "text",
        "mark": "text",
    }
    found = check_toml_table(table, where, keys, {})
    check_allowed(found["mark"], SOURCE_MARKS, f"{where} has mark = {found['mark']!r}")
    return PublishedFigure(**{**found, "value": float(found["value"])})
