"""What encoders on torch share: the device, and a hash over weights."""

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

ONE_AT_A_TIME = threading.Lock()
"""Held while a model runs: with several at once, torch splits the work otherwise and last bits change."""


def pick_device(device: Device) -> Literal["cpu", "cuda"]:
    """Name the torch device: CUDA where asked for or found by `auto`, the CPU otherwise."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "the device is cuda, but torch sees no CUDA device",
            "a CUDA device and a torch built for it",
            "use --device cpu, or check the driver with nvidia-smi",
        )
    return "cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda"


def weights_sha256(model: torch.nn.Module, known_as: Callable[[str], str] = str) -> str:
    """Hash every weight and buffer: names, shapes and bytes in order of name; `known_as` maps names to lasting ones."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted((known_as(name), tensor) for name, tensor in model.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {list(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass
class Passes:
    """Run inputs through a model, `size` in every pass: half as many from where the device runs out of memory."""

    size: int
    least: int = 1

    def of(self, inputs: Sequence[T], run: Callable[[list[T]], R]) -> Iterator[tuple[slice, R]]:
        """Yield which inputs a pass was for, and what `run` made of it, in order.

        Every pass is full, the last one filled up with repetitions, whose results come after those that count. Raises
        OutOfSpace where not even `least` inputs fit.
        """
        start = 0
        while start < len(inputs):
            some = inputs[start : start + self.size]
            made = self._run([some[at % len(some)] for at in range(self.size)], run)
            if made is None:
                continue
            yield slice(start, start + len(some)), made
            start += len(some)

    def _run(self, full: list[T], run: Callable[[list[T]], R]) -> R | None:
        """Run a pass; None where there was no room, and the next one is half as large."""
        import torch

        try:
            return run(full)
        except torch.OutOfMemoryError as error:
            if self.size <= self.least:
                raise OutOfSpace(
                    f"the memory of the device ran out with {self.size} inputs in a pass",
                    "room for the model and for one pass",
                    "free some on the device, choose a smaller encoder, or pass --device cpu",
                ) from error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.size = max(self.least, self.size // 2)
        _log.info("the memory of the device ran out: %d inputs in a pass from here on", self.size)
        return None
