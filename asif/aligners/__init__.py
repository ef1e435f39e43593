"""Aligners by name: ways of making two spaces comparable by way of an anchor set."""

from __future__ import annotations

from asif.aligners.protocol import Aligner, Anchors, Fitted, TemplateMode
from asif.aligners.relative import Relative, asif_paper
from asif.errors import UsageError

ALIGNERS = ("asif", "asif-paper")

__all__ = ["ALIGNERS", "Aligner", "Anchors", "Fitted", "Relative", "TemplateMode", "make_aligner"]


def make_aligner(name: str, *, k: int | None = None, power: float | None = None, centre: bool = False) -> Aligner:
    """Make an aligner by name, its parameters where they are not the defaults.

    >>> make_aligner("asif", k=100).parameters
    {'k': 100, 'power': 3.0, 'centre': False, 'normalise': 'both'}
    """
    if name not in ALIGNERS:
        raise UsageError(f"the aligner is {name!r}", f"one of {', '.join(ALIGNERS)}", "pass --aligner asif")
    given = {key: value for key, value in (("k", k), ("power", power)) if value is not None}
    if name == "asif":
        return Relative(**given, centre=centre)  # type: ignore[arg-type]
    if centre:
        raise UsageError("asif-paper was asked to centre", "the published code, which does not", "use --aligner asif")
    return asif_paper(**given)  # type: ignore[arg-type]
