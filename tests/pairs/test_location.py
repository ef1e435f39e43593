"""Paths and URLs of this machine: read as files, without fsspec."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.pair_files import table

from asif.errors import UsageError
from asif.pairs import open_pairs

pytestmark = pytest.mark.usefixtures("stores")


def test_a_file_url_is_a_path_here(tmp_path: Path) -> None:
    path = table(tmp_path / "a b.parquet", image=[b"first"], text=["a dog"])
    assert open_pairs(path.as_uri()).path == path
    assert open_pairs(path.as_uri()).identity == open_pairs(path).identity
    with pytest.raises(UsageError, match="another machine"):
        open_pairs("file://elsewhere/a.parquet")


def test_paths_here_do_not_import_fsspec(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", image=[b"x"], caption=["a"])
    code = (
        "import sys; from asif.pairs import open_pairs; rows = len(list(open_pairs(sys.argv[1]).read()));"
        "print(rows, 'fsspec' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, path.as_uri()], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["1", "False"]
