"""The trained rivals: small networks on frozen features, all trained by one trainer."""

from asif.aligners.projectors.ape import Ape
from asif.aligners.projectors.freeze_align import FreezeAlign
from asif.aligners.projectors.freeze_align_tokens import FittedTokens, FreezeAlignTokens
from asif.aligners.projectors.fusemix import FuseMix
from asif.aligners.projectors.pairs import Pairs, TrainingPairs
from asif.aligners.projectors.projector import FittedProjector, Projector
from asif.aligners.projectors.token_pairs import TokenPairs

__all__ = [
    "Ape",
    "FittedProjector",
    "FittedTokens",
    "FreezeAlign",
    "FreezeAlignTokens",
    "FuseMix",
    "Pairs",
    "Projector",
    "TokenPairs",
    "TrainingPairs",
]
