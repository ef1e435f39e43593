"""The trained rivals: small networks on frozen embeddings, all trained by one trainer."""

from asif.aligners.projectors.ape import Ape
from asif.aligners.projectors.freeze_align import FreezeAlign
from asif.aligners.projectors.fusemix import FuseMix
from asif.aligners.projectors.pairs import TrainingPairs
from asif.aligners.projectors.projector import FittedProjector, Projector

__all__ = ["Ape", "FittedProjector", "FreezeAlign", "FuseMix", "Projector", "TrainingPairs"]
