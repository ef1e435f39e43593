"""Aligners: each makes the embeddings of two encoders comparable by means of an anchor set."""

from asif.aligners.fused import Fused, FusedMember, is_linear
from asif.aligners.hubness import Hubness
from asif.aligners.lexical import LexicalCca
from asif.aligners.linear import Linear
from asif.aligners.moments import Moments
from asif.aligners.protocol import Aligner, Anchors, FittedAligner, TemplateMode, TrainedAligner
from asif.aligners.registry import ALIGNER_NAMES, PARAMETER_NAMES, RIVALS, make_aligner
from asif.aligners.relative import Relative

__all__ = [
    "ALIGNER_NAMES",
    "PARAMETER_NAMES",
    "RIVALS",
    "Aligner",
    "Anchors",
    "FittedAligner",
    "Fused",
    "Hubness",
    "LexicalCca",
    "Linear",
    "FusedMember",
    "Moments",
    "Relative",
    "TemplateMode",
    "TrainedAligner",
    "is_linear",
    "make_aligner",
]
