"""freeze-align: projectors on both sides, here of one vector per side, the CLS or pooled one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from asif.rivals.projector import Projector, fill_open_sizes, scale_size
from asif.rivals.schedule import Schedule
from asif.rivals.training_pairs import Dims

if TYPE_CHECKING:
    from asif.rivals.trainer import Networks

_PUBLISHED_PAIRS = 100_000  # from which on the published parameters are the defaults
_PUBLISHED_WARMUP = 1_000  # steps
_PUBLISHED_LAST_RATE = 0.01  # of the highest rate


@dataclass(frozen=True)
class FreezeAlign(Projector):
    """Train the CLS projector of freeze-align, and its text head (Maniparambil et al., CVPR 2025).

    A projector is LayerNorm, dropout, and a linear map plus a small MLP. A text passes a head in addition: a linear
    map, and an MLP over it whose output, after dropout, is added to that map's, then a LayerNorm. With `head` = 0 it is
    the form of earlier versions: the MLP's output is added to its input, with dropout between its layers.

    In the paper the CLS projector alone reaches 75.5, with all tokens 76.1. `published` takes the published training:
    15 epochs in batches of 1,800, width 1,024, dropout 0.1, decay 0.02, warm-up over 1,000 steps, and a rate that
    falls to a hundredth. Otherwise epochs, dropout and decay are these from 100,000 pairs on, and the batch grows up
    to a million pairs; with fewer pairs, where 15 epochs would be only a few steps, there are up to 200 with dropout
    0.3 and decay 0.1. The width is then 512, and the rate falls to zero.
    """

    name: ClassVar[str] = "freeze-align"
    earlier_parameters: ClassVar[Mapping[str, Any]] = {"head": 0, "published": False}
    decay: float | None = None
    dropout: float | None = None
    width: int | None = None
    epochs: int | None = None
    head: int = 1
    published: bool = False

    def resolve(self, pairs: int) -> FreezeAlign:
        if self.published:
            return fill_open_sizes(self, batch=1800, epochs=15, dropout=0.1, decay=0.02, width=1024)
        few = pairs < _PUBLISHED_PAIRS
        return fill_open_sizes(
            self,
            batch=scale_size(pairs, 1024, 1800),
            epochs=max(15, min(200, 240_000 // pairs)),
            dropout=0.3 if few else 0.1,
            decay=0.1 if few else 0.02,
            width=512,
        )

    def build_schedule(self, pairs: int) -> Schedule:
        assert self.batch is not None  # resolved
        assert self.epochs is not None
        batch = min(self.batch, pairs)
        schedule = Schedule(batch, max(1, self.epochs * pairs // batch), self.rate, self.decay)
        if not self.published:
            return schedule
        return replace(schedule, warmup=min(_PUBLISHED_WARMUP, schedule.steps // 10), last=_PUBLISHED_LAST_RATE)

    def build_networks(self, dims: Dims) -> Networks:
        from asif.rivals.networks import Projection, build_text_projection

        assert self.width is not None  # resolved
        return {
            "image": Projection(dims["image"], self.width, self.dropout),
            "text": build_text_projection(dims["text"], self.width, self.dropout, self.head),
        }
