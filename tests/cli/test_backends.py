"""`--backend` on the embedded encoders: equal answers, and no torch, not even in the first call."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.build_images import random_png

from asif.encoders.backends.runtime import list_runtimes

HEAVY = ("torch", "timm", "torchvision", "transformers", "sentence_transformers")
RUN = f"""
import sys
from asif.cli import main
try:
    main()
finally:
    print("heavy:", *(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)
"""

Run = Callable[..., tuple[Any, str]]


def run_asif_in(folder: Path, *arguments: str, **variables: str) -> tuple[Any, str]:
    """Run `asif` in a child process: what it prints as JSON, and its heavy libraries."""
    command = [sys.executable, "-c", RUN, *arguments]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    heavy = done.stderr.splitlines()[-1].removeprefix("heavy:").strip()
    return [json.loads(line) for line in done.stdout.splitlines()], heavy


@pytest.fixture(scope="module")
def run(head_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run `asif` over a copy of the store."""
    folder = tmp_path_factory.mktemp("backends")
    shutil.copytree(head_home, folder / "home")
    for name in ("one", "two"):
        (folder / f"{name}.png").write_bytes(random_png(len(name), 300, 200))

    def run_asif(*arguments: str, backend: str) -> tuple[Any, str]:
        return run_asif_in(folder, *arguments, ASIF_HOME=str(folder / "home"), ASIF_BACKEND=backend)

    return run_asif


def scores(lines: list[Any]) -> Any:
    return np.array([[each["score"] for each in sorted(line["predictions"], key=str)] for line in lines])


@pytest.mark.slow
def test_a_photo_is_classified_without_torch_once_the_models_are_exported(run: Run) -> None:
    """The store was made by torch: the first call with each encoder compares the backend with it."""
    if not list_runtimes():
        pytest.skip("neither onnxruntime nor openvino is installed")
    arguments = ["classify", "one.png", "two.png", "--labels", "a dog,a castle,a plate", "--json"]
    expected, heavy = run(*arguments, backend="torch")
    assert heavy.split() == list(HEAVY)
    for backend in list_runtimes():
        found, _ = run(*arguments, backend=backend)
        again, heavy = run(*arguments, backend=backend)
        assert heavy == ""
        run(*arguments[:4], f"a dog,a {backend}", "--json", backend=backend)
        new_labels, heavy = run(*arguments[:4], f"a dog,another {backend}", "--json", backend=backend)
        assert heavy == "" and len(new_labels) == 2
        assert np.abs(scores(found) - scores(expected)).max() < 1e-5
        assert np.array_equal(scores(found), scores(again))


@pytest.mark.slow
def test_the_first_photo_on_a_fresh_machine_is_classified_without_torch(run: Run, tmp_path: Path) -> None:
    """It builds imagenet-head with the graphs of the embedded encoders."""
    if not list_runtimes():
        pytest.skip("neither onnxruntime nor openvino is installed")
    arguments = ["classify", "one.png", "--labels", "a dog,a castle,a plate", "--json"]
    expected, _ = run(*arguments, backend="torch")
    (tmp_path / "one.png").write_bytes(random_png(3, 300, 200))
    homes = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "ASIF_HOME": str(tmp_path / "home")}
    found, heavy = run_asif_in(tmp_path, *arguments, **homes, ASIF_BACKEND=list_runtimes()[0], CUDA_VISIBLE_DEVICES="")
    assert heavy == ""
    assert np.abs(scores(found) - scores(expected)).max() < 1e-5
    assert len(list((tmp_path / "home" / "cache" / "exports").iterdir())) == 2
