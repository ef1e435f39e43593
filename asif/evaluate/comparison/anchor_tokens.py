"""The tokens of the anchors of a comparison, for a method that is trained on tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from asif.anchorset import AnchorSet
from asif.anchorset.tokens.pair_tokens import PairTokens
from asif.engine import Engine
from asif.errors import InputRefused
from asif.pairs import PairRecord, open_pairs
from asif.rivals import FittedProjector, FittedTokens, TokenPairs
from asif.rivals.token_anchors import project_anchors
from asif.rivals.token_lookup import FittedTokensByVector, TokenLookup, name_anchors
from asif.rivals.train_tokens import open_anchor_tokens
from asif.tuning import HeldOutQueries
from asif.tuning.splits import NOISE_COSINE
from asif.vectors import SIDES, Embeddings, Int64


@dataclass(frozen=True)
class AnchorTokens:
    """Hold the tokens of some anchors, by their records, and the lookup that finds tokens by vectors."""

    tokens: PairTokens
    records: Sequence[PairRecord]
    lookup: TokenLookup

    @classmethod
    def of(
        cls, tokens: PairTokens, anchors: AnchorSet, texts: tuple[Embeddings, Int64] | None, lookup: TokenLookup
    ) -> AnchorTokens:
        """Take the tokens of all anchors; `texts` are their single captions, as `encode_single_captions` returns them.

        Raises InputRefused if an anchor has none: every method is to have the same pairs.
        """
        records = anchors.records(range(anchors.count))
        missing = TokenPairs.of(tokens, records)[1]
        if missing:
            raise InputRefused(
                f"{missing:,} of the {anchors.count:,} anchors of {anchors.ref} have no tokens",
                "tokens of every anchor, so that all methods are fitted to the same pairs",
                "give the pairs that the anchors were built from: --tokens PAIRS",
            )
        places = [tokens.find_text_rows(record) for record in records]
        stored = {side: np.concatenate(anchors.blocks(side)).astype(np.float32) for side in SIDES}
        name_anchors(lookup, tokens, places, stored["image"], stored["text"])
        if texts is not None:
            lookup.add("text", texts[0].values, tokens.text, np.concatenate(places))
        return cls(tokens, records, lookup)

    def select_rows(self, rows: Int64) -> AnchorTokens:
        """Return those of some anchors."""
        return replace(self, records=[self.records[row] for row in rows.tolist()])

    def prepare_pairs(self) -> TokenPairs:
        """Return what a projector is trained on."""
        return TokenPairs.of(self.tokens, self.records)[0]

    def complete(self, fitted: FittedProjector, most: int) -> FittedTokensByVector:
        """Return a trained projector that takes vectors, with at most `most` anchors as a query bank."""
        assert isinstance(fitted, FittedTokens)
        return FittedTokensByVector.of(fitted, project_anchors(fitted, self.tokens, self.records, most), self.lookup)

    def name_noisy(self, queries: HeldOutQueries, noisy: HeldOutQueries, seed: int) -> None:
        """Let the lookup find the tokens of images with noise, as strong as in their vectors."""
        self.lookup.add_noisy(queries.images.values, noisy.images.values, seed, NOISE_COSINE)


def open_tokens_of(
    engine: Engine,
    where: str | None,
    announce: Callable[[int, Path], None],
    encoding: Callable[[int, int], None] = lambda done, total: None,
) -> PairTokens:
    """Open the tokens of an engine's anchors: those of pairs, or in a folder, or that a training left in the store."""
    folder = None if where is None else Path(where)
    if folder is not None and (folder / "header.json").exists():
        return open_anchor_tokens(engine, None, folder, announce, encoding)
    source = None if where is None else open_pairs(where)
    return open_anchor_tokens(engine, source, None, announce, encoding)
