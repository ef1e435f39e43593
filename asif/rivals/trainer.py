"""The trainer that all projectors share: symmetric InfoNCE on frozen features, stopped by held-out pairs."""

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

from asif.kernels import multiplies_bfloat16
from asif.rivals.objective import contrast, mixed, ranked
from asif.rivals.schedule import Schedule
from asif.rivals.training_pairs import Pairs
from asif.vectors import SIDES, Float32, Int64, Side

Device = Literal["cpu", "cuda"]
Networks = dict[Side, nn.Module]
Inputs = tuple[Tensor, ...]
"""What a network takes: its rows, or tokens with their mask."""
State = dict[str, NDArray[Any]]
"""Everything that training goes on from, by name."""

LOOKS = 25  # at the held-out pairs, over the whole schedule
PATIENCE = 8  # looks without a better one, after which it stops
TEMPERATURE, COLDEST, HOTTEST = 0.07, 0.001, 0.5


@dataclass(frozen=True)
class Look:
    """What one look at the held-out pairs found: mean reciprocal rank and recall at 1, both ways averaged."""

    step: int
    steps: int
    loss: float
    rank: float
    recall: float


@dataclass(frozen=True)
class Trained:
    """Hold the best weights by name, every look in order, and the seconds of this run."""

    weights: dict[str, Float32]
    looks: tuple[Look, ...]
    seconds: float

    @property
    def best(self) -> Look:
        """Return the look whose weights were kept."""
        return max(self.looks, key=lambda look: look.rank)


def train(
    networks: Networks,
    schedule: Schedule,
    pairs: Pairs,
    held: Pairs,
    *,
    seed: int,
    device: Device = "cpu",
    progress: Callable[[Look], None] = lambda look: None,
    keep: Callable[[State], None] = lambda state: None,
    resume: Mapping[str, NDArray[Any]] | None = None,
) -> Trained:
    """Train networks by symmetric InfoNCE, and return the weights that rank held-out pairs best.

    A side without a network is left as it is. What a step sees depends on the seed and its number alone, so a run that
    goes on from a `State` that `keep` was given ends as it would have ended. Texts that are equal are all right for
    each other's images. Products are taken in bfloat16 where the processor multiplies it, the rest in float32.
    """
    return Run(networks, schedule, pairs, held, seed, device).run(progress, keep, resume)


