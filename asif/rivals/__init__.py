"""The trained rivals: small networks on frozen features, all trained by one trainer."""

from asif.rivals.ape import Ape
from asif.rivals.freeze_align import FreezeAlign
from asif.rivals.freeze_align_tokens import FittedTokens, FreezeAlignTokens
from asif.rivals.fusemix import FuseMix
from asif.rivals.projector import FittedProjector, Projector
from asif.rivals.saved import trained_before
from asif.rivals.token_pairs import TokenPairs
from asif.rivals.training_pairs import Pairs, TrainingPairs

PROJECTORS: dict[str, type[Projector]] = {kind.name: kind for kind in (Ape, FuseMix, FreezeAlign)}
"""The trained aligners that can be named."""

__all__ = [
    "PROJECTORS",
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
    "trained_before",
]
