"""Encoders for an aligner of tokens: they project the tokens of images and texts instead of pooling them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from asif.anchorset import EncodedSet, OpenAnchors
from asif.anchorset.format.kinds import GALLERY
from asif.encoders import ImageEncoder, TextEncoder
from asif.engine.encoder_pool import EncoderPool
from asif.rivals.freeze_align_tokens import FittedTokens, mark_projected
from asif.vectors import Embeddings, Float32, Side

if TYPE_CHECKING:
    from asif.rivals.freeze_align_tokens import FreezeAlignTokens

_TEXTS_PER_BATCH = 512


class TokenEncoderPool(EncoderPool):
    """Load the encoders of a set as `EncoderPool` does, on torch, and project their tokens as was trained on the set.

    What they return are rows of the common space, marked as such, see `mark_projected`; they are not cached on disk.
    """

    def __init__(self, pool: EncoderPool, projector: FreezeAlignTokens) -> None:
        super().__init__(pool.folder, pool.device, "torch")
        self._plain, self._projector = pool, projector
        self._fits: dict[str, FittedTokens] = {}

    @property
    def plain(self) -> EncoderPool:
        return self._plain

    def load_image_encoder(self, stored: EncodedSet) -> ImageEncoder:
        """Return the image encoder of a set with its projector; raises what `load_projector` does.

        That of a gallery, which no projector belongs to, comes without.
        """
        if stored.kind is GALLERY:
            return super().load_image_encoder(stored)
        return _ProjectingEncoder(super().load_image_encoder(stored), self._load_projector(stored), "image")

    def load_text_encoder(self, stored: EncodedSet) -> TextEncoder:
        """Return the text encoder of a set with its projector, as `load_image_encoder` does."""
        if stored.kind is GALLERY:
            return super().load_text_encoder(stored)
        return _ProjectingEncoder(super().load_text_encoder(stored), self._load_projector(stored), "text")

    def encode_texts(self, texts: Sequence[str], anchors: OpenAnchors) -> Embeddings:
        """Encode texts, equal ones once: marked rows with the texts."""
        return encode_distinct(texts, self.load_text_encoder(anchors).forward)

    def _load_projector(self, stored: Any) -> FittedTokens:
        digest = stored.digest
        if digest not in self._fits:
            fitted = self._projector.load_trained(stored)
            assert isinstance(fitted, FittedTokens)
            self._fits[digest] = fitted
        return self._fits[digest]


@dataclass(frozen=True)
class _ProjectingEncoder:
    """An encoder whose vectors are the projected tokens; all else is that of the encoder."""

    inner: Any
    fitted: FittedTokens
    side: Side

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def forward(self, inputs: Sequence[Any]) -> Float32:
        """Project the tokens of prepared images or of texts."""
        return mark_projected(self.fitted.represent_tokens(self.side, self.inner.tokens(inputs)).values)


def encode_distinct(texts: Sequence[str], encode: Callable[[Sequence[str]], Float32]) -> Embeddings:
    """Encode texts, equal ones once, some at a time: the rows that `encode` returns [n, d], with the texts."""
    distinct, rows = sorted(set(texts)), dict[str, Float32]()
    for start in range(0, len(distinct), _TEXTS_PER_BATCH):
        some = distinct[start : start + _TEXTS_PER_BATCH]
        rows |= zip(some, encode(some), strict=True)
    return Embeddings(np.stack([rows[text] for text in texts]), tuple((text,) for text in texts))
