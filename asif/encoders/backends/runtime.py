"""The runtimes that can run an exported model, by name, and which of them `auto` uses."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from asif.encoders.precision import Precision
from asif.errors import MissingDependency, UsageError
from asif.kernels.native_binding import count_threads
from asif.vectors import Float32

Backend = Literal["auto", "torch", "onnx", "openvino"]
Runtime = Literal["onnx", "openvino"]
Session = Callable[[NDArray[Any]], Float32]
"""Runs a model: its one input [n, …] to its one output [n, dim]. Safe to call from several threads."""

BACKENDS: tuple[Backend, ...] = get_args(Backend)


@dataclass(frozen=True)
class _Package:
    """Hold the distribution and the module of a runtime, and the extra that installs it."""

    distribution: str
    module: str
    extra: str


_PACKAGES: dict[Runtime, _Package] = {
    "openvino": _Package("openvino", "openvino", "openvino"),
    "onnx": _Package("onnxruntime", "onnxruntime", "onnx"),
}
"""In the order of `auto`: OpenVINO was the faster one on all processors measured, see bench/RESULTS.md."""
RUNTIMES = tuple(_PACKAGES)


def find_version(runtime: Runtime) -> str | None:
    """Return the version of an installed runtime; None if it is not installed. Imports nothing of it."""
    try:
        return metadata.version(_PACKAGES[runtime].distribution)
    except metadata.PackageNotFoundError:
        return None


def list_runtimes() -> list[Runtime]:
    """List the installed runtimes in the order in which `auto` prefers them."""
    return [name for name in _PACKAGES if find_version(name) is not None]


def check_backend(backend: str) -> None:
    """Raise UsageError for a name that is no backend, MissingDependency for a runtime that is not installed."""
    if backend not in BACKENDS:
        raise UsageError(f"the backend is {backend!r}", f"one of {', '.join(BACKENDS)}", "leave it out: auto finds one")
    if backend in _PACKAGES:
        name: Runtime = backend
        if find_version(name) is None:
            package = _PACKAGES[name]
            raise MissingDependency(
                f"the backend is {backend}, and {package.distribution} is not installed",
                f"the package {package.distribution}",
                f"pip install 'asif-engine[{package.extra}]', or leave out --backend",
            )


def list_precisions(runtime: Runtime) -> list[Precision]:
    """List the precisions in which a runtime computes on this processor; imports OpenVINO to find out."""
    if runtime == "openvino":
        from asif.encoders.backends import openvino_

        return ["float32", "bfloat16"] if openvino_.supports_bfloat16() else ["float32"]
    return ["float32"]


def can_compute(runtime: Runtime, precision: Precision) -> bool:
    """Tell whether a runtime computes in a precision on this processor."""
    return precision == "float32" or precision in list_precisions(runtime)


def check_runtime_precision(runtime: Runtime, precision: Precision) -> None:
    """Raise UsageError for a precision in which a runtime does not compute on this processor."""
    if can_compute(runtime, precision):
        return
    here = " on this processor" if runtime == "openvino" and precision == "bfloat16" else ""
    raise UsageError(
        f"the precision is {precision}, in which {_PACKAGES[runtime].distribution} does not compute{here}",
        f"one of {', '.join(list_precisions(runtime))} with the backend {runtime}",
        "leave --precision out, or pass --backend torch: bfloat16 anywhere, float16 on a CUDA device",
    )


def open_session(runtime: Runtime, model: Path, precision: Precision = "float32") -> Session:
    """Open an ONNX model with a runtime, in a precision, on the threads of this process."""
    if runtime == "openvino":
        from asif.encoders.backends import openvino_

        return openvino_.open_session(model, count_threads(), precision)
    from asif.encoders.backends import onnxruntime_

    return onnxruntime_.open_session(model, count_threads())


def run_in_passes(inputs: Sequence[NDArray[Any]], size: int, session: Session) -> Float32:
    """Run inputs, of one shape, in passes of `size`: [n, dim]; the last one is padded with repetitions.

    Passes of one size make a vector independent of the other inputs: other sizes are summed in another order.
    """
    outputs = []
    for start in range(0, len(inputs), size):
        some = inputs[start : start + size]
        full = np.stack([some[at % len(some)] for at in range(size)])
        outputs.append(session(full)[: len(some)])
    return np.concatenate(outputs)


@cache
def is_cuda_present() -> bool:
    """Tell whether there is a CUDA device, without importing torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
