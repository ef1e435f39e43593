"""Exported models in onnxruntime, on the CPU. The door to onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from asif.encoders.backends.runtime import Session
from asif.vectors import Float32


def open_session(model: Path, threads: int) -> Session:
    """Open a model on `threads` threads; its weights are read into memory."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # onnxruntime does not read OMP_NUM_THREADS
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the processor
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(inputs: NDArray[Any]) -> Float32:
        vectors: Float32 = session.run(None, {name: inputs})[0]
        return vectors

    return run
