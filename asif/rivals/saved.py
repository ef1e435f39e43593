"""Which trained projector answers: the latest that was kept for an anchor set, never one for other anchors."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from asif.aligners.protocol import Fitted
from asif.anchorset import AnchorSet, OpenAnchors
from asif.errors import NotFound, Stale

if TYPE_CHECKING:
    from asif.rivals.projector import Projector

P = TypeVar("P", bound="Projector")


def kept_projector(projector: P, anchors: OpenAnchors) -> P:
    """Return the projector that was trained on these anchors last, with every parameter that was asked for.

    Raises Stale where it was trained on other anchors, NotFound where none was trained; both name the command.
    """
    anchors = whole_set(projector, anchors)
    usual = type(projector)().parameters
    asked = {name: value for name, value in projector.parameters.items() if usual.get(name) != value}
    every = anchors.kept_aligners(projector.name)
    fitting = [(found, other) for found, other in every if asked.items() <= found.items()]
    for found, other in fitting:
        if not other:
            return type(projector)(**found)
    options = "".join(f" --{name} {value:g}" for name, value in asked.items())
    command = f"train it: {projector.command} --anchors {anchors.name}{options}"
    if fitting:
        raise Stale(
            f"{projector.name} was trained on other anchors: their digest is {fitting[0][1][:12]}, "
            f"that of {anchors.ref} {anchors.digest[:12]}",
            "a projector trained on these anchors: what a network has learnt cannot be edited",
            f"{command}, or name an aligner that needs no training",
        )
    raise NotFound(f"no {projector.name}{options} was trained on {anchors.ref}", "one that was", command)


def trained_before(projector: Projector, anchors: OpenAnchors) -> Fitted:
    """Take up a trained projector; raises what `kept_projector` does, IntegrityError for changed weights."""
    anchors = whole_set(projector, anchors)
    whole = kept_projector(projector, anchors)
    weights = anchors.kept_fit({"name": whole.name, "parameters": whole.parameters})
    assert weights is not None  # its file was seen just now
    return whole.restore(anchors, weights)


def whole_set(projector: Projector, anchors: OpenAnchors) -> AnchorSet:
    """Return anchors that a projector may have been trained on; raises Stale for a view, on which none ever was."""
    if not isinstance(anchors, AnchorSet):
        raise Stale(
            f"{projector.name}, and {anchors.ref}, on which it was not trained",
            "a set, whole, that a projector was trained on",
            "name an aligner that needs no training, or make a set of these pairs (asif anchors merge) and train on it",
        )
    return anchors
