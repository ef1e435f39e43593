"""Aligners by name: ways of making two spaces comparable by way of an anchor set."""

from asif.aligners.fused import Fused, Member
from asif.aligners.hubness import Hubness
from asif.aligners.linear import Linear
from asif.aligners.moments import Moments
from asif.aligners.protocol import Aligner, Anchors, Fitted, TemplateMode, TrainedAligner
from asif.aligners.registry import ALIGNERS, PARAMETERS, RIVALS, make_aligner
from asif.aligners.relative import Relative

__all__ = [
    "ALIGNERS",
    "PARAMETERS",
    "RIVALS",
    "Aligner",
    "Anchors",
    "Fitted",
    "Fused",
    "Hubness",
    "Linear",
    "Member",
    "Moments",
    "Relative",
    "TemplateMode",
    "TrainedAligner",
    "make_aligner",
]
