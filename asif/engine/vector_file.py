"""Read files of precomputed vectors, for anchor sets of precomputed vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from asif.errors import UsageError
from asif.vectors import Embeddings


def read_vectors(path: Path, dim: int, what: str) -> Embeddings:
    """Read vectors [n, dim] from a .npy file, normalised to unit rows; raises UsageError for other shapes."""
    try:
        values = np.lib.format.open_memmap(path, mode="r")  # never unpickles
    except (OSError, ValueError, EOFError) as error:
        message = f"{path} cannot be read as .npy ({error})"
        raise UsageError(message, f"{what} [n, {dim}]", "save it with numpy.save") from error
    if values.ndim != 2 or values.shape[1] != dim or values.dtype.kind != "f":
        raise UsageError(
            f"{path} holds {values.dtype} {list(values.shape)}",
            f"{what}, floating point [n, {dim}]",
            "use vectors from the encoder that made the anchors",
        )
    return Embeddings.from_raw(values)
