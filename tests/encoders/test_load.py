"""Encoders by name: which names are known, and what other names and missing libraries give."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from asif.encoders import check_spec, load_head, load_image_encoder, load_text_encoder, sentence_transformers_, timm_
from asif.errors import MissingDependency, UsageError
from asif.vectors import Side

IMAGE, TEXT = "embedded:efficientnet-lite0", "embedded:all-minilm-l6-v2"


@pytest.mark.parametrize(
    ("spec", "side"),
    [
        ("timm:resnet50", "image"),
        ("timm:resnet50.a1_in1k@main", "image"),
        ("timm:local-dir:/models/x", "image"),
        (IMAGE, "image"),
        ("sentence-transformers:org/model@abc", "text"),
        (TEXT, "text"),
    ],
)
def test_names_of_the_family(spec: str, side: Side) -> None:
    check_spec(spec, side)
    with pytest.raises(UsageError):
        check_spec(spec, "text" if side == "image" else "image")


@pytest.mark.parametrize(
    ("spec", "side", "near"),
    [
        ("tim:resnet50", "image", "timm:resnet50"),
        ("TIMM:resnet50", "image", "timm:resnet50"),
        ("embedded:efficientnet-lite", "image", IMAGE),
        ("embeded:all-minilm-l6-v2", "text", TEXT),
        ("sentence_transformers:org/model", "text", "sentence-transformers:org/model"),
        ("openclip:ViT-B-32/openai", "text", "open-clip:ViT-B-32/openai"),
    ],
)
def test_the_nearest_name_is_suggested(spec: str, side: Side, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_spec(spec, side)
    assert caught.value.fix == f"write {near}, if you meant that"


@pytest.mark.parametrize("spec", ["", "timm", "timm:", "resnet50", "embedded:", "embedded:resnet50"])
@pytest.mark.parametrize("load", [load_image_encoder, load_head, load_text_encoder])
def test_other_names_are_refused(load: Callable[[str], Any], spec: str) -> None:
    side, example = ("text", TEXT) if load is load_text_encoder else ("image", IMAGE)
    with pytest.raises(UsageError) as caught:
        load(spec)
    assert caught.value.came == f"the {side} encoder is {spec!r}"
    assert example in caught.value.expected
    assert caught.value.fix == f"for example {example}"


@pytest.mark.parametrize(
    ("module", "use"),
    [("timm", timm_.import_timm), ("sentence_transformers", sentence_transformers_.import_sentence_transformers)],
)
def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, module: str, use: Callable[[], Any]) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency) as caught:
        use()
    assert caught.value.fix == f"pip install {module.replace('_', '-')}"
