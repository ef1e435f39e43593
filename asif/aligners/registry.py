"""Aligners by what they are called: a name with parameters, or several added up."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from typing import Any

from asif.aligners.fused import Fused, Member
from asif.aligners.linear import cca, procrustes, ridge
from asif.aligners.protocol import Aligner
from asif.aligners.relative import Relative, asif_paper
from asif.errors import UsageError

MAKERS: dict[str, tuple[Callable[..., Aligner], tuple[str, ...]]] = {
    "asif": (Relative, ("k", "power", "centre")),
    "asif-paper": (asif_paper, ("k", "power")),
    "procrustes": (procrustes, ("size",)),
    "ridge": (ridge, ("strength", "towards", "size")),
    "cca": (cca, ("strength", "size", "weight")),
}
RIVALS = {"ape": "asif.rivals:Ape", "fusemix": "asif.rivals:FuseMix", "freeze-align": "asif.rivals:FreezeAlign"}
"""Trained aligners by name: module and class, imported when one is named."""
ALIGNERS = (*MAKERS, *RIVALS)
PARAMETERS = tuple(dict.fromkeys(name for _, names in MAKERS.values() for name in names))
WHOLE = ("k", "size", "layers", "hidden", "blocks", "width", "batch", "steps", "epochs", "seed")
MEMBER = re.compile(r"\s*(?:([0-9.e-]+)\s*\*)?\s*([a-z-]+)\s*(?:\(([^()]*)\))?\s*")


def make_aligner(name: str, **given: Any) -> Aligner:
    """Make an aligner by name; parameters that are None or False keep their defaults.

    A name may bring its parameters along, and several may be added up, the later ones weighed: see `Fused`.
    Raises UsageError for an unknown name, a parameter that the aligner does not have, or one out of range.

    >>> make_aligner("asif", k=100, power=None).parameters["k"]
    100
    >>> make_aligner("cca(lambda=3) + 0.5*asif(k=200,centre)").parameters["members"][1]["weight"]
    0.5
    """
    given = {key: value for key, value in given.items() if value is not None and value is not False}
    if name in ALIGNERS:
        return made(name, given)
    if given:
        raise UsageError(
            f"the aligner {name!r} was given {', '.join(map(spoken, given))} beside it",
            f"one of {', '.join(ALIGNERS)}, or parameters inside the parentheses",
            "write for example --aligner 'cca(lambda=3)+0.5*asif(k=200)'",
        )
    members = [member(part, name) for part in name.split("+")]
    if len(members) == 1 and members[0].weight == 1:
        return members[0].aligner
    trained = [each.aligner.name for each in members if each.aligner.name in RIVALS]
    if trained:
        raise UsageError(f"{trained[0]} in the sum {name!r}", "aligners that need no training", "name it alone")
    return Fused(tuple(members))


def member(text: str, whole: str) -> Member:
    """Read one member of a fusion: its weight, its name, its parameters."""
    found = MEMBER.fullmatch(text)
    if found is None or found[2] not in ALIGNERS:
        raise UsageError(
            f"the aligner is {whole!r}",
            f"one of {', '.join(ALIGNERS)}, with parameters in parentheses, or several added up",
            "write for example --aligner asif or --aligner 'cca(lambda=3)+0.5*asif(k=200)'",
        )
    weight, name, parameters = found.groups()
    given = dict(parameter(each, whole) for each in (parameters or "").split(",") if each.strip())
    try:
        return Member(made(name, given), float(weight or 1))
    except ValueError as error:
        raise UsageError(f"the weight {weight!r} in {whole!r}", "a number", "write for example 0.5*asif") from error


def parameter(text: str, whole: str) -> tuple[str, Any]:
    """Read one parameter of a member: `k=200`, `centre`, `towards=text`."""
    key, _, value = (part.strip() for part in text.partition("="))
    try:
        if key == "centre" and not value:
            return key, True
        if key == "towards":
            return key, value
        return ("strength" if key == "lambda" else key), int(value) if key in WHOLE else float(value)
    except ValueError as error:
        raise UsageError(f"{text!r} in {whole!r}", "a name and a number", "write for example asif(k=200)") from error


def made(name: str, given: dict[str, Any]) -> Aligner:
    """Make one aligner; raises UsageError for a parameter it does not have."""
    maker, accepted = MAKERS.get(name) or rival(name)
    strange = [key for key in given if key not in accepted]
    if strange:
        raise UsageError(
            f"{name} was given {', '.join(map(spoken, strange))}, which it does not have",
            f"some of {', '.join(map(spoken, accepted))}",
            "leave it out, or choose another aligner",
        )
    return maker(**given)


def rival(name: str) -> tuple[Callable[..., Aligner], tuple[str, ...]]:
    """Import a trained aligner; returns its class and the names of its parameters."""
    module, _, kind = RIVALS[name].partition(":")
    found = getattr(import_module(module), kind)
    return found, tuple(field.name for field in fields(found))


def spoken(parameter: str) -> str:
    """Return a parameter's name as the command line has it: `lambda` is a word that Python keeps."""
    return "lambda" if parameter == "strength" else parameter
