"""`asif encoders` in this process, encoders that load, and pairs for them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from support.encoder_pairs import Meaning, write
from support.engine_sets import IMAGE_DIM, TEXT_DIM
from support.running import Cli


@pytest.fixture
def encoders(cli: Cli) -> Cli:
    """Run `asif encoders` in this process."""
    return partial(cli, "encoders")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Meaning]:
    """Let encoders load: `timm:<noise>` and `sentence-transformers:<noise>`; returns them by spec."""
    found: dict[str, Meaning] = {}

    def load(spec: str, dim: int) -> Meaning:
        noise = float(spec.partition(":")[2])
        found[spec] = Meaning(dim, spec, {"model": spec}, 4, noise)
        return found[spec]

    monkeypatch.setattr("asif.evaluate.encoder_pairs.embed.load_image_encoder", lambda spec, *_: load(spec, IMAGE_DIM))
    monkeypatch.setattr("asif.evaluate.encoder_pairs.embed.load_text_encoder", lambda spec, *_: load(spec, TEXT_DIM))
    return found


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Write 60 pairs of two captions: a folder with metadata.jsonl."""
    return write(tmp_path / "sixty", [f"{at} a picture" for at in range(60)])
