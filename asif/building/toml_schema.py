"""Check TOML tables against a schema: no unknown keys, none missing, every value of its kind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from asif.errors import UsageError, suggest_nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ValueKind = Literal["text", "texts", "count", "number", "table", "tables"]
_KINDS: dict[ValueKind, tuple[str, Callable[[Any], bool]]] = {
    "text": ("a text", lambda value: isinstance(value, str) and bool(value.strip())),
    "texts": (
        "a list of texts",
        lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    ),
    "count": ("a whole number from 1", lambda value: type(value) is int and value >= 1),
    "number": ("a number", lambda value: type(value) in (int, float) and abs(value) < float("inf")),
    "table": ("a table", lambda value: isinstance(value, dict)),
    "tables": ("a list of tables", lambda value: isinstance(value, list) and all(isinstance(e, dict) for e in value)),
}
"""The kinds of value: a name for error messages, and a predicate."""


def read_toml_file(path: Path, what: str) -> tuple[dict[str, Any], bytes]:
    """Return the fields of a TOML file, and its bytes; raises UsageError, naming `what` it is, for other content."""
    content = path.read_bytes()
    try:
        return tomllib.loads(content.decode()), content
    except ValueError as error:  # invalid TOML or invalid UTF-8
        raise UsageError(f"{path} cannot be read: {error}", f"{what} in TOML, in UTF-8", "correct the file") from error


def check_toml_table(
    table: Mapping[str, Any], where: str, required: Mapping[str, ValueKind], optional: Mapping[str, ValueKind]
) -> dict[str, Any]:
    """Return the table, with None for optional keys that are absent.

    Raises UsageError, naming `where` and what is allowed, for an unknown or missing key or a value of another kind.

    >>> check_toml_table({"size": 3}, "[selection] of a.toml", {"size": "count"}, {"concepts": "text"})
    {'size': 3, 'concepts': None}
    """
    kinds = {**required, **optional}
    for key, value in table.items():
        check_allowed(key, kinds, f"{where} has the key {key!r}")
        label, is_valid = _KINDS[kinds[key]]
        if not is_valid(value):
            raise UsageError(f"{where} has {key} = {value!r}", f"{label} for {key}", f"correct {key}")
    missing = [key for key in required if key not in table]
    if missing:
        raise UsageError(
            f"{where} has no {' and no '.join(missing)}",
            f"the keys {', '.join(required)}" + (f"; it may have {', '.join(optional)}" if optional else ""),
            f"add {', '.join(missing)}",
        )
    return {key: table.get(key) for key in kinds}


def check_allowed(value: str, allowed: Collection[str], came: str) -> str:
    """Return `value` if it is allowed; otherwise raise UsageError that suggests the nearest allowed one.

    >>> check_allowed("captoins", ["captions", "columns"], "a.toml has the key 'captoins'")
    Traceback (most recent call last):
    asif.errors.UsageError: a.toml has the key 'captoins'
      expected: one of captions, columns
      to do:    write captions, if you meant that
    """
    if value in allowed:
        return value
    raise UsageError(came, f"one of {', '.join(allowed)}", suggest_nearest(value, allowed))
