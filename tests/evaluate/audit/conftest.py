"""An anchor set with planted faults, and its audit."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.audit_results import OPTIONS
from support.audit_sets import Planted, planted

from asif.engine import Engine
from asif.evaluate.audit import AuditResult, audit


@pytest.fixture(scope="session")
def faults() -> Planted:
    return planted()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, faults: Planted) -> Path:
    home = tmp_path_factory.mktemp("audit")
    faults.build(home)
    return home


@pytest.fixture(scope="session")
def audited(store: Path) -> AuditResult:
    return audit(Engine("planted", home=store), options=OPTIONS)
