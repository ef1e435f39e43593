"""Recipes of ready-made anchor sets: declarative files, built on first use."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asif.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Recipe:
    """Say how an anchor set is made from a classifier's head, and its profiles; `sha256` is that of the file."""

    name: str
    about: str
    head: str
    text_encoder: str
    captions: tuple[str, ...]
    profiles: Mapping[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    @classmethod
    def from_file(cls, path: Path) -> Recipe:
        """Read a recipe; raises UsageError for unknown or missing keys."""
        content = path.read_bytes()
        fields: dict[str, Any] = tomllib.loads(content.decode())
        head: dict[str, Any] = fields.get("head", {})
        profiles: dict[str, Any] = fields.pop("profiles", {})
        keys = {"name", "about", "licence", "head"}, {"encoder", "text-encoder", "captions"}
        if (set(fields), set(head)) != keys:
            raise UsageError(
                f"{path} has the keys {sorted(fields)} and in [head] {sorted(head)}",
                f"{sorted(keys[0])}, [profiles] if it has any, and in [head] {sorted(keys[1])}",
                "correct the recipe",
            )
        return cls(
            str(fields["name"]),
            str(fields["about"]),
            str(head["encoder"]),
            str(head["text-encoder"]),
            tuple(str(caption) for caption in head["captions"]),
            profiles,
            hashlib.sha256(content).hexdigest(),
        )


def recipes() -> dict[str, Path]:
    """Find the recipes that come with asif: in the installed package, or beside it in a checkout."""
    for folder in (PACKAGE / "recipes", PACKAGE.parent / "anchors"):
        found = {path.parent.name: path for path in sorted(folder.glob("*/recipe.toml"))}
        if found:
            return found
    return {}
