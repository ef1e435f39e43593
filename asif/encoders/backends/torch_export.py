"""Export a torch model to ONNX."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_OPSET = 17


class NotExportableError(Exception):
    """A model cannot be exported, for the reason given: torch runs it."""


def write_onnx(
    model: torch.nn.Module, example: torch.Tensor, path: Path, axes: Mapping[int, str], keep_weights: bool = False
) -> None:
    """Trace a model of one input and one output [n, dim] and write it as ONNX.

    `axes` {axis of the input: name} may have other sizes than in `example`; 0 is that of the output as well.
    `keep_weights` writes the weights as they are in the model; otherwise torch may merge layers. Raises
    NotExportableError, with the first line of torch's reason.
    """
    import torch

    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # of tracing: what it bakes in, the probe would find
            torch.onnx.export(
                model.eval(),
                (example,),
                str(path),
                dynamo=False,
                training=torch.onnx.TrainingMode.PRESERVE if keep_weights else torch.onnx.TrainingMode.EVAL,
                do_constant_folding=not keep_weights,
                opset_version=_OPSET,
                input_names=["inputs"],
                output_names=["vectors"],
                dynamic_axes={"inputs": dict(axes), "vectors": {0: axes[0]}},
            )
    except Exception as error:  # the exporter raises errors of any type
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise NotExportableError(f"torch cannot export it: {reason[:200]}") from error
    finally:
        quiet.setLevel(level)
