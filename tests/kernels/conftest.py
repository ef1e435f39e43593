"""What tests of the kernels share: the build that compiles them."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
from support.paths import ROOT

T = TypeVar("T")


class Hook(Generic[T]):
    """What hatchling's BuildHookInterface is to the build: hatchling itself is there only while a wheel is made."""

    target_name = "wheel"

    def __init__(self, root: Path) -> None:
        self.root, self.warnings = str(root), list[str]()
        self.app = types.SimpleNamespace(display_warning=self.warnings.append)


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import hatch_build.py."""
    name = "hatchling.builders.hooks.plugin.interface"
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(BuildHookInterface=Hook))
    for parent in ("hatchling", "hatchling.builders", "hatchling.builders.hooks", "hatchling.builders.hooks.plugin"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
