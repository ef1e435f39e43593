"""Timing for the GPU benchmark, and the device's highest rates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

RUNS = 30
GIB = 2**30


def seconds(action: Callable[[], Any], device: torch.device, budget: float) -> float:
    """Return the median of up to RUNS runs within `budget` seconds, after one that compiles and warms up.

    A run ends when the device has finished, because a caller waits for that, too.
    """
    action()
    taken: list[float] = []
    while not taken or (sum(taken) < budget and len(taken) < RUNS):
        settle(device)
        started = time.perf_counter()
        action()
        settle(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def settle(device: torch.device) -> None:
    """Wait until the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ceilings(device: torch.device, small: bool) -> dict[str, float]:
    """Measure upper limits: bytes read and written per second by a copy, operations per second of a bf16 product."""
    size, side = (2**20, 256) if small else (4 * GIB, 8192)
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    left, right = (torch.randn(side, side, device=device).to(torch.bfloat16) for _ in range(2))
    copy = seconds(lambda: target.copy_(source), device, 1.0)
    product = seconds(lambda: left @ right.T, device, 1.0)
    return {"bytes": 2 * size / copy, "bf16": 2 * side**3 / product}
