"""Exported models in OpenVINO, on the CPU. The door to OpenVINO."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.encoders.backends.runtime import Session
from asif.vectors import Float32


def open_session(model: Path, threads: int) -> Session:
    """Open a model on `threads` threads, in float32: on processors with AMX, OpenVINO would choose bfloat16."""
    import openvino

    compiled = openvino.Core().compile_model(
        str(model),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",
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
