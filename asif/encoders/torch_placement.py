"""Where and how a model runs on torch: device, precision, and the settings that decide its last bits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from asif.encoders.precision import Precision, check_precision
from asif.encoders.torch_common import Device, pick_device
from asif.errors import UsageError

_log = logging.getLogger(__name__)

_IMAGES_ON_CPU = 4
"""Images per forward pass: 4 take as long per image as 16, and 64 do not fit into the cache."""
_IMAGES_ON_CUDA = (128, 64, 32, 16, 8)
_FIXED_IMAGES_ON_CUDA = 64
_PASSES_ON_CUDA = 4
_SLOW_IN_BFLOAT16 = ("AVX2", "DEFAULT", "NO AVX")
"""Instructions that torch names, of processors on which it has no fast products and convolutions in bfloat16."""
_BYTES_PER_PIXEL = 1024
"""What a pass needs for each pixel of each image, roughly; passes are halved where it is more."""


@dataclass(frozen=True)
class TorchPlacement:
    """Hold the device and the precision of a model. Its weights stay float32: autocast rounds what layers read."""

    device: Literal["cpu", "cuda"]
    precision: Precision = "float32"

    @property
    def is_exact(self) -> bool:
        """Tell whether the model computes in float32, so that passes of other sizes change last bits only."""
        return self.precision == "float32"

    @property
    def passes_per_call(self) -> int:
        """Return how many passes suit one call: several where the inputs of one are moved while another is computed."""
        return _PASSES_ON_CUDA if self.device == "cuda" else 1

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Set all that decides what a model computes here, and restore it. To be entered with MODEL_LOCK held."""
        import torch

        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(_fixed_numerics())
            if not self.is_exact:
                stack.enter_context(torch.autocast(self.device, getattr(torch, self.precision)))
            yield

    def describe(self, **passes: int) -> dict[str, Any]:
        """Return the fields of a fingerprint; in float32 neither the device nor the size of `passes` is one.

        >>> TorchPlacement("cuda").describe(images_per_pass=64)
        {'dtype': 'float32', 'backend': 'torch'}
        """
        fields: dict[str, Any] = {"dtype": self.precision, "backend": "torch"}
        if self.is_exact:
            return fields
        return {**fields, "backend_version": metadata.version("torch"), "device": self.device, **passes}

    def choose_images_per_pass(self, pixels: int) -> int:
        """Return how many images of `pixels` pixels a pass takes.

        On a CUDA device it is what fits into a quarter of its whole memory, not of what is free now: that would change
        last bits from one run to the next. Below float32 it is one number everywhere, because it changes more than last
        bits.
        """
        if self.device == "cpu":
            return _IMAGES_ON_CPU
        if not self.is_exact:
            return _FIXED_IMAGES_ON_CUDA
        import torch

        room = torch.cuda.get_device_properties(0).total_memory // 4
        fitting = (count for count in _IMAGES_ON_CUDA if count * pixels * _BYTES_PER_PIXEL <= room)
        return next(fitting, _IMAGES_ON_CUDA[-1])


def choose_placement(device: Device, precision: Precision = "float32") -> TorchPlacement:
    """Find the device, and check that it computes in a precision; raises UsageError.

    Logs that bfloat16 is slow on a processor where torch emulates it.
    """
    import torch

    check_precision(precision)
    placement = TorchPlacement(pick_device(device), precision)
    check_placement(placement)
    instructions = torch.backends.cpu.get_cpu_capability()
    if placement == TorchPlacement("cpu", "bfloat16") and instructions in _SLOW_IN_BFLOAT16:
        _log.warning(
            "torch emulates bfloat16 on this processor (%s): it is many times slower than float32", instructions
        )
    return placement


def check_placement(placement: TorchPlacement) -> None:
    """Raise UsageError for a precision that the device does not compute in."""
    import torch

    if placement.device == "cpu" and placement.precision == "float16":
        raise UsageError(
            "the precision is float16 on the CPU",
            "float32 or bfloat16 on the CPU, float16 on a CUDA device only",
            "leave --precision out, or pass --precision bfloat16",
        )
    is_bfloat16 = placement.device == "cuda" and placement.precision == "bfloat16"
    if is_bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UsageError(
            f"the precision is bfloat16 on {torch.cuda.get_device_name(0)}, which does not compute in it",
            "float32 or float16 on this device, bfloat16 from compute capability 8.0 on",
            "leave --precision out, or pass --precision float16",
        )


@contextmanager
def _fixed_numerics() -> Iterator[None]:
    """Set what decides the bits of products and convolutions in the whole process, and restore it.

    Float32 stays float32: by default torch lets convolutions on CUDA devices round their inputs to TF32 (10 bits of
    mantissa), and a program may allow TF32 or bfloat16 for products, on the CPU as well. Vectors would differ from
    those of the CPU in the third digit, under the same fingerprint. Algorithms are not chosen by timing them.
    """
    settings = _list_numerics()
    before = [getattr(place, name) for place, name, _ in settings]
    try:
        for place, name, value in settings:
            setattr(place, name, value)
        yield
    finally:
        for (place, name, _), value in zip(settings, before, strict=True):
            setattr(place, name, value)


def _list_numerics() -> list[tuple[Any, str, Any]]:
    """List settings of torch: (where, name, value)."""
    import torch

    cudnn, matmul, mkldnn = torch.backends.cudnn, torch.backends.cuda.matmul, torch.backends.mkldnn
    products: list[tuple[Any, str, Any]]
    if hasattr(matmul, "fp32_precision"):  # from torch 2.9 on
        places: list[Any] = [matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv]  # type: ignore[attr-defined]
        products = [(place, "fp32_precision", "ieee") for place in places]
    else:
        products = [(matmul, "allow_tf32", False), (cudnn, "allow_tf32", False)]
    sums = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
    return [
        *products,
        *((matmul, name, False) for name in sums),
        (cudnn, "benchmark", False),
        (cudnn, "deterministic", True),
    ]
