"""Trained rivals of the training-free aligners: small networks on frozen features, trained by one trainer."""

from asif.rivals.ape import Ape
from asif.rivals.freeze_align import FreezeAlign
from asif.rivals.freeze_align_tokens import FittedTokens, FreezeAlignTokens
from asif.rivals.fusemix import FuseMix
from asif.rivals.projector import FittedProjector, Projector
from asif.rivals.token_pairs import TokenPairs
from asif.rivals.trained_projectors import load_projector
from asif.rivals.training_pairs import PairFeatures, TrainingPairs

PROJECTORS: dict[str, type[Projector]] = {kind.name: kind for kind in (Ape, FuseMix, FreezeAlign)}
"""The trained aligners by name."""

__all__ = [
    "PROJECTORS",
    "Ape",
    "FittedProjector",
    "FittedTokens",
    "FreezeAlign",
    "FreezeAlignTokens",
    "FuseMix",
    "PairFeatures",
    "Projector",
    "TokenPairs",
    "TrainingPairs",
    "load_projector",
]
