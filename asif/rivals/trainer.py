"""The trainer of all projectors: symmetric InfoNCE on frozen features, early stopping on held-out pairs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from asif.kernels import supports_bfloat16
from asif.rivals.objective import compute_infonce_loss, mix_halves, rank_held_out_pairs
from asif.rivals.schedule import Schedule
from asif.rivals.training_pairs import PairFeatures
from asif.vectors import SIDES, Float32, Int64, Side

TorchDevice = Literal["cpu", "cuda"]
Networks = dict[Side, nn.Module]
_NetworkInputs = tuple[Tensor, ...]
"""The inputs of a network: rows, or tokens with their mask."""
TrainingState = dict[str, NDArray[Any]]
"""Everything that a training is resumed from, by name."""

_EVALUATIONS = 25  # on held-out pairs, over the whole schedule
_PACE_STEPS = 4  # after which the time of a step is measured; the first ones are slower
_PACE_MARGIN = 0.9  # share of the remaining time that a shortened schedule is given
_PATIENCE = 8  # evaluations without improvement, after which training stops
_FIRST_TEMPERATURE, _MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.07, 0.001, 0.5


@dataclass(frozen=True)
class HeldOutEvaluation:
    """Hold mean reciprocal rank and recall at 1 of held-out pairs after a step, the means of both directions."""

    step: int
    steps: int
    loss: float
    rank: float
    recall: float


@dataclass(frozen=True)
class TrainedWeights:
    """Hold the best weights by name, every evaluation in order, and the seconds of this run."""

    weights: dict[str, Float32]
    evaluations: tuple[HeldOutEvaluation, ...]
    seconds: float

    @property
    def best(self) -> HeldOutEvaluation:
        """Return the evaluation of the best weights."""
        return max(self.evaluations, key=lambda evaluation: evaluation.rank)


@dataclass(frozen=True)
class TrainingView:
    """Let a watcher of a training look at the networks after a step.

    `project` maps the inputs of one side's network, such as rows [n, d], into the common space [n, s]; `copy_weights`
    copies the weights by name.
    """

    step: int
    steps: int
    project: Callable[..., Float32]
    copy_weights: Callable[[], dict[str, Float32]]


def train_watched(
    networks: Networks,
    schedule: Schedule,
    pairs: PairFeatures,
    *,
    seed: int,
    device: TorchDevice,
    seconds: float,
    watch: Callable[[TrainingView], bool],
) -> Schedule:
    """Train networks on all pairs for at most `seconds`; return the schedule, which is shortened if time is short.

    After the first steps the schedule is cut to as many as the time allows, so that its learning rate still falls to
    the end. Between steps the deadline is checked. `watch` is called 25 times, and after the last step; training ends
    early when it returns true.
    """
    return TrainingRun(networks, schedule, pairs, pairs, seed, device).run_watched(watch, seconds)


def train_steps(
    networks: Networks, schedule: Schedule, pairs: PairFeatures, steps: int, *, seed: int, device: TorchDevice
) -> dict[str, Float32]:
    """Train networks on all pairs for the first `steps` of a schedule; return their weights by name."""
    return TrainingRun(networks, schedule, pairs, pairs, seed, device).run_steps(steps)


def train_networks(
    networks: Networks,
    schedule: Schedule,
    pairs: PairFeatures,
    held_out: PairFeatures,
    *,
    seed: int,
    device: TorchDevice = "cpu",
    progress: Callable[[HeldOutEvaluation], None] = lambda evaluation: None,
    keep: Callable[[TrainingState], None] = lambda state: None,
    resume: Mapping[str, NDArray[Any]] | None = None,
) -> TrainedWeights:
    """Train networks with symmetric InfoNCE, and return the weights that rank held-out pairs best.

    A side without a network is used as it is. The batch of a step depends only on the seed and the number of the step,
    so a run resumed from a `TrainingState` passed to `keep` ends with the same weights. Pairs with equal texts are
    no negatives of each other. Products are in bfloat16 if the processor supports it, everything else in float32.
    """
    return TrainingRun(networks, schedule, pairs, held_out, seed, device).run(progress, keep, resume)


class TrainingRun:
    """Hold the networks, the data, the optimiser and the evaluations of one training."""

    def __init__(
        self,
        networks: Networks,
        schedule: Schedule,
        pairs: PairFeatures,
        held_out: PairFeatures,
        seed: int,
        device: TorchDevice,
    ) -> None:
        self.schedule, self.pairs, self.held_out, self.seed, self.device = schedule, pairs, held_out, seed, device
        self.model = nn.ModuleDict({str(side): network for side, network in networks.items()}).to(device)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(_FIRST_TEMPERATURE), device=device))
        flat = [weight for weight in self.model.parameters() if weight.ndim < 2]
        deep = [weight for weight in self.model.parameters() if weight.ndim >= 2]
        shrunk = [{"params": deep, "weight_decay": schedule.decay or 0.0}]
        free = [{"params": [*flat, self.log_temperature], "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW([*shrunk, *free], lr=schedule.rate)
        self.images, self.texts = (pairs.reader(side, device) for side in SIDES)
        self.evaluations: list[HeldOutEvaluation] = []
        self.best: dict[str, Float32] = {}

    def run(
        self,
        progress: Callable[[HeldOutEvaluation], None],
        keep: Callable[[TrainingState], None],
        resume: Mapping[str, NDArray[Any]] | None,
    ) -> TrainedWeights:
        """Take the remaining steps."""
        started, loss = time.perf_counter(), 0.0
        first = self._restore(resume) if resume else 0
        between = max(1, self.schedule.steps // _EVALUATIONS)
        with preserve_random_state(self.device):
            for step in range(first, self.schedule.steps):
                if self._has_converged():
                    break
                loss = self.step(step)
                if (step + 1) % between == 0 or step + 1 == self.schedule.steps:
                    self._evaluate(step + 1, loss)
                    progress(self.evaluations[-1])
                    keep(self._state(step + 1))
        return TrainedWeights(self.best, tuple(self.evaluations), time.perf_counter() - started)

    def run_watched(self, watch: Callable[[TrainingView], bool], seconds: float) -> Schedule:
        """Take the steps of `train_watched`."""
        started, step, late = time.perf_counter(), 0, False
        with preserve_random_state(self.device):
            while step < self.schedule.steps and not late:
                self.step(step)
                step += 1
                if step == 1:
                    paced = time.perf_counter()
                elif step == 1 + _PACE_STEPS:
                    pace = (time.perf_counter() - paced) / _PACE_STEPS
                    possible = int(_PACE_MARGIN * (seconds - (time.perf_counter() - started)) / pace)
                    self.schedule = self.schedule.shorten(step + max(0, possible))
                late = time.perf_counter() - started >= seconds
                between = max(1, self.schedule.steps // _EVALUATIONS)
                if (late or step % between == 0 or step == self.schedule.steps) and watch(self._view(step)):
                    break
        return self.schedule

    def run_steps(self, steps: int) -> dict[str, Float32]:
        """Take the first steps of the schedule; return the weights."""
        with preserve_random_state(self.device):
            for step in range(steps):
                self.step(step)
        return self.weights()

    def _view(self, step: int) -> TrainingView:
        """Return a view of the networks as they are now."""

        def project(side: Side, *inputs: NDArray[Any]) -> Float32:
            self.model.eval()
            with torch.inference_mode():
                given = [torch.from_numpy(each).to(self.device) for each in inputs]
                projected: Float32 = self._project(side, *given).cpu().numpy()
            self.model.train()
            return projected

        return TrainingView(step, self.schedule.steps, project, self.weights)

    def _has_converged(self) -> bool:
        """Tell whether the last evaluations showed no improvement."""
        ranks = [evaluation.rank for evaluation in self.evaluations]
        return len(ranks) > _PATIENCE and max(ranks[-_PATIENCE:]) <= max(ranks[:-_PATIENCE])

    def step(self, step: int) -> float:
        """Take one step; return its loss."""
        torch.manual_seed((self.seed << 32) + step)  # seeds the dropout
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate_at(step)
        image, text, text_groups = self.batch(np.random.default_rng([self.seed, step]))
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda" or supports_bfloat16()):
            x, y = self._project("image", *image), self._project("text", *text)
            cosines = x @ y.T
        loss = compute_infonce_loss(cosines.float() / self.log_temperature.exp(), text_groups)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        with torch.no_grad():
            self.log_temperature.clamp_(math.log(_MIN_TEMPERATURE), math.log(_MAX_TEMPERATURE))
        return float(loss.detach())

    def batch(self, random: np.random.Generator) -> tuple[_NetworkInputs, _NetworkInputs, Int64]:
        """Draw b images, one text of each, and the groups of equal texts [b]."""
        if not self.schedule.mixed:
            rows = random.permutation(len(self.pairs))[: self.schedule.batch]
            texts = self.pairs.draw_texts(rows, random)
            return self.images(rows), self.texts(texts), self.pairs.text_groups[texts]
        half = min(self.schedule.batch, len(self.pairs) // 2)
        rows = random.permutation(len(self.pairs))[: 2 * half]
        texts = self.pairs.draw_texts(rows, random)
        share = float(random.beta(1, 1))
        image, text = (
            tuple(mix_halves(each, share) for each in every) for every in (self.images(rows), self.texts(texts))
        )
        one, other = self.pairs.text_groups[texts][:half], self.pairs.text_groups[texts][half:]
        return image, text, one * len(self.pairs.texts) + other

    def _project(self, side: Side, *inputs: Tensor) -> Tensor:
        """Project b inputs into the common space [b, s], to unit length."""
        projected = self.model[side](*inputs) if side in self.model else inputs[0]
        return functional.normalize(projected.float(), dim=-1)

    def _evaluate(self, step: int, loss: float) -> None:
        """Rank the held-out pairs, and copy the weights if they do so better than any before."""
        self.model.eval()
        with torch.inference_mode():
            x, y = (
                self._project_held_out("image", len(self.held_out.images)),
                self._project_held_out("text", len(self.held_out.texts)),
            )
        self.model.train()
        rank, recall = rank_held_out_pairs(x @ y.T, self.held_out)
        if not self.evaluations or rank > max(evaluation.rank for evaluation in self.evaluations):
            self.best = self.weights()
        self.evaluations.append(HeldOutEvaluation(step, self.schedule.steps, loss, rank, recall))

    def _project_held_out(self, side: Side, count: int) -> Float32:
        """Project all held-out rows of a side [count, s]."""
        read, step = self.held_out.reader(side, self.device), self.held_out.read_rows
        portions = (np.arange(start, min(start + step, count)) for start in range(0, count, step))
        return np.concatenate([self._project(side, *read(rows)).cpu().numpy() for rows in portions])

    def weights(self) -> dict[str, Float32]:
        """Copy the weights."""
        return {name: weight.detach().cpu().numpy().copy() for name, weight in self.model.state_dict().items()}

    def _state(self, step: int) -> TrainingState:
        """Return everything that the training is resumed from."""
        state: TrainingState = {
            "step": np.array([step]),
            "heat": self.log_temperature.detach().cpu().numpy().reshape(1).copy(),
        }
        state["looks"] = np.array([[each.step, each.loss, each.rank, each.recall] for each in self.evaluations])
        state |= {f"weights.{name}": value for name, value in self.weights().items()}
        state |= {f"best.{name}": value for name, value in self.best.items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            state |= {f"moments.{index}.{name}": value.cpu().numpy().copy() for name, value in moments.items()}
        return state

    def _restore(self, state: Mapping[str, NDArray[Any]]) -> int:
        """Resume from a state; return the number of steps that were done."""

        def read_tensors(prefix: str) -> dict[str, Tensor]:
            named = {name: value for name, value in state.items() if name.startswith(prefix)}
            return {name[len(prefix) :]: torch.from_numpy(np.array(value)) for name, value in named.items()}

        self.model.load_state_dict(read_tensors("weights."))
        self.best = {name: value.numpy() for name, value in read_tensors("best.").items()}
        self.evaluations = [
            HeldOutEvaluation(int(step), self.schedule.steps, loss, rank, recall)
            for step, loss, rank, recall in state["looks"].tolist()
        ]
        with torch.no_grad():
            self.log_temperature.copy_(torch.from_numpy(np.array(state["heat"])).reshape(()))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in read_tensors("moments.").items():
            index, _, kind = name.partition(".")
            moments.setdefault(int(index), {})[kind] = value.reshape(()) if kind == "step" else value
        fresh = self.optimiser.state_dict()
        last = len(list(self.model.parameters()))  # the temperature, which has no dimensions
        moments[last] = {name: value.reshape(()) for name, value in moments[last].items()}
        self.optimiser.load_state_dict({**fresh, "state": moments})
        return int(state["step"][0])


@contextmanager
def preserve_random_state(device: TorchDevice) -> Iterator[None]:
    """Restore torch's random state afterwards."""
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices):
        yield
