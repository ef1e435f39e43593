"""The time that each stage of a build was busy, and what the encoders ran on meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

Stage = Literal["read", "decode", "encode_images", "encode_texts", "write"]
STAGES: tuple[Stage, ...] = get_args(Stage)


class StageTimes:
    """Give the share of each stage in the `seconds` that a run took, by its clock; it read `rows` rows."""

    rows: int
    seconds: float
    clock: EncoderClock

    @property
    def encoder_share(self) -> float:
        """Return the share of the time in which a forward pass of an encoder ran."""
        return self.clock.encoder_seconds / self.seconds if self.seconds else 0.0

    @property
    def stage_shares(self) -> dict[Stage, float]:
        """Return the share of the time in which each stage was busy; stages run at once."""
        return self.clock.compute_shares(self.seconds)

    @property
    def slowest_stage(self) -> Stage:
        """Return the stage that bounds the run: the one that is busy most of the time."""
        return max(STAGES, key=self.stage_shares.__getitem__)


@dataclass
class EncoderClock:
    """Count the busy seconds of each stage, inputs of the encoders' forward passes, and texts that they cut among them.

    `seconds` of "decode" are the sum over the threads, of which there are `decoders`. `encoder_seconds` are those in
    which an encoder ran, or both. Waiting for another stage is not busy; waiting for a disk or for a core is.
    """

    images: int = 0
    texts: int = 0
    cut_texts: int = 0
    decoders: int = 1
    seconds: dict[Stage, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    encoder_seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _running: int = 0
    _since: float = 0.0

    @property
    def image_seconds(self) -> float:
        """Return the seconds of the image encoder's forward passes."""
        return self.seconds["encode_images"]

    @property
    def text_seconds(self) -> float:
        """Return the seconds of the text encoder's forward passes."""
        return self.seconds["encode_texts"]

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Add the time that passes in the block to a stage; several threads may do so at once."""
        started = self._start(stage)
        try:
            yield
        finally:
            self._stop(stage, started)

    def _start(self, stage: Stage) -> float:
        with self._lock:
            now = time.perf_counter()
            if stage.startswith("encode"):
                self._since = self._since if self._running else now
                self._running += 1
            return now

    def _stop(self, stage: Stage, started: float) -> None:
        with self._lock:
            now = time.perf_counter()
            self.seconds[stage] += now - started
            if stage.startswith("encode"):
                self._running -= 1
                self.encoder_seconds += 0.0 if self._running else now - self._since

    def add(self, stage: Stage, seconds: float) -> None:
        """Add seconds to a stage that is no encoder."""
        with self._lock:
            self.seconds[stage] += seconds

    def add_all(self, other: EncoderClock) -> None:
        """Add what another clock has counted."""
        with self._lock:
            for stage, seconds in other.seconds.items():
                self.seconds[stage] += seconds
            self.images, self.texts = self.images + other.images, self.texts + other.texts
            self.cut_texts += other.cut_texts
            self.encoder_seconds += other.encoder_seconds

    def compute_shares(self, seconds: float) -> dict[Stage, float]:
        """Return the share of `seconds` of wall time in which each stage was busy, of decoding a mean of its threads.

        >>> EncoderClock(decoders=2, seconds=dict.fromkeys(STAGES, 3.0)).compute_shares(10.0)["decode"]
        0.15
        """
        workers = {"decode": self.decoders}
        return {
            stage: busy / seconds / workers.get(stage, 1) if seconds else 0.0 for stage, busy in self.seconds.items()
        }
