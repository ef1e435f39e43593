"""The encoders of an engine: loaded when first needed, shared by all sets they stored, checked against fingerprints."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from asif.anchorset import EncodedSet, OpenAnchors
from asif.anchorset.format.atomic_io import create_file
from asif.encoders import (
    Backend,
    Device,
    ImageEncoder,
    TextEncoder,
    load_audio_encoder,
    load_image_encoder,
    load_text_encoder,
)
from asif.encoders.backends.choose import choose_runtime
from asif.encoders.backends.probe import VerdictCache
from asif.encoders.backends.runtime import list_runtimes
from asif.encoders.precision import find_precision
from asif.encoders.precomputed import PrecomputedEncoder
from asif.encoders.protocol import TokenizedText
from asif.encoders.text_cache import TextCache
from asif.encoders.text_limits import describe_cut, find_long_texts, tokenize_long_texts
from asif.engine.encoder_check import advise_run, check_encoder, make_mismatch
from asif.errors import UsageError
from asif.modality import find_modality, name_many
from asif.vectors import SIDES, Embeddings, Side

_TEXTS_PER_BATCH = 4096

_Key = tuple[Side, str, str]

_log = logging.getLogger(__name__)


class EncoderPool:
    """Load the encoders that anchors name, on one device and backend, and cache text embeddings on disk.

    `cache` is the folder of all caches. `auto` is the backend that made the anchors if it is installed, for it needs no
    probe; anchors that torch made are served by the backend that is fastest here. The precision is always that of the
    anchors; if it is not float32, so are `auto` backends and devices, because no others may answer.
    """

    def __init__(self, cache: Path, device: Device, backend: Backend) -> None:
        self.device = device
        self.backend = backend
        self._folder = cache
        self._cache = TextCache(cache / "texts.sqlite", create_file)
        self._verdicts = VerdictCache(cache / "probes")
        self._loaded: dict[_Key, Any] = {}
        self._lock = RLock()
        self._remarked: set[str] = set()
        self._is_shared = False

    @property
    def folder(self) -> Path:
        """The folder of all caches."""
        return self._folder

    @property
    def plain(self) -> EncoderPool:
        """The encoders that return vectors: these, unless an aligner has put others in their place."""
        return self

    def share(self, texts: str) -> EncoderPool:
        """Return a pool of the same encoders, with a cache of text embeddings of its own in the file of that name.

        From now on neither pool drops encoders: each may be used by the other.
        """
        other = copy.copy(self)
        self._is_shared = other._is_shared = True
        other._cache = TextCache(self._folder / texts, create_file)
        return other

    def load_image_encoder(self, stored: EncodedSet) -> ImageEncoder:
        """Return the image encoder of a set, loaded and checked; raises EncoderMismatch."""
        encoder: ImageEncoder = self._load(stored, "image")
        return encoder

    def load_text_encoder(self, stored: EncodedSet) -> TextEncoder:
        """Return the text encoder of a set, loaded and checked; raises EncoderMismatch."""
        encoder: TextEncoder = self._load(stored, "text")
        return encoder

    def _load(self, stored: EncodedSet, side: Side) -> Any:
        spec = stored.encoder_spec(side)
        if spec == "precomputed":
            return PrecomputedEncoder(side, stored.dims[side], modality=find_modality(stored, side))
        with self._lock:
            key = _make_key(stored, side)
            encoder = self._loaded.get(key)
            if encoder is None:
                encoder = self._open_as_made(stored, side)
            self.check(stored, side, encoder)
            self._loaded[key] = encoder
        return encoder

    def _open_as_made(self, stored: EncodedSet, side: Side) -> Any:
        """Open the encoder of a set in the set's precision; raises EncoderMismatch if it cannot run in that here."""
        spec, fields = stored.encoder_spec(side), stored.fingerprint(side).fields
        precision = find_precision(stored.fingerprint(side))
        if precision == "float32":
            return self._open(spec, stored, side, self._choose_backend(stored, side))
        backend = fields.get("backend", self.backend) if self.backend == "auto" else self.backend
        device = fields.get("device", self.device) if self.device == "auto" else self.device
        try:
            return self._find_loader(stored, side)(spec, device, backend, self._folder, precision)
        except UsageError as error:
            here = {"backend": backend, "device": device}
            differing = {name: (fields[name], now) for name, now in here.items() if fields.get(name, now) != now}
            came = f"{spec} in {precision} ({error.came})"
            raise make_mismatch(stored, side, came, advise_run(differing)) from error

    def _open(self, spec: str, stored: EncodedSet, side: Side, backend: Backend) -> Any:
        return self._find_loader(stored, side)(spec, self.device, backend, self._folder)

    def _find_loader(self, stored: EncodedSet, side: Side) -> Callable[..., Any]:
        """Return what loads the encoders of the modality of a side; raises UsageError if nothing does."""
        loaders: dict[str, Callable[..., Any]] = {
            "image": load_image_encoder,
            "text": load_text_encoder,
            "audio": load_audio_encoder,
        }
        modality = find_modality(stored, side)
        if modality not in loaders:
            raise UsageError(
                f"{stored.ref} holds {name_many(modality)}", f"one of {', '.join(loaders)}", "upgrade asif"
            )
        return loaders[modality]

    def check(self, stored: EncodedSet, side: Side, encoder: ImageEncoder | TextEncoder) -> None:
        """Raise EncoderMismatch unless an encoder may answer for one side of a set."""
        check_encoder(stored, side, encoder, self._verdicts, partial(self._open, encoder.spec, stored, side))

    def _choose_backend(self, stored: EncodedSet, side: Side) -> Backend:
        """Return the backend for a set's encoder: the one that was named, or the set's own if it can be used here.

        The set's own has one for each part of a joined encoder if they differ.
        """
        made_by: Any = stored.fingerprint(side).fields.get("backend")
        usable = self.backend == "auto" and choose_runtime("auto", self.device) is not None
        by_part, runtimes = set(str(made_by).split("+")), set(list_runtimes())
        return made_by if usable and by_part & runtimes and by_part <= {"torch", *runtimes} else self.backend

    def encode_texts(self, texts: Sequence[str], anchors: OpenAnchors) -> Embeddings:
        """Encode texts with the text encoder of a set: unit rows [n, dt] with the texts; cached ones are reused."""
        fingerprint, dim = anchors.fingerprint("text").digest, anchors.dims["text"]
        known = self._cache.get(fingerprint, texts, dim)
        missing = sorted(set(texts) - set(known))
        for start in range(0, len(missing), _TEXTS_PER_BATCH):  # what is done is in the cache if the next one fails
            some = missing[start : start + _TEXTS_PER_BATCH]
            encoded = Embeddings.from_raw(self.load_text_encoder(anchors).forward(some)).values
            new = dict(zip(some, encoded, strict=True))
            self._cache.put(fingerprint, new)
            known |= new
        return Embeddings(np.stack([known[text] for text in texts]), tuple((text,) for text in texts))

    def tokenize_long_texts(self, texts: Sequence[str], anchors: OpenAnchors) -> dict[str, TokenizedText]:
        """Return what a set's text encoder reads of the texts that are long enough to be cut."""
        long = find_long_texts(anchors.fingerprint("text"), texts)
        return tokenize_long_texts(self.load_text_encoder(anchors), long) if long else {}

    def count_cut_texts(self, texts: Sequence[str], anchors: OpenAnchors) -> int:
        """Count the texts of which a set's text encoder does not read the end."""
        tokenized = self.tokenize_long_texts(texts, anchors)
        return sum(text in tokenized and tokenized[text].is_cut for text in texts)

    def report_cut_texts(self, texts: Sequence[str], anchors: OpenAnchors) -> None:
        """Log how many texts a set's text encoder cuts, once for each encoder."""
        cut, fingerprint = self.count_cut_texts(texts, anchors), anchors.fingerprint("text")
        if cut:
            message = describe_cut(cut, len(texts), "texts", anchors.encoder_spec("text"), fingerprint)
            self.remark_once(message, topic=fingerprint.digest)

    def remark_once(self, message: str, topic: str | None = None) -> None:
        """Log a remark, unless this pool has logged one on the topic, by default the message itself."""
        with self._lock:
            is_new = (topic or message) not in self._remarked
            self._remarked.add(topic or message)
        if is_new:
            _log.warning(message)

    def check_loaded(self, anchors: OpenAnchors) -> None:
        """Raise EncoderMismatch if a loaded encoder has the name, but not the fingerprint, of the set's encoder."""
        for side in SIDES:
            loaded = self._loaded.get(_make_key(anchors, side))
            if loaded is not None:
                self.check(anchors, side, loaded)

    def preload(self, new: OpenAnchors, old: OpenAnchors) -> None:
        """Load the encoders of `new` for each side whose encoder of `old` is loaded."""
        for side in SIDES:
            if _make_key(old, side) in self._loaded:
                self._load(new, side)

    def release_unused(self, used: Sequence[OpenAnchors]) -> None:
        """Drop the encoders that serve none of some anchors, unless other pools share them."""
        if self._is_shared:
            return
        keys = {_make_key(anchors, side) for anchors in used for side in SIDES}
        with self._lock:
            self._loaded = {key: encoder for key, encoder in self._loaded.items() if key in keys}


def _make_key(stored: EncodedSet, side: Side) -> _Key:
    """Name a loaded encoder by side and spec; one below float32 also by the fingerprint of the sets it serves."""
    fingerprint = stored.fingerprint(side)
    made_as = "float32" if find_precision(fingerprint) == "float32" else fingerprint.digest
    return side, stored.encoder_spec(side), made_as
