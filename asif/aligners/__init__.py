"""Aligners by name: ways of making two spaces comparable by way of an anchor set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asif.aligners.hubness import Hubness
from asif.aligners.linear import Linear, cca, procrustes, ridge
from asif.aligners.moments import Moments
from asif.aligners.protocol import Aligner, Anchors, Fitted, TemplateMode
from asif.aligners.relative import Relative, asif_paper
from asif.errors import UsageError

__all__ = ["ALIGNERS", "PARAMETERS", "Aligner", "Anchors", "Fitted", "Hubness", "Linear", "Moments", "Relative"]
__all__ += ["TemplateMode", "make_aligner"]

MAKERS: dict[str, tuple[Callable[..., Aligner], tuple[str, ...]]] = {
    "asif": (Relative, ("k", "power", "centre")),
    "asif-paper": (asif_paper, ("k", "power")),
    "procrustes": (procrustes, ("size",)),
    "ridge": (ridge, ("strength", "towards", "size")),
    "cca": (cca, ("strength", "size", "weight")),
}
ALIGNERS = tuple(MAKERS)
PARAMETERS = tuple(dict.fromkeys(name for _, names in MAKERS.values() for name in names))


def make_aligner(name: str, **given: Any) -> Aligner:
    """Make an aligner by name; parameters that are None or False keep their defaults.

    Raises UsageError for an unknown name, a parameter that the aligner does not have, or one out of range.

    >>> make_aligner("asif", k=100, power=None).parameters
    {'k': 100, 'power': 3.0, 'centre': False, 'normalise': 'both'}
    """
    if name not in MAKERS:
        raise UsageError(f"the aligner is {name!r}", f"one of {', '.join(ALIGNERS)}", "pass --aligner asif")
    maker, accepted = MAKERS[name]
    given = {key: value for key, value in given.items() if value is not None and value is not False}
    strange = [key for key in given if key not in accepted]
    if strange:
        raise UsageError(
            f"{name} was given {', '.join(map(spoken, strange))}, which it does not have",
            f"some of {', '.join(map(spoken, accepted))}",
            "leave it out, or choose another aligner",
        )
    return maker(**given)


def spoken(parameter: str) -> str:
    """Return a parameter's name as the command line has it: `lambda` is a word that Python keeps."""
    return "lambda" if parameter == "strength" else parameter
