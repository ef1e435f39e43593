"""freeze-align: projectors on both sides, here of one vector per side, the CLS or pooled one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from asif.rivals.projector import Projector, fill_open_sizes, scale_size
from asif.rivals.schedule import Schedule
from asif.rivals.training_pairs import Dims

if TYPE_CHECKING:
    from asif.rivals.trainer import Networks

_PUBLISHED_PAIRS = 100_000  # from which on the published parameters are the defaults


@dataclass(frozen=True)
class FreezeAlign(Projector):
    """Train the CLS projector of freeze-align, and its text head (Maniparambil et al., CVPR 2025).

    A projector is LayerNorm, dropout, and a linear map plus a small MLP; texts go through an MLP with a residual and a
    LayerNorm in addition. In the paper the CLS projector alone reaches 75.5, with all tokens 76.1. Published: 15 epochs
    in batches of 1,800, dropout 0.1, decay 0.02: these are the defaults from 100,000 pairs on, except for the batch
    size, which grows up to a million pairs. With fewer pairs that would be only a few steps: the defaults are then up
    to 200 epochs with dropout 0.3 and decay 0.1.
    """

    name: ClassVar[str] = "freeze-align"
    decay: float | None = None
    dropout: float | None = None
    width: int = 512
    epochs: int | None = None

    def resolve(self, pairs: int) -> FreezeAlign:
        few = pairs < _PUBLISHED_PAIRS
        return fill_open_sizes(
            self,
            batch=scale_size(pairs, 1024, 1800),
            epochs=max(15, min(200, 240_000 // pairs)),
            dropout=0.3 if few else 0.1,
            decay=0.1 if few else 0.02,
        )

    def build_schedule(self, pairs: int) -> Schedule:
        assert self.batch is not None  # resolved
        assert self.epochs is not None
        batch = min(self.batch, pairs)
        return Schedule(batch, max(1, self.epochs * pairs // batch), self.rate, self.decay)

    def build_networks(self, dims: Dims) -> Networks:
        from asif.rivals.networks import Projection, TextProjection

        return {
            "image": Projection(dims["image"], self.width, self.dropout),
            "text": TextProjection(dims["text"], self.width, self.dropout),
        }
