"""APE: a perceptron maps text embeddings into the image encoder's space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from asif.rivals.projector import Projector, fill_open_sizes, scale_size
from asif.rivals.schedule import Schedule
from asif.rivals.training_pairs import Dims

if TYPE_CHECKING:
    from asif.rivals.trainer import Networks


@dataclass(frozen=True)
class Ape(Projector):
    """Train a text-side MLP of 4 to 6 layers towards untouched image embeddings (Rosenfeld et al., NeurIPS 2022 W).

    No hyper-parameters were published; the defaults follow later work of the same design, scaled by the number of
    pairs: hidden layers of 1,024 to 4,096 units and batches of at most 1,024 to 16,384, for 10,000 to a million pairs;
    10 times the square root of the number of pairs as steps, 200 to 5,000.
    """

    name: ClassVar[str] = "ape"
    layers: int = 4
    hidden: int | None = None
    steps: int | None = None

    def resolve(self, pairs: int) -> Ape:
        return fill_open_sizes(
            self,
            hidden=scale_size(pairs, 1024, 4096),
            batch=scale_size(pairs, 1024, 16_384),
            steps=max(200, min(5000, round(10 * pairs**0.5))),
        )

    def build_schedule(self, pairs: int) -> Schedule:
        assert self.batch is not None  # resolved
        assert self.steps is not None
        return Schedule(min(self.batch, pairs), self.steps, self.rate, self.decay)

    def build_networks(self, dims: Dims) -> Networks:
        from asif.rivals.networks import build_perceptron

        assert self.hidden is not None  # resolved
        return {"text": build_perceptron(dims["text"], self.hidden, self.layers, dims["image"], self.dropout)}
