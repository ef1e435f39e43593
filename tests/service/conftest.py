"""Services over a small store, with encoders that hash what they are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support.services import make_config, make_grants, make_store, serve

from asif.engine import watcher


@pytest.fixture
def store(home: Path, hashing: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a store with sets and a gallery; engines load fake encoders and look often."""
    monkeypatch.setattr(watcher, "LOOK_SECONDS", 0.02)
    return make_store(home)


@pytest.fixture
def client(store: Path) -> Iterator[TestClient]:
    """Return a client of a service without keys."""
    with serve(make_config(store)) as client:
        yield client


@pytest.fixture
def guarded(store: Path) -> Iterator[TestClient]:
    """Return a client of a service with a key for each role."""
    with serve(make_config(store, grants=make_grants())) as client:
        yield client
