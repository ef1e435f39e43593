"""Projectors: trained aligners, whose weights are trained once, stored, and used like any other fit."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from asif.aligners.protocol import Anchors, FittedAligner, TemplateMode, TrainedAligner
from asif.anchorset import OpenAnchors
from asif.errors import InputRefused, UsageError
from asif.kernels import KernelName
from asif.rivals.trained_projectors import find_trained, load_projector
from asif.rivals.training_pairs import Dims, PairFeatures, TrainingPairs
from asif.vectors import SIDES, AnchorContributions, DenseRows, Embeddings, FitArrays, Float32, Side

if TYPE_CHECKING:
    from asif.rivals.schedule import Schedule
    from asif.rivals.trainer import HeldOutEvaluation, Networks, TorchDevice, TrainedWeights, TrainingView

_PASS_ROWS = 64  # of every forward pass, so that the output for a row does not depend on the batch
MIN_IMAGES = 10  # images
_PARAMETER_RANGES = {
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
    "head": (0, 1),
    "published": (0, 1),
}
ProjectorT = TypeVar("ProjectorT", bound="Projector")


@dataclass(frozen=True)
class Projector(TrainedAligner):
    """Train small networks on frozen embeddings: a trained rival of training-free aligners.

    Parameters that are None depend on the number of pairs, see `resolve`. On one machine, equal seeds and numbers of
    threads give equal weights.
    """

    name: ClassVar[str]
    earlier_parameters: ClassVar[Mapping[str, Any]] = {}
    """The values of those parameters that earlier versions did not store."""
    most_words: ClassVar[int | None] = None
    """The most words that its texts are joined with, see `rivals.words`; more are projected onto so many directions."""
    batch: int | None = None
    rate: float = 1e-3
    decay: float | None = 0.1
    dropout: float | None = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = _PARAMETER_RANGES[field.name]
            if value is not None and not low <= value <= high:
                raise UsageError(
                    f"{self.name} with {field.name} = {value:g}",
                    f"a number from {low:g} to {high:g}",
                    f"pass another --{field.name}",
                )

    @property
    def parameters(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_stored(cls: type[ProjectorT], parameters: Mapping[str, Any]) -> ProjectorT:
        """Return the projector with parameters as they were stored, perhaps by an earlier version."""
        return cls(**{**cls.earlier_parameters, **parameters})

    @property
    def command(self) -> str:
        """Return the command that trains it, without --anchors."""
        return f"asif train-{self.name}"

    @property
    def template_mode(self) -> TemplateMode:
        """Average the prompts."""
        return "mean"

    @abstractmethod
    def resolve(self: ProjectorT, pairs: int) -> ProjectorT:
        """Return the same projector with every size chosen for a number of training images."""

    @abstractmethod
    def build_schedule(self, pairs: int) -> Schedule:
        """Return the training schedule for a number of images."""

    @abstractmethod
    def build_networks(self, dims: Dims) -> Networks:
        """Build the untrained networks, of the sides that have one."""

    def fit(self, anchors: Anchors) -> FittedProjector:
        """Train on the pairs of an anchor set: takes minutes where the other aligners take seconds."""
        return self.train(TrainingPairs.of(anchors))[0]

    def train(
        self,
        pairs: PairFeatures,
        *,
        device: TorchDevice = "cpu",
        progress: Callable[[HeldOutEvaluation], None] = lambda evaluation: None,
        keep: Callable[[Mapping[str, NDArray[Any]]], None] = lambda state: None,
        resume: Mapping[str, NDArray[Any]] | None = None,
    ) -> tuple[FittedProjector, TrainedWeights]:
        """Train on pairs, a tenth of which is held out for early stopping.

        `keep` is called at every evaluation with the state that `resume` takes. Raises InputRefused for fewer than 10
        images.
        """
        from asif.rivals.trainer import train_networks

        if len(pairs) < MIN_IMAGES:
            raise InputRefused(
                f"{len(pairs)} distinct images to train {self.name} on",
                f"at least {MIN_IMAGES}, of which a tenth is held out",
                "add pairs, or use an aligner that needs no training: --aligner asif",
            )
        projector = self.resolve(len(pairs))
        networks = projector._build_seeded_networks(pairs.dims, device)
        training, held_out = pairs.split(projector.seed)
        trained = train_networks(
            networks,
            projector.build_schedule(len(training)),
            training,
            held_out,
            seed=projector.seed,
            device=device,
            progress=progress,
            keep=keep,
            resume=resume,
        )
        return projector.build_fitted(pairs.dims, trained.weights), trained

    def train_watched(
        self, pairs: PairFeatures, seconds: float, watch: Callable[[TrainingView], bool], device: TorchDevice = "cpu"
    ) -> Schedule:
        """Train on all of some pairs for at most `seconds`, see `trainer.train_watched`; return the schedule."""
        from asif.rivals.trainer import train_watched

        projector = self.resolve(len(pairs))
        networks, schedule = projector._build_seeded_networks(pairs.dims, device), projector.build_schedule(len(pairs))
        return train_watched(networks, schedule, pairs, seed=self.seed, device=device, seconds=seconds, watch=watch)

    def train_steps(
        self, pairs: PairFeatures, schedule: Schedule, steps: int, device: TorchDevice = "cpu"
    ) -> FittedProjector:
        """Train on all of some pairs for the first `steps` of a schedule, without holding any out."""
        from asif.rivals.trainer import train_steps

        projector = self.resolve(len(pairs))
        networks = projector._build_seeded_networks(pairs.dims, device)
        weights = train_steps(networks, schedule, pairs, steps, seed=self.seed, device=device)
        return projector.build_fitted(pairs.dims, weights)

    def _build_seeded_networks(self, dims: Dims, device: TorchDevice) -> Networks:
        """Build the untrained networks with the weights of the seed."""
        import torch

        from asif.rivals.trainer import preserve_random_state

        with preserve_random_state(device):
            torch.manual_seed(self.seed)
            return self.build_networks(dims)

    def find_trained(self, anchors: OpenAnchors) -> Projector:
        """Return the projector that was last trained on these anchors, see `trained_projectors.find_trained`."""
        return find_trained(self, anchors)

    def load_trained(self, anchors: OpenAnchors) -> FittedAligner:
        """Load the weights that were last trained on these anchors, see `load_projector`."""
        return load_projector(self, anchors)

    def build_fitted(self, dims: Dims, weights: Mapping[str, Float32]) -> FittedProjector:
        """Build the fitted projector of these weights."""
        return FittedProjector(self, dims, weights)

    def restore(self, anchors: Anchors, arrays: FitArrays) -> FittedProjector:
        """Build the projector from weights that `self.resolve(...)` was trained to on this anchor set."""
        dims: dict[str, int] = {side: anchors.blocks(side)[0].shape[1] for side in SIDES}
        return self.build_fitted(dims, {name: np.asarray(value, np.float32) for name, value in arrays.items()})


@dataclass(frozen=True)
class FittedProjector:
    """Hold trained networks: the projector, the dimensions of its inputs, and the weights by name, float32."""

    aligner: Projector
    dims: Dims
    weights: Mapping[str, Float32]

    @property
    def parameters(self) -> dict[str, Any]:
        return self.aligner.parameters

    @property
    def weight_count(self) -> int:
        """Return the number of weights."""
        return sum(value.size for value in self.weights.values())

    def arrays(self) -> FitArrays:
        """Return the weights."""
        return self.weights

    @cached_property
    def _networks(self) -> Networks:
        """The networks with their weights, built once."""
        import torch

        networks = torch.nn.ModuleDict(
            {str(side): network for side, network in self.aligner.build_networks(self.dims).items()}
        )
        networks.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in self.weights.items()})
        return {side: networks[side].eval() for side in SIDES if side in networks}

    def represent(self, side: Side, embeddings: Embeddings, engine: KernelName = "auto") -> DenseRows:
        """Project embeddings [n, d] into the common space [n, s], to unit length; float32, on the CPU."""
        if embeddings.dim != self.dims[side]:
            raise UsageError(
                f"{side} embeddings have {embeddings.dim} dimensions, those it was trained on {self.dims[side]}",
                "equal dimensions",
                "encode with the encoder of the anchor set",
            )
        if side not in self._networks:
            return DenseRows(embeddings.values)
        projected = _run_network(self._networks[side], embeddings.values)
        return DenseRows(Embeddings.from_raw(projected).values)

    def split_score(self, image: Any, text: Any) -> AnchorContributions:
        """Raise UsageError: scores of a trained network cannot be traced to pairs."""
        raise UsageError(
            f"the scores of {self.aligner.name} cannot be taken apart: training leaves no trace of single pairs",
            "an aligner that needs no training",
            "leave out --explain, or pass --aligner asif",
        )


def _run_network(network: Any, rows: Float32) -> Float32:
    """Pass rows [n, d] through a network, _PASS_ROWS at a time, the last ones padded with zeros."""
    import torch

    outputs = []
    with torch.inference_mode():
        for start in range(0, len(rows), _PASS_ROWS):
            batch = rows[start : start + _PASS_ROWS]
            padded = np.zeros((_PASS_ROWS, rows.shape[1]), np.float32)
            padded[: len(batch)] = batch
            outputs.append(network(torch.from_numpy(padded)).numpy()[: len(batch)])
    return np.concatenate(outputs)


def fill_open_sizes(projector: ProjectorT, **sizes: Any) -> ProjectorT:
    """Set those sizes that are None."""
    return replace(projector, **{name: size for name, size in sizes.items() if getattr(projector, name) is None})


def scale_size(pairs: int, few: int, most: int) -> int:
    """Interpolate a size in log pairs, from `few` at 10,000 pairs or fewer to `most` at 1,000,000 or more.

    >>> [scale_size(pairs, 512, 4096) for pairs in (50, 10_000, 100_000, 10**9)]
    [512, 512, 1448, 4096]
    """
    share = min(1.0, max(0.0, (math.log10(pairs) - 4) / 2))
    return round(few * math.exp(share * math.log(most / few)))
