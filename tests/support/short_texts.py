"""A text encoder that reads eight words of a text, and English only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from support.engine_sets import TEXT_DIM, Fake

from asif.encoders.protocol import TokenizedText
from asif.vectors import Float32

MOST_WORDS = 8


class ShortTexts(Fake):
    """Hash the first eight words; `tokenized` gets every text of which the tokens were requested."""

    is_english_only = True

    def __init__(self) -> None:
        super().__init__(TEXT_DIM, "sentence-transformers:short", {"model": "short", "max_tokens": MOST_WORDS})
        self.tokenized: list[str] = []

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        self.tokenized += texts
        ids = [[int(hashlib.sha256(word.encode()).hexdigest()[:8], 16) for word in text.split()] for text in texts]
        return [TokenizedText(tuple(some[:MOST_WORDS]), is_cut=len(some) > MOST_WORDS) for some in ids]

    def forward(self, inputs: Sequence[bytes | str]) -> Float32:
        return super().forward([" ".join(str(text).split()[:MOST_WORDS]) for text in inputs])
