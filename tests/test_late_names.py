"""Names of packages that are imported when they are first used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

PACKAGES = ["asif", "asif.building", "asif.engine", "asif.pairs"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_found(package: str) -> None:
    module = import_module(package)
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_other_names_are_attribute_errors(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        import_module(package).nonsense  # noqa: B018


def test_a_name_imports_its_module_alone() -> None:
    code = "import sys; from asif.pairs import PairRecord; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(ran.stdout.split())
    assert "asif.pairs.pair" in imported
    assert not {"asif.pairs.open", "asif.pairs.parquet", "asif.pairs.records"} & imported


@pytest.mark.parametrize("name", ["asif.engine.engine", "asif.engine.search.search", "asif.cli.search"])
def test_what_answers_calls_imports_no_model_library(name: str) -> None:
    code = f"import sys, {name}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "timm", "transformers", "faiss", "pyarrow", "scipy"} & set(ran.stdout.split())
