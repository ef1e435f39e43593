"""The schedule of a training: batches, steps, and the learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Schedule:
    """Hold the batch size in pairs, the number of steps, learning rate and weight decay of a training.

    The rate rises over `warmup` steps, then falls along a cosine to `last` times its maximum. `mixed` batches are
    FuseMix's.
    """

    batch: int
    steps: int
    rate: float = 1e-3
    decay: float | None = None
    warmup: int = 20
    last: float = 0.0
    mixed: bool = False

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0.

        >>> plan = Schedule(batch=8, steps=100, rate=1.0, warmup=10)
        >>> plan.rate_at(0), plan.rate_at(9), round(plan.rate_at(55), 6), round(plan.rate_at(100), 6)
        (0.1, 1.0, 0.5, 0.0)
        """
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.rate * (self.last + (1 - self.last) * (1 + math.cos(math.pi * done)) / 2)

    def shorten(self, steps: int) -> Schedule:
        """Return the schedule in at most so many steps, with a warm-up of a tenth of them at most.

        >>> plan = Schedule(batch=8, steps=100, warmup=20)
        >>> plan.shorten(50).warmup, plan.shorten(50).steps, plan.shorten(200) == plan
        (5, 50, True)
        """
        if steps >= self.steps:
            return self
        return replace(self, steps=steps, warmup=min(self.warmup, steps // 10))
