"""Shared by encoders on torch: the device, a hash over weights, and forward passes of one size."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from asif.errors import OutOfSpace, UsageError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")
Device = Literal["auto", "cpu", "cuda"]

_log = logging.getLogger(__name__)

MODEL_LOCK = threading.Lock()
"""Held while a model runs: if several run at once, torch splits the work differently, which changes last bits."""


def pick_device(device: Device) -> Literal["cpu", "cuda"]:
    """Name the torch device: CUDA if requested or found by `auto`, the CPU otherwise."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "the device is cuda, but torch sees no CUDA device",
            "a CUDA device and a torch built for it",
            "use --device cpu, or check the driver with nvidia-smi",
        )
    return "cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda"


def hash_weights(model: torch.nn.Module, stable_name: Callable[[str], str] = str) -> str:
    """Hash every weight and buffer: names, shapes, bytes, sorted by name; `stable_name` maps changing names to one."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted((stable_name(name), tensor) for name, tensor in model.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {list(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass
class ForwardPasses:
    """Run inputs through a model in passes of `size`, which is halved when the device runs out of memory."""

    size: int
    least: int = 1

    def run(self, inputs: Sequence[T], forward: Callable[[list[T]], R]) -> Iterator[tuple[slice, R]]:
        """Yield, in order, the slice of inputs of each pass and what `forward` returned for them.

        Every pass has `size` inputs; the last one is padded with repetitions, whose results come last. Raises
        OutOfSpace if not even `least` inputs fit.
        """
        start = 0
        while start < len(inputs):
            some = inputs[start : start + self.size]
            result = self._run_one([some[at % len(some)] for at in range(self.size)], forward)
            if result is None:
                continue
            yield slice(start, start + len(some)), result
            start += len(some)

    def _run_one(self, full: list[T], forward: Callable[[list[T]], R]) -> R | None:
        """Run a pass; None if memory ran out, after halving `size`."""
        import torch

        try:
            return forward(full)
        except torch.OutOfMemoryError as error:
            if self.size <= self.least:
                raise OutOfSpace(
                    f"the memory of the device ran out with {self.size} inputs in a pass",
                    "room for the model and for one pass",
                    "free some on the device, choose a smaller encoder, or pass --device cpu",
                ) from error
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # nothing of the failed pass is in flight when the next one begins
            torch.cuda.empty_cache()
        self.size = max(self.least, self.size // 2)
        _log.info("the memory of the device ran out: %d inputs in a pass from here on", self.size)
        return None
