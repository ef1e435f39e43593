"""What a worker does with a shard: encode its rows by the code of a local build, and commit the segments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asif.anchorset.write.shard_journal import FinishedShard, ShardAttempt
from asif.building.build import BuildOptions, encode_rows
from asif.building.clock import EncoderClock
from asif.building.sharded.marks import KILLS, Mark, Marker
from asif.building.sharded.places import ShardPlace
from asif.building.sharded.plan import Shard, ShardPlan
from asif.building.sharded.rows import QUARANTINED, WatchedSource, align_row
from asif.encoders import ImageEncoder, TextEncoder
from asif.pairs import PairSource, RowsApart
from asif.vectors import SIDES, Side


@dataclass(frozen=True)
class ShardTask:
    """Hold what a worker is told about a shard: all that travels to it for each.

    `attempt` is a name that no other attempt has. Rows of the `window` are done one by one, those that are
    `quarantined` not at all.
    """

    shard: Shard
    attempt: str
    window: Mark | None = None
    quarantined: tuple[int, ...] = ()


@dataclass(frozen=True)
class EncoderIdentity:
    """Name an encoder of a worker: spec, dimension, and the fields of its fingerprint."""

    spec: str
    dim: int
    fingerprint: Mapping[str, Any]

    @classmethod
    def of(cls, encoder: Any) -> EncoderIdentity:
        """Name an encoder."""
        return cls(encoder.spec, encoder.dim, encoder.fingerprint.fields)


@dataclass
class ShardWorker(ABC):
    """Encode shards of a source, one at a time, and commit them at `place`; `rows` is the number of all rows."""

    source: PairSource
    rows: int
    plan: ShardPlan
    place: ShardPlace
    dtype: str

    @property
    @abstractmethod
    def encoders(self) -> Mapping[Side, EncoderIdentity]:
        """Return what encodes each side."""

    @abstractmethod
    def encode_rows(self, attempt: ShardAttempt, source: Any, stop: int, clock: EncoderClock) -> None:
        """Append the rows up to `stop` to an attempt."""

    def describe_encoders(self) -> Mapping[Side, EncoderIdentity]:
        """Return what encodes each side; the first call that a worker gets."""
        return self.encoders

    def align(self, row: int) -> int:
        """Return the row at which a shard that is planned to begin at `row` does begin."""
        return align_row(self.source, row, self.rows)

    def encode(self, task: ShardTask) -> FinishedShard:
        """Encode a shard and commit it; return it, or what another attempt has committed.

        Raises InputRefused for an input file that has changed, before or meanwhile.
        """
        self.plan.check_files(self.source, task.shard)
        clock = EncoderClock()
        with self.place.open_attempt(task.attempt) as (folder, marker):
            start, stop = self.align(task.shard.start), self.align(task.shard.stop)
            attempt = ShardAttempt(folder, start, self.dtype)
            self._encode(task, attempt, marker, stop, clock)
            self.plan.check_files(self.source, task.shard)
            return self.place.commit(attempt, task.shard.name, self._describe(clock))

    def _describe(self, clock: EncoderClock) -> dict[str, Any]:
        """Return what a finished shard says of its worker."""
        return {
            "plan": self.plan.digest,
            "encoders": {side: dict(each.fingerprint) for side, each in self.encoders.items()},
            "images": clock.images,
            "texts": clock.texts,
            "cut_texts": clock.cut_texts,
            "microseconds": {stage: int(1e6 * seconds) for stage, seconds in clock.seconds.items()},
            "encoder_microseconds": int(1e6 * clock.encoder_seconds),
        }

    def _encode(self, task: ShardTask, attempt: ShardAttempt, marker: Marker, stop: int, clock: EncoderClock) -> None:
        """Encode the rows before the window at once, those in it one by one, and the rest at once."""
        window = task.window or Mark(stop, stop)
        first, last = (min(max(self.align(row), attempt.next_row), stop) for row in (window.first, window.stop))

        def watch(reading: Callable[[int], None]) -> WatchedSource:
            return WatchedSource(self.source, reading, frozenset(task.quarantined), QUARANTINED.format(KILLS))

        at_once = watch(lambda row: marker.write(Mark(attempt.next_row, row + 1)))
        self._encode_up_to(attempt, at_once, first, clock)
        while attempt.next_row < last:
            row = attempt.next_row
            marker.write(Mark(row, row + 1, row_by_row=True))
            end = min(self.align(row + 1), stop)
            marker.write(Mark(row, end, row_by_row=True))
            self._encode_up_to(attempt, watch(lambda row: None), end, clock)
        self._encode_up_to(attempt, at_once, stop, clock)

    def _encode_up_to(self, attempt: ShardAttempt, source: WatchedSource, stop: int, clock: EncoderClock) -> None:
        if attempt.next_row < stop:
            self.encode_rows(attempt, source, stop, clock)


@dataclass
class PairShardWorker(ShardWorker):
    """Encode pairs; made in the process of a worker, with encoders of its own.

    `load` loads them; `apart` is the folder of the index of rows whose pairs are apart, if there are any.
    """

    options: BuildOptions
    load: Callable[[], tuple[ImageEncoder, TextEncoder]]
    apart: Path | None = None
    _loaded: tuple[ImageEncoder, TextEncoder] = field(init=False)
    _index: RowsApart | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._loaded = self.load()
        self._index = None if self.apart is None else RowsApart.load(self.apart)

    @property
    def encoders(self) -> Mapping[Side, EncoderIdentity]:
        """Return what encodes each side."""
        return {side: EncoderIdentity.of(encoder) for side, encoder in zip(SIDES, self._loaded, strict=True)}

    def align(self, row: int) -> int:
        """Return the row itself where pairs may be apart: then each row is read for itself."""
        return row if self._index is not None else super().align(row)

    def encode_rows(self, attempt: ShardAttempt, source: Any, stop: int, clock: EncoderClock) -> None:
        """Append the rows up to `stop` to an attempt."""
        encode_rows(attempt, source, stop, self._index, self._loaded, self.options, clock, lambda rows: None, self.rows)
