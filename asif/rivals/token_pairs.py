"""Token features of pairs for training: read from disk for every batch, never all at once."""

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
from asif.rivals.training_pairs import Dims, FeatureReader, PairFeatures
from asif.vectors import Int64, Side, Tokens


@dataclass(frozen=True)
class TokenPairs(PairFeatures):
    """Hold the rows of `tokens` to train on: `images` [n] and `texts` [m]."""

    images: Int64
    texts: Int64
    tokens: PairTokens
    read_rows: ClassVar[int] = 64

    @classmethod
    def of(cls, tokens: PairTokens, anchors: Iterable[PairRecord]) -> tuple[TokenPairs, int]:
        """Find the tokens of anchors; also return the number of anchors that have none.

        Images of equal content count as one image with several texts.
        """
        text_rows, missing = [np.empty(0, np.int64)], 0
        for record in anchors:
            try:
                text_rows.append(tokens.find_text_rows(record))
            except InputRefused:
                missing += 1
        texts = np.unique(np.concatenate(text_rows))
        first_rows: dict[str, int] = {}
        contents = [tokens.records[row].image_sha256 for row in tokens.owners[texts]]
        for row, content in zip(tokens.owners[texts].tolist(), contents, strict=True):
            first_rows.setdefault(content, row)
        numbers = {content: index for index, content in enumerate(first_rows)}
        owners = np.array([numbers[content] for content in contents], np.int64)
        order = np.argsort(owners, kind="stable")
        return cls(np.array(list(first_rows.values()), np.int64), texts[order], owners[order], tokens), missing

    @property
    def dims(self) -> Dims:
        image, text = self.tokens.image, self.tokens.text
        return {"image": image.values.shape[1], "text": text.values.shape[1], "pooled": image.pooled.shape[1]}

    @cached_property
    def text_groups(self) -> Int64:
        """A group number for each text [m], equal for equal captions."""
        captions = [caption for record in self.tokens.records for caption in record.captions]
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(captions[row], len(numbers)) for row in self.texts], np.int64)

    def reader(self, side: Side, device: str) -> FeatureReader:
        """Return a reader that reads rows from disk when it is called."""
        import torch

        rows, numbers = (self.tokens.image, self.images) if side == "image" else (self.tokens.text, self.texts)

        def read(indices: Int64) -> tuple[Any, ...]:
            inputs = select_network_inputs(side, rows.read(numbers[indices]))
            return tuple(torch.from_numpy(each).to(device) for each in inputs)

        return read


def select_network_inputs(side: Side, tokens: Tokens) -> tuple[NDArray[Any], ...]:
    """Return the inputs of a side's network: tokens [n, t, d] and mask [n, t], for images also pooled [n, e]."""
    return (tokens.values, tokens.mask, tokens.pooled) if side == "image" else (tokens.values, tokens.mask)
