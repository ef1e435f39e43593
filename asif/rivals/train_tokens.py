"""Train freeze-align on the tokens of the pairs that an anchor set was built from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from asif.anchorset.tokens.pair_tokens import PairTokens, has_tokens, open_tokens
from asif.building import PairReader
from asif.encoders import Device
from asif.engine.engine import Engine
from asif.errors import InputRefused
from asif.rivals import FittedProjector, FittedTokens, FreezeAlignTokens, TokenPairs
from asif.rivals.projector import MIN_IMAGES
from asif.rivals.token_anchors import project_anchors
from asif.rivals.token_encoding import TokenCaptions, estimate_token_bytes, tokens_from_pairs
from asif.rivals.train import TrainingResult, train_on_pairs
from asif.vectors import canonical_json

if TYPE_CHECKING:
    from asif.rivals.trainer import HeldOutEvaluation


def train_on_tokens(
    ref: str,
    projector: FreezeAlignTokens,
    source: PairReader,
    folder: Path | None = None,
    *,
    home: Path | None = None,
    device: Device = "auto",
    announce: Callable[[int, Path], None] = lambda size, folder: None,
    encoding: Callable[[int, int], None] = lambda done, total: None,
    progress: Callable[[HeldOutEvaluation], None] = lambda evaluation: None,
) -> TrainingResult:
    """Write the tokens of pairs into a folder, train on those of anchors, and store the projector with the set.

    The folder is by default `cache/tokens/<name>` of the store; tokens of the same pairs in it are reused, otherwise
    `announce` is called with the expected bytes before the first is written. Anchors and pairs are matched by image
    content and captions. After a crash the same call resumes. Raises InputRefused if fewer than 10 images are matched,
    what `tokens_from_pairs` raises, and Interrupted on Ctrl-C.
    """
    engine = Engine(ref, home=home, device=device, backend="torch")
    anchors = engine.anchor_set
    tokens = open_anchor_tokens(engine, source, folder, announce, encoding)
    pairs, missing = TokenPairs.of(tokens, anchors.records(range(anchors.count)))
    if len(pairs) < MIN_IMAGES:
        raise InputRefused(
            f"{anchors.count - missing:,} of the {anchors.count:,} anchors of {anchors.ref} are among {source.path}, "
            f"with {len(pairs)} images",
            f"the pairs that it was built from, and at least {MIN_IMAGES} images",
            "give those pairs to --tokens, and the folder of their tokens to --token-dir",
        )

    def keep_anchors(fitted: FittedProjector) -> FittedProjector:
        assert isinstance(fitted, FittedTokens)
        return fitted.keep_anchors(project_anchors(fitted, tokens, anchors.records(range(anchors.count))))

    digest = hashlib.sha256(canonical_json(tokens.header["source"]) + pairs.texts.tobytes()).hexdigest()
    result = train_on_pairs(pairs, projector, engine, progress, {"tokens": digest}, keep_anchors)
    return replace(result, missing=missing)


def open_anchor_tokens(
    engine: Engine,
    source: PairReader | None,
    folder: Path | None,
    announce: Callable[[int, Path], None],
    encoding: Callable[[int, int], None],
) -> PairTokens:
    """Open the tokens of the pairs that the anchors of an engine on torch were built from; write them if need be.

    Without a source, those that a training has left in the folder, by default `cache/tokens/<name>` of the store;
    raises NotFound if there are none, and what `tokens_from_pairs` raises.
    """
    anchors = engine.anchor_set
    captions: TokenCaptions = "first" if anchors.manifest.captions == "first" else "all"
    image, text = engine.image_encoder(anchors), engine.text_encoder(anchors)
    folder = folder or engine.home / "cache" / "tokens" / anchors.name
    if source is None:
        return open_tokens(folder, {"image": image.fingerprint, "text": text.fingerprint})
    if not has_tokens(folder):
        announce(estimate_token_bytes(source, image, text, captions), folder)
    return tokens_from_pairs(source, image, text, folder, captions, lambda rows: encoding(rows, source.rows))
