"""freeze-align: token projectors on both sides; here on one vector per side, the CLS or pooled one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from asif.rivals.projector import Projector, filled, grown
from asif.rivals.schedule import Schedule
from asif.rivals.training_pairs import Dims

if TYPE_CHECKING:
    from asif.rivals.trainer import Networks

MANY = 100_000  # pairs


@dataclass(frozen=True)
class FreezeAlign(Projector):
    """Train the CLS projector of freeze-align, and its text head (Maniparambil et al., CVPR 2025).

    A projector is LayerNorm, dropout, and a linear map plus a small MLP; texts go through an MLP with a residual and a
    LayerNorm besides. In the paper the CLS projector alone reaches 75.5 of the 76.1 that it has with all tokens.
    Published: 15 epochs in batches of 1,800, dropout 0.1, decay 0.02: these are the defaults from 100,000 pairs on, but
    for the batches, which grow up to a million. With fewer that is a handful of steps, and it is up to 200 epochs with
    dropout 0.3 and decay 0.1.
    """

    name: ClassVar[str] = "freeze-align"
    decay: float | None = None
    dropout: float | None = None
    width: int = 512
    epochs: int | None = None

    def resolved(self, pairs: int) -> FreezeAlign:
        few = pairs < MANY
        return filled(
            self,
            batch=grown(pairs, 1024, 1800),
            epochs=max(15, min(200, 240_000 // pairs)),
            dropout=0.3 if few else 0.1,
            decay=0.1 if few else 0.02,
        )

    def schedule(self, pairs: int) -> Schedule:
        assert self.batch is not None  # resolved
        assert self.epochs is not None
        batch = min(self.batch, pairs)
        return Schedule(batch, max(1, self.epochs * pairs // batch), self.rate, self.decay)

    def networks(self, dims: Dims) -> Networks:
        from asif.rivals.networks import Headed, Projection

        return {
            "image": Projection(dims["image"], self.width, self.dropout),
            "text": Headed(dims["text"], self.width, self.dropout),
        }
