"""Tokens to train on: read from the disk for every batch, never all at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.tokens.pair_tokens import PairTokens
from asif.errors import InputRefused
from asif.pairs.pair import PairRecord
from asif.rivals.training_pairs import Dims, Pairs, Reader
from asif.vectors import Int64, Side, Tokens


@dataclass(frozen=True)
class TokenPairs(Pairs):
    """Hold which rows of `tokens` are trained on: `images` [n] and `texts` [m]."""

    images: Int64
    texts: Int64
    tokens: PairTokens
    portion: ClassVar[int] = 64

    @classmethod
    def of(cls, tokens: PairTokens, anchors: Iterable[PairRecord]) -> tuple[TokenPairs, int]:
        """Take the tokens of anchors, and count the anchors that have none.

        Images of equal content are one image with several texts.
        """
        found, missing = [np.empty(0, np.int64)], 0
        for record in anchors:
            try:
                found.append(tokens.find_text_rows(record))
            except InputRefused:
                missing += 1
        texts = np.unique(np.concatenate(found))
        first: dict[str, int] = {}
        contents = [tokens.records[row].image_sha256 for row in tokens.owners[texts]]
        for row, content in zip(tokens.owners[texts].tolist(), contents, strict=True):
            first.setdefault(content, row)
        number = {content: at for at, content in enumerate(first)}
        owners = np.array([number[content] for content in contents], np.int64)
        order = np.argsort(owners, kind="stable")
        return cls(np.array(list(first.values()), np.int64), texts[order], owners[order], tokens), missing

    @property
    def dims(self) -> Dims:
        image, text = self.tokens.image, self.tokens.text
        return {"image": image.values.shape[1], "text": text.values.shape[1], "pooled": image.pooled.shape[1]}

    @cached_property
    def same(self) -> Int64:
        """Which texts are equal [m], by their captions."""
        said = [caption for record in self.tokens.records for caption in record.captions]
        number: dict[str, int] = {}
        return np.array([number.setdefault(said[row], len(number)) for row in self.texts], np.int64)

    def reader(self, side: Side, device: str) -> Reader:
        """Read rows from the disk when they are asked for."""
        import torch

        rows, numbers = (self.tokens.image, self.images) if side == "image" else (self.tokens.text, self.texts)

        def read(some: Int64) -> tuple[Any, ...]:
            return tuple(torch.from_numpy(each).to(device) for each in inputs(side, rows.read(numbers[some])))

        return read


def inputs(side: Side, tokens: Tokens) -> tuple[NDArray[Any], ...]:
    """Return what the network of a side takes: tokens [n, t, d] and mask [n, t], of images also their vector [n, e]."""
    return (tokens.values, tokens.mask, tokens.pooled) if side == "image" else (tokens.values, tokens.mask)
