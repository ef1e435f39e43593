"""Stand-ins for the libraries of encoders: whole commands run offline, under any encoder's name, on real pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.build_fakes import TokenImages, TokenTexts

from asif.encoders.images import encode_pixels, read_image_bytes


class Photos(TokenImages):
    """Decode images as encoders do, from a path, bytes, or what is decoded already, as joined encoders pass it."""

    def prepare(self, source: Any) -> bytes:
        return super().prepare(encode_pixels(source) if hasattr(source, "getpixel") else read_image_bytes(source))


def make_image_encoder(name: str = "fake") -> Photos:
    return Photos(pictures=True, model=name)


def make_text_encoder(name: str = "fake") -> TokenTexts:
    return TokenTexts(model=name)


def replace_encoders(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    """Let every encoder be a stand-in of its name, and the weights of the embedded ones lie at a path."""
    for library, loader in (("timm_", "load_timm_encoder"), ("open_clip_", "load_image_tower")):
        monkeypatch.setattr(f"asif.encoders.{library}.{loader}", lambda name, *_: make_image_encoder(name))
    for library, loader in (("sentence_transformers_", "load_sentence_encoder"), ("open_clip_", "load_text_tower")):
        monkeypatch.setattr(f"asif.encoders.{library}.{loader}", lambda name, *_: make_text_encoder(name))
    quantised = "asif.encoders.backends.quantised.load_quantised_encoder"
    monkeypatch.setattr(quantised, lambda name, *_: make_text_encoder(name))
    monkeypatch.setattr("asif.encoders.embedded.EmbeddedWeights.find", lambda self: weights / "file")
