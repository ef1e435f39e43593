"""Stores that the tests of the format read, and copies of them to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.anchorset_sets import build, pairs

from asif.pairs.pair import Reject


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold two versions with rejects, one of them in float32."""
    root = tmp_path_factory.mktemp("pristine")
    build(root, [*pairs(6), Reject(6, "x", "image is null")])
    build(root, [*pairs(9), Reject(9, None, "caption is empty")], dtype="float32")
    return root


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    """Hold a copy to spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "store"))
