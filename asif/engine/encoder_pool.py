"""The encoders of an engine: loaded when first needed, shared by all sets that they made, checked against each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from asif.anchorset import OpenAnchors
from asif.encoders import Device, ImageEncoder, TextEncoder, load_image_encoder, load_text_encoder
from asif.encoders.precomputed import PrecomputedEncoder
from asif.encoders.text_cache import TextCache
from asif.errors import EncoderMismatch
from asif.vectors import SIDES, Embeddings, Side


class Encoders:
    """Load encoders as the anchors name them, on a device, and keep texts that were encoded in a cache on disk."""

    def __init__(self, cache: Path, device: Device) -> None:
        self.device = device
        self._cache = TextCache(cache)
        self._loaded: dict[tuple[Side, str], Any] = {}
        self._lock = RLock()

    def image(self, anchors: OpenAnchors) -> ImageEncoder:
        """Return the image encoder of a set, loaded and checked; raises EncoderMismatch."""
        encoder: ImageEncoder = self.of(anchors, "image")
        return encoder

    def text(self, anchors: OpenAnchors) -> TextEncoder:
        """Return the text encoder of a set, loaded and checked; raises EncoderMismatch."""
        encoder: TextEncoder = self.of(anchors, "text")
        return encoder

    def of(self, anchors: OpenAnchors, side: Side) -> Any:
        """Return the encoder of one side."""
        spec = anchors.encoder_spec(side)
        if spec == "precomputed":
            return PrecomputedEncoder(side, anchors.dims[side])
        with self._lock:
            known = self._loaded.get((side, spec))
            if known is None:
                load: Callable[..., Any] = load_image_encoder if side == "image" else load_text_encoder
                known = load(spec, self.device)
            check_fingerprint(anchors, side, known)
            self._loaded[side, spec] = known
        return known

    def encode_texts(self, texts: Sequence[str], anchors: OpenAnchors) -> Embeddings:
        """Encode texts as those of a set were; what was encoded before, for whatever set, comes from the cache."""
        fingerprint, dim = anchors.fingerprint("text").digest, anchors.dims["text"]
        known = self._cache.get(fingerprint, texts, dim)
        missing = sorted(set(texts) - set(known))
        if missing:
            fresh = Embeddings.from_raw(self.text(anchors).forward(missing)).values
            new = dict(zip(missing, fresh, strict=True))
            self._cache.put(fingerprint, new)
            known |= new
        return Embeddings(np.stack([known[text] for text in texts]))

    def check(self, anchors: OpenAnchors) -> None:
        """Raise EncoderMismatch where an encoder that is loaded by its name is not the one that made the anchors."""
        for side in SIDES:
            loaded = self._loaded.get((side, anchors.encoder_spec(side)))
            if loaded is not None:
                check_fingerprint(anchors, side, loaded)

    def follow(self, old: OpenAnchors, new: OpenAnchors) -> None:
        """Load for one set what is loaded for another."""
        for side in SIDES:
            if (side, old.encoder_spec(side)) in self._loaded:
                self.of(new, side)

    def release(self, used: Callable[[Side, str], bool]) -> None:
        """Let go of the encoders that are not used any more."""
        with self._lock:
            self._loaded = {key: encoder for key, encoder in self._loaded.items() if used(*key)}


def check_fingerprint(anchors: OpenAnchors, side: Side, encoder: ImageEncoder | TextEncoder) -> None:
    """Refuse an encoder that is not the one the anchors were made with, naming what differs."""
    theirs = anchors.fingerprint(side)
    if theirs == encoder.fingerprint:
        return
    differing = theirs.differences(encoder.fingerprint)
    details = "; ".join(f"{name}: {was!r} in the set, {now!r} here" for name, (was, now) in differing.items())
    raise EncoderMismatch(
        f"{side} encoder {encoder.spec} with fingerprint {encoder.fingerprint.digest[:12]} ({details})",
        f"fingerprint {theirs.digest[:12]}, with which {anchors.ref} was made",
        f"build the anchors anew with this encoder: asif build-anchors PAIRS --name {anchors.name} "
        f"--{side}-encoder {encoder.spec}",
    )
