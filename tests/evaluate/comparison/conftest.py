"""A set of 60 pairs with encoders that hash, trained methods that take moments, and two small data sets."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.comparison_sets import QUICK
from support.engine_sets import fake_image, fake_text, make_set

from asif.evaluate.comparison.methods import TRAINED_SETTINGS


@pytest.fixture
def toys(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: fake_image())
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: fake_text())
    for name, settings in QUICK.items():
        monkeypatch.setitem(TRAINED_SETTINGS, name, settings)
    make_set(home, count=60)
    return home


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    images = [{"bytes": f"image {at}".encode(), "path": None} for at in range(12)]
    captions = [[f"caption {at} {number}" for number in range(2)] for at in range(12)]
    pq.write_table(pa.table({"image": images, "captions": captions}), tmp_path / "captioned.parquet")
    return tmp_path / "captioned.parquet"


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    images = [{"bytes": f"picture {at}".encode(), "path": None} for at in range(14)]
    labels = [["cat", "dog", "cow", "hen", "fox", "owl", "bee"][at % 7] for at in range(14)]
    pq.write_table(pa.table({"image": images, "label": labels}), tmp_path / "labelled.parquet")
    return tmp_path / "labelled.parquet"
