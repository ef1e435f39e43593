"""Engines over the set `toy`, whose encoders hash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine_sets import make_set

from asif.aligners import Hubness, make_aligner
from asif.engine import Engine


@pytest.fixture
def store(home: Path, hashing: None) -> Path:
    """Return a store with the set `toy`, whose encoders hash."""
    make_set(home).close()
    return home


ENGINES = [("asif", "none"), ("asif", "nnn"), ("cca", "nnn"), ("procrustes", "csls"), ("asif-paper", "none")]


@pytest.fixture(params=ENGINES, ids="+".join)
def engine(request: pytest.FixtureRequest, store: Path) -> Iterator[Engine]:
    aligner, hubness = request.param
    engine = Engine("toy", home=store, aligner=make_aligner(aligner), hubness=Hubness(hubness))
    yield engine
    engine.anchors.close()


@pytest.fixture
def toy(store: Path) -> Iterator[Engine]:
    engine = Engine("toy", home=store)
    yield engine
    engine.anchors.close()
