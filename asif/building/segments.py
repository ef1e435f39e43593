"""Segments of a build: rows are collected to segments, which a thread adds to the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from asif.anchorset import Journal
from asif.building.bad_rows import BadRowCounter, IdConflicts, UnusablePairs
from asif.building.batch import EmbeddingBatch, PreparedPair
from asif.building.caption_encoder import CaptionEncoder
from asif.building.clock import EncoderClock
from asif.building.stages import SingleWorker
from asif.pairs import JoinedRow, Reject
from asif.pairs.pair import ID_CONFLICT

_CTRL_C_SECONDS = 0.5
"""How long a build that is stopped waits for the segment whose images are encoded."""
PreparedItem: TypeAlias = PreparedPair | Reject | JoinedRow


@dataclass
class Segment:
    """Hold the rows of a journal segment up to the row `done`, and up to item `stop` of this run."""

    batch: EmbeddingBatch
    bad: list[Reject] = field(default_factory=list)
    done: int = 0
    stop: int = 0


class SegmentCollector:
    """Collect prepared rows, in the order of the source, and hand segments to the writer; images are encoded then."""

    def __init__(
        self,
        make_batch: Callable[[], EmbeddingBatch],
        writer: SingleWorker[Segment],
        bad: BadRowCounter,
        segment_rows: int,
        rows: int,
        done: int,
    ) -> None:
        self._make_batch, self._writer, self._bad = make_batch, writer, bad
        self._segment_rows, self._rows = segment_rows, rows
        self._conflicts, self._known = IdConflicts(), len(bad.reasons)
        self._segment = Segment(make_batch())
        self._end = self._items = 0
        self.done = done

    def add(self, prepared: PreparedItem) -> None:
        """Add a row; raises InputRefused for too many bad ones."""
        self._segment.batch.add(prepared)
        covered = _list_rows(prepared)
        self._items += 1
        self.done += len(covered)
        self._end = max(self._end, *(row + 1 for row in covered))
        if isinstance(prepared, Reject):
            self._note_bad(prepared)
        elif isinstance(prepared, PreparedPair) and self._conflicts.add(prepared):
            self._note_bad(Reject(prepared.pair.row, prepared.pair.id, ID_CONFLICT))
        full = len(self._segment.batch) >= self._segment_rows and self.done == self._end
        if full or self.done == self._rows:
            self._hand_over()

    def _note_bad(self, reject: Reject) -> None:
        """Keep a reject for the writer, which counts it after those of earlier segments; too many are raised now."""
        self._segment.bad.append(reject)
        self._known += len(reject.split_rows()) if reject.bad else 0
        if self._known > self._bad.allowed:
            self._writer.wait()
            for each in self._segment.bad:
                self._bad.count(each)

    def _hand_over(self) -> None:
        self._segment.batch.flush()
        self._segment.done, self._segment.stop = self.done, self._items
        self._writer.put(self._segment)
        self._segment = Segment(self._make_batch())


def _list_rows(prepared: PreparedItem) -> list[int]:
    """Return the source rows that an item covers."""
    if isinstance(prepared, JoinedRow):
        return [prepared.row]
    item = prepared.pair if isinstance(prepared, PreparedPair) else prepared
    return [item.row, *item.joined]


class SegmentWriter:
    """Add segments to the journal, in the order of the source."""

    def __init__(
        self,
        journal: Journal,
        captions: CaptionEncoder,
        bad: BadRowCounter,
        unusable: UnusablePairs,
        clock: EncoderClock,
    ) -> None:
        self._journal, self._captions, self._clock = journal, captions, clock
        self._bad, self._unusable = bad, unusable

    def write(self, segment: Segment) -> None:
        """Count the bad rows of a segment, wait for its captions, and add it to the journal."""
        for reject in segment.bad:
            self._bad.count(reject)
        encoded, batch = self._captions.take(segment.stop), segment.batch
        batch.count_texts()
        with self._clock.measure("write"):
            before = len(batch.rejects)
            records, rows, image, text = batch.finish(encoded, self._unusable.reasons)
            for reject in batch.rejects[before:]:
                self._bad.count(reject)
            self._journal.append(records, image, text, batch.rejects, segment.done, rows, batch.joined)
            for reject in batch.rejects:
                self._unusable.add(reject)


@contextmanager
def finish_segments(writer: SingleWorker[Segment], captions: CaptionEncoder) -> Iterator[None]:
    """Let the segment that waits be written, also after an error; for a moment only if it was Ctrl-C."""
    try:
        yield
        writer.wait()
    except BaseException as error:
        writer.wait(_CTRL_C_SECONDS if isinstance(error, KeyboardInterrupt) else None)
        raise
    finally:
        try:
            captions.close()
        finally:
            writer.close()
