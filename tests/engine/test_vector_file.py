"""Files of precomputed vectors: those that are read, and those that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asif.engine import read_vectors
from asif.errors import BadEmbedding, UsageError


def write(path: Path, content: Any) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        with path.open("wb") as file:
            np.savez(file, **content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as .npy"),
        (b"", "cannot be read as .npy"),
        (b"\x93NUMPY\x01\x00", "cannot be read as .npy"),
        (b"\x80\x04K\x01.", "cannot be read as .npy"),
        ({"a": np.ones((2, 4))}, "cannot be read as .npy"),
        (np.array([object()]), "cannot be read as .npy"),
        (np.ones((2, 5)), "holds float64 [2, 5]"),
        (np.ones(4), "holds float64 [4]"),
        (np.ones((2, 4), np.int64), "holds int64 [2, 4]"),
    ],
)
def test_files_that_hold_no_vectors(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UsageError, match=r"x\.npy") as caught:
        read_vectors(write(tmp_path / "x.npy", content), 4, "image vectors")
    assert message in caught.value.came


def test_vectors_from_files(tmp_path: Path) -> None:
    for dtype in ("float16", "float32", "float64", ">f4"):
        found = read_vectors(write(tmp_path / "x.npy", np.array([[3, 4], [0, 2]], dtype)), 2, "vectors")
        np.testing.assert_allclose(found.values, [[0.6, 0.8], [0, 1]], rtol=0, atol=1e-7)
    assert len(read_vectors(write(tmp_path / "x.npy", np.empty((0, 2))), 2, "vectors")) == 0
    with pytest.raises(BadEmbedding, match="rows 1"):
        read_vectors(write(tmp_path / "x.npy", np.array([[1.0, 0], [0, np.nan]])), 2, "vectors")
