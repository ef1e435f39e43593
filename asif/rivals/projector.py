"""A trained projector as an aligner: trained once, kept as weights, asked like any other."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from asif.aligners.protocol import Anchors, Arrays, Fitted, TemplateMode, TrainedAligner
from asif.anchorset import OpenAnchors
from asif.errors import InputRefused, UsageError
from asif.kernels import Engine
from asif.rivals.saved import kept_projector, trained_before
from asif.rivals.training_pairs import Dims, Pairs, TrainingPairs
from asif.vectors import SIDES, DenseRows, Embeddings, Float32, Parts, Side

if TYPE_CHECKING:
    from asif.rivals.schedule import Schedule
    from asif.rivals.trainer import Device, Look, Networks, Trained

ROWS = 64  # of one pass, always: what a row becomes does not depend on the others
FEWEST = 10  # images
RANGES = {
    "layers": (2, 12),
    "blocks": (1, 16),
    "expansion": (0.1, 16),
    "hidden": (8, 65_536),
    "width": (8, 8_192),
    "batch": (2, 1 << 20),
    "steps": (1, 10_000_000),
    "epochs": (1, 100_000),
    "rate": (1e-7, 1),
    "decay": (0, 1),
    "dropout": (0, 0.95),
    "seed": (0, (1 << 31) - 1),
}
P = TypeVar("P", bound="Projector")


@dataclass(frozen=True)
class Projector(TrainedAligner):
    """Train small networks on frozen embeddings; a trained rival of what needs no training.

    Parameters that are None are chosen by the number of pairs, see `resolved`. Trained with the seed on one machine
    and as many threads, it comes out the same.
    """

    name: ClassVar[str]
    batch: int | None = None
    rate: float = 1e-3
    decay: float | None = 0.1
    dropout: float | None = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = RANGES[field.name]
            if value is not None and not low <= value <= high:
                raise UsageError(
                    f"{self.name} with {field.name} = {value:g}",
                    f"a number from {low:g} to {high:g}",
                    f"pass another --{field.name}",
                )

    @property
    def parameters(self) -> dict[str, Any]:
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in every.items() if value is not None}

    @property
    def command(self) -> str:
        """Return the command that trains it, but for the anchors."""
        return f"asif train-{self.name}"

    @property
    def template_mode(self) -> TemplateMode:
        """Average the prompts."""
        return "mean"

    @abstractmethod
    def resolved(self: P, pairs: int) -> P:
        """Return the same with every size chosen, for so many images to train on."""

    @abstractmethod
    def schedule(self, pairs: int) -> Schedule:
        """Return how it is trained on so many images."""

    @abstractmethod
    def networks(self, dims: Dims) -> Networks:
        """Make the networks of the sides that have one, untrained."""

    def fit(self, anchors: Anchors) -> FittedProjector:
        """Train on what an anchor set holds; minutes where the other aligners take seconds."""
        return self.train(TrainingPairs.of(anchors))[0]

    def train(
        self,
        pairs: Pairs,
        *,
        device: Device = "cpu",
        progress: Callable[[Look], None] = lambda look: None,
        keep: Callable[[Mapping[str, NDArray[Any]]], None] = lambda state: None,
        resume: Mapping[str, NDArray[Any]] | None = None,
    ) -> tuple[FittedProjector, Trained]:
        """Train on pairs, a tenth of which is held out to say when to stop.

        `keep` is given, at every look at the held-out pairs, what `resume` takes. Raises InputRefused for fewer than 10
        images.
        """
        import torch

        from asif.rivals.trainer import seeds, train

        if len(pairs) < FEWEST:
            raise InputRefused(
                f"{len(pairs)} distinct images to train {self.name} on",
                f"at least {FEWEST}, of which a tenth is held out",
                "add pairs, or use an aligner that needs no training: --aligner asif",
            )
        whole = self.resolved(len(pairs))
        with seeds(device):
            torch.manual_seed(whole.seed)
            networks = whole.networks(pairs.dims)
        learnt, held = pairs.divided(whole.seed)
        trained = train(
            networks,
            whole.schedule(len(learnt)),
            learnt,
            held,
            seed=whole.seed,
            device=device,
            progress=progress,
            keep=keep,
            resume=resume,
        )
        return whole.trained(pairs.dims, trained.weights), trained

    def latest(self, anchors: OpenAnchors) -> Projector:
        """Return the one that was trained on these anchors last, see `kept_projector`."""
        return kept_projector(self, anchors)

    def load(self, anchors: OpenAnchors) -> Fitted:
        """Load the weights that were trained on these anchors last, see `trained_before`."""
        return trained_before(self, anchors)

    def trained(self, dims: Dims, weights: Mapping[str, Float32]) -> FittedProjector:
        """Return the projector that these weights are."""
        return FittedProjector(self, dims, weights)

    def restore(self, anchors: Anchors, arrays: Arrays) -> FittedProjector:
        """Take up weights that were trained before, by `self.resolved(...)`, on this anchor set."""
        dims: dict[str, int] = {side: anchors.blocks(side)[0].shape[1] for side in SIDES}
        return self.trained(dims, {name: np.asarray(value, np.float32) for name, value in arrays.items()})


@dataclass(frozen=True)
class FittedProjector:
    """Trained networks: weights by name, float32, and what they were trained as."""

    aligner: Projector
    dims: Dims
    weights: Mapping[str, Float32]

    @property
    def parameters(self) -> dict[str, Any]:
        return self.aligner.parameters

    @property
    def size(self) -> int:
        """Count the weights."""
        return sum(value.size for value in self.weights.values())

    def arrays(self) -> Arrays:
        """Return the weights."""
        return self.weights

    @cached_property
    def _networks(self) -> Networks:
        """Build the networks once, with their weights."""
        import torch

        networks = torch.nn.ModuleDict(
            {str(side): network for side, network in self.aligner.networks(self.dims).items()}
        )
        networks.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in self.weights.items()})
        return {side: networks[side].eval() for side in SIDES if side in networks}

    def represent(self, side: Side, embeddings: Embeddings, engine: Engine = "auto") -> DenseRows:
        """Project embeddings [n, d] into the common space [n, s], to unit length; float32, on the processor."""
        if embeddings.dim != self.dims[side]:
            raise UsageError(
                f"{side} embeddings have {embeddings.dim} dimensions, those it was trained on {self.dims[side]}",
                "equal dimensions",
                "encode with the encoder of the anchor set",
            )
        if side not in self._networks:
            return DenseRows(embeddings.values)
        made = passed(self._networks[side], embeddings.values)
        return DenseRows(Embeddings.from_raw(made).values)

    def parts(self, image: Any, text: Any) -> Parts:
        """Refuse: what a trained network says cannot be traced to pairs."""
        raise UsageError(
            f"the scores of {self.aligner.name} cannot be taken apart: training leaves no trace of single pairs",
            "an aligner that needs no training",
            "leave out --explain, or pass --aligner asif",
        )


def passed(network: Any, rows: Float32) -> Float32:
    """Pass rows [n, d] through a network, so many at a time, the last of them filled up."""
    import torch

    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            full = np.zeros((ROWS, rows.shape[1]), np.float32)
            full[: len(some)] = some
            found.append(network(torch.from_numpy(full)).numpy()[: len(some)])
    return np.concatenate(found)


def filled(projector: P, **sizes: Any) -> P:
    """Choose those sizes that were left open."""
    return replace(projector, **{name: size for name, size in sizes.items() if getattr(projector, name) is None})


def grown(pairs: int, few: int, most: int) -> int:
    """Return a size between `few`, up to 10,000 pairs, and `most`, from 1,000,000 on, in proportion to the logarithm.

    >>> grown(50, 512, 4096), grown(10_000, 512, 4096), grown(100_000, 512, 4096), grown(10**9, 512, 4096)
    (512, 512, 1448, 4096)
    """
    share = min(1.0, max(0.0, (math.log10(pairs) - 4) / 2))
    return round(few * math.exp(share * math.log(most / few)))
