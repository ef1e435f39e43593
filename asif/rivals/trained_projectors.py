"""Stored projectors of an anchor set: the latest one is used, never one of other anchors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from asif.aligners.protocol import FittedAligner
from asif.anchorset import AnchorSet, OpenAnchors
from asif.errors import NotFound, Stale

if TYPE_CHECKING:
    from asif.rivals.projector import Projector

ProjectorT = TypeVar("ProjectorT", bound="Projector")


def find_trained(projector: ProjectorT, anchors: OpenAnchors) -> ProjectorT:
    """Return the projector that was last trained on these anchors, with every parameter that `projector` sets.

    Raises Stale if it was trained on other anchors, NotFound if none was trained; both name the command.
    """
    stored = _find_stored_parameters(projector, _check_whole_set(projector, anchors))
    return type(projector).from_stored(stored)


def load_projector(projector: Projector, anchors: OpenAnchors) -> FittedAligner:
    """Load a trained projector; raises what `find_trained` raises, and IntegrityError for changed weights."""
    anchors = _check_whole_set(projector, anchors)
    stored = _find_stored_parameters(projector, anchors)
    weights = anchors.cached_fit({"name": projector.name, "parameters": stored})
    assert weights is not None  # its file has just been seen
    return type(projector).from_stored(stored).restore(anchors, weights)


def _find_stored_parameters(projector: Projector, anchors: AnchorSet) -> dict[str, Any]:
    """Return the parameters, as stored, of the projector that `find_trained` finds; raises what it does."""
    defaults = type(projector)().parameters
    requested = {name: value for name, value in projector.parameters.items() if defaults.get(name) != value}
    stored = anchors.cached_aligners(projector.name)
    earlier = projector.earlier_parameters
    matching = [
        (parameters, other) for parameters, other in stored if requested.items() <= {**earlier, **parameters}.items()
    ]
    for parameters, other_digest in matching:
        if not other_digest:
            return parameters
    options = "".join(f" --{name}" + ("" if value is True else f" {value:g}") for name, value in requested.items())
    command = f"train it: {projector.command} --anchors {anchors.name}{options}"
    if matching:
        raise Stale(
            f"{projector.name} was trained on other anchors: their digest is {matching[0][1][:12]}, "
            f"that of {anchors.ref} {anchors.digest[:12]}",
            "a projector trained on these anchors: what a network has learnt cannot be edited",
            f"{command}, or name an aligner that needs no training",
        )
    raise NotFound(f"no {projector.name}{options} was trained on {anchors.ref}", "one that was", command)


def _check_whole_set(projector: Projector, anchors: OpenAnchors) -> AnchorSet:
    """Return anchors that a projector can have been trained on; raises Stale for a view, on which none can."""
    if not isinstance(anchors, AnchorSet):
        raise Stale(
            f"{projector.name}, and {anchors.ref}, on which it was not trained",
            "a complete set that a projector was trained on",
            "name an aligner that needs no training, or make a set of these pairs (asif anchors merge) and train on it",
        )
    return anchors
