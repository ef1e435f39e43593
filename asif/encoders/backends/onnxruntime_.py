"""Exported and quantised models in onnxruntime, on the CPU. The door to onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.encoders.backends.runtime import Session
from asif.vectors import Float32

QuantisedSession = Callable[[Mapping[str, NDArray[np.int64]]], Float32]
"""Runs a model: its inputs by name to its first output. Safe to call from several threads."""


def open_session(model: Path, threads: int) -> Session:
    """Open a model on `threads` threads; its weights are read into memory."""
    session = _open(model, threads)
    name = session.get_inputs()[0].name

    def run(inputs: NDArray[Any]) -> Float32:
        vectors: Float32 = session.run(None, {name: inputs})[0]
        return vectors

    return run


def open_quantised_session(model: Path) -> QuantisedSession:
    """Open a model of int8 weights; a call runs on the thread that makes it."""
    session = _open(model, threads=1)

    def run(inputs: Mapping[str, NDArray[np.int64]]) -> Float32:
        found: Float32 = session.run(None, dict(inputs))[0]
        return found

    return run


def _open(model: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # onnxruntime does not read OMP_NUM_THREADS
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the processor
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
