"""Exported models in OpenVINO, on the CPU. The door to OpenVINO."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.encoders.backends.runtime import Session
from asif.encoders.precision import Precision
from asif.vectors import Float32

_PRECISION_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}


def supports_bfloat16() -> bool:
    """Tell whether this processor computes in bfloat16; on others OpenVINO would compute in float32 without a word."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def open_session(model: Path, threads: int, precision: Precision = "float32") -> Session:
    """Open a model on `threads` threads; without the precision, OpenVINO would choose bfloat16 where there is AMX."""
    import openvino

    compiled = openvino.Core().compile_model(
        str(model),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _PRECISION_HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # other processes and the decoding threads use the same processors
        },
    )
    requests = threading.local()  # one request holds the inputs and outputs of one call

    def run(inputs: NDArray[Any]) -> Float32:
        if not hasattr(requests, "own"):
            requests.own = compiled.create_infer_request()
        return np.array(
            requests.own.infer([inputs])[compiled.output(0)], np.float32
        )  # a copy: the request keeps its own

    return run
