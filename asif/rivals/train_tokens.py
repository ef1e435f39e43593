"""Train freeze-align on the tokens of the pairs that an anchor set was built from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from asif.anchorset.tokens.pair_tokens import has_tokens
from asif.building import PairReader
from asif.encoders import Device
from asif.engine.engine import Engine
from asif.errors import InputRefused
from asif.rivals import FreezeAlignTokens, TokenPairs
from asif.rivals.projector import FEWEST
from asif.rivals.token_encoding import TokenCaptions, estimate_token_bytes, tokens_from_pairs
from asif.rivals.train import Training, train_on
from asif.vectors import canonical_json

if TYPE_CHECKING:
    from asif.rivals.trainer import Look


def train_on_tokens(
    ref: str,
    projector: FreezeAlignTokens,
    source: PairReader,
    folder: Path | None = None,
    *,
    home: Path | None = None,
    device: Device = "auto",
    announce: Callable[[int, Path], None] = lambda size, folder: None,
    encoding: Callable[[int, int], None] = lambda done, every: None,
    progress: Callable[[Look], None] = lambda look: None,
) -> Training:
    """Write the tokens of pairs into a folder, train on those of anchors, and keep the projector beside the set.

    The folder is by default `cache/tokens/<name>` of the store; tokens of the same pairs that it has are used again,
    and `announce` is told the bytes that others will take, before the first. Anchors and pairs are matched by image
    content and captions. Whatever is killed goes on where it was. Raises InputRefused where fewer than 10 images are
    matched, what `from_pairs` raises, Interrupted on Ctrl-C.
    """
    engine = Engine(ref, home=home, device=device)
    anchors = engine.anchor_set
    captions: TokenCaptions = "first" if anchors.manifest.captions == "first" else "all"
    image, text = engine.image_encoder(anchors), engine.text_encoder(anchors)
    place = folder or engine.home / "cache" / "tokens" / anchors.name
    if not has_tokens(place):
        announce(estimate_token_bytes(source, image, text, captions), place)
    tokens = tokens_from_pairs(source, image, text, place, captions, lambda rows: encoding(rows, source.rows))
    pairs, missing = TokenPairs.of(tokens, anchors.records(range(anchors.count)))
    if len(pairs) < FEWEST:
        raise InputRefused(
            f"{anchors.count - missing:,} of the {anchors.count:,} anchors of {anchors.ref} are among {source.path}, "
            f"with {len(pairs)} images",
            f"the pairs that it was built from, and at least {FEWEST} images",
            "give those pairs to --tokens, and the folder of their tokens to --token-dir",
        )
    seen = hashlib.sha256(canonical_json(tokens.header["source"]) + pairs.texts.tobytes()).hexdigest()
    return replace(train_on(pairs, projector, engine, progress, {"tokens": seen}), missing=missing)
