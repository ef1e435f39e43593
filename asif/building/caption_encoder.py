"""Encode the captions of pairs in a thread, ahead of and at the same time as their images."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from asif.building.clock import EncoderClock
from asif.building.pair_records import CaptionMode
from asif.building.stages import ForwardRunner, Stopped
from asif.encoders import TextEncoder
from asif.encoders.text_limits import find_token_limit
from asif.pairs import JoinedRow, Pair, Reject
from asif.vectors import Float32

_FIRST_CALL = 128
"""Captions of the first forward pass; later ones take up to twice as many until one takes `_CALL_SECONDS`."""
_CALL_SECONDS = 0.25
"""A build that is stopped waits for the forward pass that runs, so none may take long."""


@dataclass(frozen=True)
class _Group:
    """Hold the captions of the items from `start` up to `stop`, which are encoded together."""

    start: int
    stop: int
    encoded: Future[dict[str, Float32]]


def list_encoded_captions(item: Pair | Reject | JoinedRow, captions: CaptionMode) -> tuple[str, ...]:
    """Return the captions of an item that are encoded: those that the mode uses, unless their vector is there."""
    if not isinstance(item, Pair) or item.text_embedding is not None:
        return ()
    return item.captions[:1] if captions == "first" else item.captions


class CaptionEncoder:
    """Encode captions in a thread, each distinct one once in a group of `group_pairs` pairs.

    One thread adds items in the order of the source, another takes the vectors of the first items, then of more.
    `run_forward` runs a forward pass.
    """

    def __init__(
        self,
        text: TextEncoder,
        captions: CaptionMode,
        group_pairs: int,
        clock: EncoderClock,
        run_forward: ForwardRunner,
    ) -> None:
        self._text, self._mode = text, captions
        self._group_pairs, self._clock, self._run_forward = group_pairs, clock, run_forward
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="captions")
        self._groups: list[_Group] = []
        self._start = self._stop = self._pairs = 0  # of the group that is being filled
        self._captions: set[str] = set()
        self._stopped = False
        self._call = _FIRST_CALL

    def add(self, item: Pair | Reject | JoinedRow) -> None:
        """Add the next item."""
        with self._lock:
            self._captions.update(list_encoded_captions(item, self._mode))
            self._stop += 1
            self._pairs += isinstance(item, Pair)
            if self._pairs == self._group_pairs:
                self._begin()

    def end(self) -> None:
        """Encode what was added, since there is no more."""
        with self._lock:
            self._begin()

    def _begin(self) -> None:
        """Let the group that is being filled be encoded, and start another."""
        if self._captions and not self._stopped:
            encoded = self._pool.submit(self._encode, list(self._captions))
            self._groups.append(_Group(self._start, self._stop, encoded))
        self._start, self._pairs, self._captions = self._stop, 0, set()

    def take(self, stop: int) -> dict[str, Float32]:
        """Return raw vectors [dt] by caption: of the items before `stop`, but not of groups that ended before the last.

        Waits for them. Raises what the encoder raises, and Stopped or CancelledError after `close`.
        """
        with self._lock:
            if self._stopped:
                raise Stopped
            if self._start < stop:
                self._begin()
            groups = [group for group in self._groups if group.start < stop]
            self._groups = [group for group in self._groups if group.stop > stop]
        return {text: vector for group in groups for text, vector in group.encoded.result().items()}

    def _encode(self, texts: list[str]) -> dict[str, Float32]:
        """Encode distinct texts, in forward passes of similar lengths."""
        lengths = self._count_tokens(texts)
        texts.sort(key=lambda text: (lengths[text], text))
        vectors: dict[str, Float32] = {}
        while texts:
            if self._stopped:
                raise Stopped
            some, texts = texts[: self._call], texts[self._call :]
            encoded, seconds = self._run_forward(partial(self._encode_call, some))
            vectors.update(zip(some, encoded, strict=True))
            if len(some) == self._call and seconds < _CALL_SECONDS:
                self._call *= 2
        return vectors

    def _encode_call(self, texts: list[str]) -> tuple[Float32, float]:
        """Return raw vectors, and the seconds of the forward pass."""
        with self._clock.measure("encode_texts"):
            started = time.perf_counter()
            return self._text.forward(texts), time.perf_counter() - started

    def _count_tokens(self, texts: list[str]) -> dict[str, int]:
        """Return the number of tokens of each text, or of characters if the encoder names no limit of tokens."""
        if find_token_limit(self._text.fingerprint) is None:
            return {text: len(text) for text in texts}
        return {text: len(read.ids) for text, read in zip(texts, self._text.tokenize(texts), strict=True)}

    def close(self) -> None:
        """Drop what is not encoded, and end the thread after the forward pass that runs."""
        with self._lock:
            self._stopped = True
        self._pool.shutdown(wait=True, cancel_futures=True)
