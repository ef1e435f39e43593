"""Aligners by name: ways of making two spaces comparable by way of an anchor set."""

from asif.aligners.fused import Fused, Member
from asif.aligners.hubness import Hubness
from asif.aligners.linear import Linear
from asif.aligners.moments import Moments
from asif.aligners.naming import ALIGNERS, PARAMETERS, TRAINED, make_aligner
from asif.aligners.projectors import (
    FittedProjector,
    FittedTokens,
    FreezeAlignTokens,
    Pairs,
    Projector,
    TokenPairs,
    TrainingPairs,
)
from asif.aligners.protocol import Aligner, Anchors, Fitted, TemplateMode
from asif.aligners.relative import Relative

__all__ = [
    "ALIGNERS",
    "PARAMETERS",
    "TRAINED",
    "Aligner",
    "Anchors",
    "Fitted",
    "FittedProjector",
    "FittedTokens",
    "FreezeAlignTokens",
    "Fused",
    "Hubness",
    "Linear",
    "Member",
    "Moments",
    "Pairs",
    "Projector",
    "Relative",
    "TemplateMode",
    "TokenPairs",
    "TrainingPairs",
    "make_aligner",
]
