"""Tokens of pairs, written with the fake encoders, and what they have to be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.build_fakes import ListSource, TokenImages, TokenTexts, draw_rows, draw_vector

from asif.anchorset.tokens.pair_tokens import PairTokens
from asif.rivals import token_encoding
from asif.rivals.token_encoding import tokens_from_pairs
from asif.vectors import Fingerprint, Float32, Side


def round_to_half(values: Float32) -> Float32:
    return values.astype(np.float16).astype(np.float32)


def assert_tokens_match(found: PairTokens, source: ListSource, rows: Sequence[int]) -> None:
    """Compare with what each pair and each caption gives by itself."""
    pairs = [pair for row, pair in enumerate(source.items) if row in rows]
    assert [record.captions for record in found.records] == [pair.captions for pair in pairs]  # type: ignore[union-attr]
    images = found.image.read(range(len(pairs)))
    texts = found.text.read(range(len(found.text)))
    assert images.mask.all() and images.values.shape == (len(pairs), 4, 5)
    captions = [(at, caption) for at, pair in enumerate(pairs) for caption in pair.captions]  # type: ignore[union-attr]
    assert found.owners.tolist() == [at for at, _ in captions]
    for at, pair in enumerate(pairs):
        content: Any = pair.image  # type: ignore[union-attr]
        assert np.array_equal(images.values[at], round_to_half(draw_rows(content, 4, 5)))
        assert np.array_equal(images.pooled[at], draw_vector(content, "image"))
    for at, (_, caption) in enumerate(captions):
        words = len(caption.split())
        assert texts.mask[at].tolist() == [True] * words + [False] * (texts.mask.shape[1] - words)
        assert np.array_equal(texts.values[at][:words], round_to_half(draw_rows(caption.encode(), words, 3)))
        assert not texts.values[at][words:].any()
        assert np.array_equal(texts.pooled[at], draw_vector(caption.encode(), "text"))


def write_pair_tokens(source: Any, path: Path, **options: Any) -> PairTokens:
    image, text = options.pop("image", None) or TokenImages(), options.pop("text", None) or TokenTexts()
    return tokens_from_pairs(source, image, text, path, **options)


def fingerprints() -> dict[Side, Fingerprint]:
    return {"image": TokenImages().fingerprint, "text": TokenTexts().fingerprint}


def read_folder(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def shrink_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let segments have 8 rows, and batches of texts 3."""
    monkeypatch.setattr(token_encoding, "TOKEN_SEGMENT_ROWS", 8)
    monkeypatch.setattr(token_encoding, "_TEXT_BATCH", 3)
