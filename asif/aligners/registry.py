"""Aligners by name: one name with parameters, or a weighted sum of several."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from typing import Any

from asif.aligners.fused import Fused, FusedMember
from asif.aligners.lexical import LexicalCca
from asif.aligners.linear import cca, procrustes, ridge
from asif.aligners.protocol import Aligner
from asif.aligners.relative import Relative, asif_paper
from asif.errors import UsageError, suggest_nearest

_CONSTRUCTORS: dict[str, tuple[Callable[..., Aligner], tuple[str, ...]]] = {
    "asif": (Relative, ("k", "power", "centre")),
    "asif-paper": (asif_paper, ("k", "power")),
    "procrustes": (procrustes, ("size",)),
    "ridge": (ridge, ("strength", "towards", "size")),
    "cca": (cca, ("strength", "size", "weight")),
}
_WITH_WORDS: dict[str, tuple[Callable[..., Aligner], tuple[str, ...]]] = {
    "cca": (LexicalCca, ("words", "strength", "size", "weight", "power"))
}
RIVALS = {"ape": "asif.rivals:Ape", "fusemix": "asif.rivals:FuseMix", "freeze-align": "asif.rivals:FreezeAlign"}
"""Trained aligners by name: module and class, imported when first used."""
_TOKEN_RIVALS = {"freeze-align-tokens": "asif.rivals:FreezeAlignTokens"}
"""Trained aligners that need all tokens of images and texts."""
ALIGNER_NAMES = (*_CONSTRUCTORS, *RIVALS, *_TOKEN_RIVALS)
PARAMETER_NAMES = tuple(dict.fromkeys(name for _, names in _CONSTRUCTORS.values() for name in names))
INTEGER_PARAMETERS = ("k", "size", "layers", "hidden", "blocks", "width", "batch", "steps", "epochs", "seed", "head")
_FLAGS = ("centre", "words", "published")  # parameters that need no value
_EXAMPLE = "write for example --aligner asif or --aligner 'cca(lambda=3)+0.5*asif(k=200)'"
_MEMBER_PATTERN = re.compile(r"\s*(?:([0-9.e-]+)\s*\*)?\s*([a-z-]+)\s*(?:\(([^()]*)\))?\s*")


def make_aligner(name: str, **given: Any) -> Aligner:
    """Make an aligner by name; parameters that are None or False keep their defaults.

    The name may contain parameters, or be a weighted sum of several: see `Fused`.
    Raises UsageError for an unknown name, a parameter that the aligner does not have, or one out of range.

    >>> make_aligner("asif", k=100, power=None).parameters["k"]
    100
    >>> make_aligner("cca(lambda=3) + 0.5*asif(k=200,centre)").parameters["members"][1]["weight"]
    0.5
    """
    given = {key: value for key, value in given.items() if value is not None and value is not False}
    if name in ALIGNER_NAMES:
        return _build_aligner(name, given)
    if given:
        raise UsageError(
            f"the aligner {name!r} was given {', '.join(map(_option_name, given))} beside it",
            f"one of {', '.join(ALIGNER_NAMES)}, or parameters inside the parentheses",
            "write for example --aligner 'cca(lambda=3)+0.5*asif(k=200)'",
        )
    members = [_parse_member(part, name) for part in name.split("+")]
    if len(members) == 1 and members[0].weight == 1:
        return members[0].aligner
    trained = [each.aligner.name for each in members if each.aligner.name in {**RIVALS, **_TOKEN_RIVALS}]
    if trained:
        raise UsageError(f"{trained[0]} in the sum {name!r}", "aligners that need no training", "name it alone")
    return Fused(tuple(members))


def _parse_member(text: str, whole: str) -> FusedMember:
    """Parse one member of a fusion: its weight, its name, its parameters."""
    found = _MEMBER_PATTERN.fullmatch(text)
    if found is None or found[2] not in ALIGNER_NAMES:
        raise UsageError(
            f"the aligner is {whole!r}",
            f"one of {', '.join(ALIGNER_NAMES)}, with parameters in parentheses, or several added up",
            suggest_nearest(text if found is None else found[2], ALIGNER_NAMES, _EXAMPLE),
        )
    weight, name, parameters = found.groups()
    given = dict(_parse_parameter(each, whole) for each in (parameters or "").split(",") if each.strip())
    try:
        return FusedMember(_build_aligner(name, given), float(weight or 1))
    except ValueError as error:
        raise UsageError(f"the weight {weight!r} in {whole!r}", "a number", "write for example 0.5*asif") from error


def _parse_parameter(text: str, whole: str) -> tuple[str, Any]:
    """Parse one parameter of a member: `k=200`, `centre`, `words`, `towards=text`."""
    key, _, value = (part.strip() for part in text.partition("="))
    try:
        if key in _FLAGS and not value:
            return key, True
        if key == "towards":
            return key, value
        return ("strength" if key == "lambda" else key), int(value) if key in INTEGER_PARAMETERS else float(value)
    except ValueError as error:
        raise UsageError(f"{text!r} in {whole!r}", "a name and a number", "write for example asif(k=200)") from error


def _build_aligner(name: str, given: dict[str, Any]) -> Aligner:
    """Build one aligner; raises UsageError for a parameter that it does not have."""
    construct, accepted = _CONSTRUCTORS.get(name) or _import_rival(name)
    if "words" in given and name in _WITH_WORDS:
        construct, accepted = _WITH_WORDS[name]
        given = {**given, "words": None if given["words"] is True else given["words"]}
    unknown = [key for key in given if key not in accepted]
    if unknown:
        raise UsageError(
            f"{name} was given {', '.join(map(_option_name, unknown))}, which it does not have",
            f"some of {', '.join(map(_option_name, accepted))}",
            "leave it out, or choose another aligner",
        )
    return construct(**given)


def _import_rival(name: str) -> tuple[Callable[..., Aligner], tuple[str, ...]]:
    """Import a trained aligner; returns its class and the names of its parameters."""
    module, _, class_name = {**RIVALS, **_TOKEN_RIVALS}[name].partition(":")
    aligner = getattr(import_module(module), class_name)
    return aligner, tuple(field.name for field in fields(aligner))


def _option_name(parameter: str) -> str:
    """Return a parameter's name on the command line: `lambda` is reserved in Python."""
    return "lambda" if parameter == "strength" else parameter