class Run:
    """Hold what the steps of a training share."""

    def __init__(
        self,
        networks: Networks,
        schedule: Schedule,
        pairs: Pairs,
        held: Pairs,
        seed: int,
        device: Device,
    ) -> None:
        self.schedule, self.pairs, self.held, self.seed, self.device = schedule, pairs, held, seed, device
        self.model = nn.ModuleDict({str(side): network for side, network in networks.items()}).to(device)
        self.heat = nn.Parameter(torch.tensor(math.log(TEMPERATURE), device=device))
        flat = [weight for weight in self.model.parameters() if weight.ndim < 2]
        deep = [weight for weight in self.model.parameters() if weight.ndim >= 2]
        shrunk = [{"params": deep, "weight_decay": schedule.decay or 0.0}]
        free = [{"params": [*flat, self.heat], "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW([*shrunk, *free], lr=schedule.rate)
        self.images, self.texts = (pairs.reader(side, device) for side in SIDES)
        self.looks: list[Look] = []
        self.best: dict[str, Float32] = {}

    def run(
        self,
        progress: Callable[[Look], None],
        keep: Callable[[State], None],
        resume: Mapping[str, NDArray[Any]] | None,
    ) -> Trained:
        """Take the steps that are left."""
        started, loss = time.perf_counter(), 0.0
        first = self.restore(resume) if resume else 0
        between = max(1, self.schedule.steps // LOOKS)
        with seeds(self.device):
            for step in range(first, self.schedule.steps):
                if self.settled():
                    break
                loss = self.step(step)
                if (step + 1) % between == 0 or step + 1 == self.schedule.steps:
                    self.look(step + 1, loss)
                    progress(self.looks[-1])
                    keep(self.state(step + 1))
        return Trained(self.best, tuple(self.looks), time.perf_counter() - started)

    def settled(self) -> bool:
        """Tell whether the last looks brought nothing better."""
        ranks = [look.rank for look in self.looks]
        return len(ranks) > PATIENCE and max(ranks[-PATIENCE:]) <= max(ranks[:-PATIENCE])

    def step(self, step: int) -> float:
        """Take one step; return its loss."""
        torch.manual_seed((self.seed << 32) + step)  # of the dropout
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate_at(step)
        image, text, same = self.batch(np.random.default_rng([self.seed, step]))
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda" or multiplies_bfloat16()):
            x, y = self.project("image", *image), self.project("text", *text)
            cosines = x @ y.T
        loss = contrast(cosines.float() / self.heat.exp(), same)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        with torch.no_grad():
            self.heat.clamp_(math.log(COLDEST), math.log(HOTTEST))
        return float(loss.detach())

    def batch(self, random: np.random.Generator) -> tuple[Inputs, Inputs, Int64]:
        """Draw b images, one text of each, and which texts are equal [b]."""
        if not self.schedule.mixed:
            rows = random.permutation(len(self.pairs))[: self.schedule.batch]
            texts = self.pairs.drawn(rows, random)
            return self.images(rows), self.texts(texts), self.pairs.same[texts]
        half = min(self.schedule.batch, len(self.pairs) // 2)
        rows = random.permutation(len(self.pairs))[: 2 * half]
        texts = self.pairs.drawn(rows, random)
        share = float(random.beta(1, 1))
        image, text = (tuple(mixed(each, share) for each in every) for every in (self.images(rows), self.texts(texts)))
        one, other = self.pairs.same[texts][:half], self.pairs.same[texts][half:]
        return image, text, one * len(self.pairs.texts) + other

    def project(self, side: Side, *inputs: Tensor) -> Tensor:
        """Bring b inputs into the common space [b, s], to unit length."""
        made = self.model[side](*inputs) if side in self.model else inputs[0]
        return functional.normalize(made.float(), dim=-1)

    def look(self, step: int, loss: float) -> None:
        """Rank the held-out pairs, and remember the weights if they do it better than any before."""
        self.model.eval()
        with torch.inference_mode():
            x, y = self.projected("image", len(self.held.images)), self.projected("text", len(self.held.texts))
        self.model.train()
        rank, recall = ranked(x @ y.T, self.held)
        if not self.looks or rank > max(look.rank for look in self.looks):
            self.best = self.weights()
        self.looks.append(Look(step, self.schedule.steps, loss, rank, recall))

    def projected(self, side: Side, count: int) -> Float32:
        """Project all held-out rows of a side [count, s]."""
        read, step = self.held.reader(side, self.device), self.held.portion
        portions = (np.arange(start, min(start + step, count)) for start in range(0, count, step))
        return np.concatenate([self.project(side, *read(rows)).cpu().numpy() for rows in portions])

    def weights(self) -> dict[str, Float32]:
        """Copy the weights."""
        return {name: weight.detach().cpu().numpy().copy() for name, weight in self.model.state_dict().items()}

    def state(self, step: int) -> State:
        """Return everything that training goes on from."""
        found: State = {"step": np.array([step]), "heat": self.heat.detach().cpu().numpy().reshape(1).copy()}
        found["looks"] = np.array([[each.step, each.loss, each.rank, each.recall] for each in self.looks])
        found |= {f"weights.{name}": value for name, value in self.weights().items()}
        found |= {f"best.{name}": value for name, value in self.best.items()}
        for at, moments in self.optimiser.state_dict()["state"].items():
            found |= {f"moments.{at}.{name}": value.cpu().numpy().copy() for name, value in moments.items()}
        return found

    def restore(self, state: Mapping[str, NDArray[Any]]) -> int:
        """Go back to where a state was kept; return how many steps were done."""

        def under(prefix: str) -> dict[str, Tensor]:
            named = {name: value for name, value in state.items() if name.startswith(prefix)}
            return {name[len(prefix) :]: torch.from_numpy(np.array(value)) for name, value in named.items()}

        self.model.load_state_dict(under("weights."))
        self.best = {name: value.numpy() for name, value in under("best.").items()}
        self.looks = [
            Look(int(step), self.schedule.steps, loss, rank, recall)
            for step, loss, rank, recall in state["looks"].tolist()
        ]
        with torch.no_grad():
            self.heat.copy_(torch.from_numpy(np.array(state["heat"])).reshape(()))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in under("moments.").items():
            at, _, which = name.partition(".")
            moments.setdefault(int(at), {})[which] = value.reshape(()) if which == "step" else value
        held = self.optimiser.state_dict()
        heat = len(list(self.model.parameters()))  # the last of the parameters has no dimensions
        moments[heat] = {name: value.reshape(()) for name, value in moments[heat].items()}
        self.optimiser.load_state_dict({**held, "state": moments})
        return int(state["step"][0])


@contextmanager
def seeds(device: Device) -> Iterator[None]:
    """Leave torch's own random numbers as they were."""
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices):
        yield
