"""FuseMix: residual adapters on both sides, trained on mixtures of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from asif.rivals.projector import Projector, fill_open_sizes, scale_size
from asif.rivals.schedule import Schedule
from asif.rivals.training_pairs import Dims
from asif.vectors import SIDES

if TYPE_CHECKING:
    from asif.rivals.trainer import Networks

_PUBLISHED_PAIRS = 1_000_000  # from which on the published parameters are the defaults


@dataclass(frozen=True)
class FuseMix(Projector):
    """Train adapters on mixed pairs of frozen latents of any two modalities (Vouitsis et al., CVPR 2024).

    Two pairs are mixed into one, x̃ = λx₁ + (1 - λ)x₂ and ỹ likewise, with one λ ~ Beta(1, 1) for a batch and the same
    partners on both sides. An adapter is `blocks` of x + MLP(LayerNorm(x)), a LayerNorm and a linear map to `width`.
    Published: 4 blocks of expansion 4, dropout 0.6, batches of 20,480 and 500 epochs: these are the defaults from a
    million pairs on. With fewer pairs, an MLP has as many units as inputs, batches have 1,024 mixtures or more, and
    training has as many epochs as make 500 steps, from 100 to 500.
    """

    name: ClassVar[str] = "fusemix"
    most_words: ClassVar[int | None] = 512  # its blocks are as wide as their input
    dropout: float = 0.6
    blocks: int = 4
    expansion: float | None = None
    width: int = 512
    epochs: int | None = None

    def resolve(self, pairs: int) -> FuseMix:
        few = pairs < _PUBLISHED_PAIRS
        sized = fill_open_sizes(self, expansion=1.0 if few else 4.0, batch=scale_size(pairs, 1024, 20_480))
        assert sized.batch is not None  # just filled
        steps_of_epoch = max(1.0, pairs / (2 * sized.batch))
        return fill_open_sizes(sized, epochs=max(100, round(500 / steps_of_epoch)) if few else 500)

    def build_schedule(self, pairs: int) -> Schedule:
        assert self.batch is not None  # resolved
        assert self.epochs is not None
        batch = min(self.batch, pairs // 2)
        steps = max(1, self.epochs * pairs // (2 * batch))
        return Schedule(batch, steps, self.rate, self.decay, warmup=min(100, steps // 10), last=1e-3, mixed=True)

    def build_networks(self, dims: Dims) -> Networks:
        from asif.rivals.networks import build_adapter

        assert self.expansion is not None  # resolved
        return {
            side: build_adapter(dims[side], self.blocks, self.expansion, self.dropout, self.width) for side in SIDES
        }
