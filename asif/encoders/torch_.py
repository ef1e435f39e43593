"""What encoders on torch share: the device, and a hash over weights."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from asif.errors import UsageError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]

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
