"""APE: a perceptron on the text side leads into the image encoder's own space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from asif.rivals.projector import Projector, filled, grown
from asif.rivals.schedule import Schedule
from asif.rivals.training_pairs import Dims

if TYPE_CHECKING:
    from asif.rivals.trainer import Networks


@dataclass(frozen=True)
class Ape(Projector):
    """Train a text-side MLP of 4 to 6 layers towards untouched image embeddings (Rosenfeld et al., NeurIPS 2022 W).

    No hyper-parameters were published; those here follow later work of the same design, scaled to the pairs: hidden
    layers of 1,024 to 4,096 units and batches of at most 1,024 to 16,384, for 10,000 to a million pairs; 10 steps for
    each in the root of the pairs, 200 to 5,000.
    """

    name: ClassVar[str] = "ape"
    layers: int = 4
    hidden: int | None = None
    steps: int | None = None

    def resolved(self, pairs: int) -> Ape:
        return filled(
            self,
            hidden=grown(pairs, 1024, 4096),
            batch=grown(pairs, 1024, 16_384),
            steps=max(200, min(5000, round(10 * pairs**0.5))),
        )

    def schedule(self, pairs: int) -> Schedule:
        assert self.batch is not None  # resolved
        assert self.steps is not None
        return Schedule(min(self.batch, pairs), self.steps, self.rate, self.decay)

    def networks(self, dims: Dims) -> Networks:
        from asif.rivals.networks import perceptron

        assert self.hidden is not None  # resolved
        return {"text": perceptron(dims["text"], self.hidden, self.layers, dims["image"], self.dropout)}
