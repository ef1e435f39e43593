"""Encode the rows of a gallery's source into a journal: segment by segment, each content once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from asif.anchorset import Journal, Store
from asif.building import BadRowCounter
from asif.building.build import READ_BYTES, count_pair_bytes
from asif.building.clock import EncoderClock
from asif.building.gallery.deferred import DeferredEncoder
from asif.building.gallery.prepare import ItemReader, PreparedItem, PreparedRow, SkippedRows
from asif.building.stages import read_ahead
from asif.encoders.prefetch import count_shared_decoders, prefetch
from asif.encoders.text_limits import count_cut_texts, describe_cut
from asif.errors import Busy, InputRefused
from asif.pairs import Pair, Reject, join_repeated_ids
from asif.pairs.item import ItemRecord
from asif.vectors import Float32, find_vector_problems, normalise_rows

_log = logging.getLogger(__name__)

SEGMENT_ROWS = 512
"""Rows in one journal segment: a resumed build encodes at most this many rows again."""
_SKIPPED_PER_ROW = 128  # rows that cost as little to read again as one that is encoded
_TEXTS_PER_BATCH = 512
_Row: TypeAlias = Pair | Reject | SkippedRows


@dataclass
class _ItemBatch:
    """Collect prepared rows; run the encoder on each new content once; return what a segment of the journal holds."""

    reader: ItemReader
    clock: EncoderClock
    find_earlier: Callable[[str], Float32 | None]
    items: list[tuple[int, PreparedItem]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    _pending: dict[str, Any] = field(default_factory=dict)
    _encoded: dict[str, Float32] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items) + len(self.rejects) + len(self.skipped) // _SKIPPED_PER_ROW

    def add(self, row: PreparedRow | Reject | SkippedRows) -> None:
        """Add one row, or a group of skipped ones."""
        if isinstance(row, SkippedRows):
            self.skipped += row.rows
            return
        if isinstance(row, Reject):
            self.rejects += row.split_rows()
            return
        self.skipped += row.pair.joined if row.items else (row.pair.row, *row.pair.joined)
        for item in row.items:
            self.items.append((row.pair.row, item))
            self._encode_later(item)

    def _encode_later(self, item: PreparedItem) -> None:
        sha256 = item.record.sha256
        if item.ready is None or sha256 in self._pending or sha256 in self._encoded:
            return
        earlier = self.find_earlier(sha256)
        if earlier is not None:
            self._encoded[sha256] = earlier
            return
        self._pending[sha256] = item.ready
        batch = _TEXTS_PER_BATCH if self.reader.side == "text" else self.reader.encoder.batch  # type: ignore[union-attr]
        if len(self._pending) >= batch:
            self._run()

    def _run(self) -> None:
        """Pass what is pending through the encoder, and count its time."""
        if not self._pending:
            return
        encoder, inputs = self._open_encoder(), list(self._pending.values())
        is_image = self.reader.side == "image"
        with self.clock.measure("encode_images" if is_image else "encode_texts"):
            vectors = encoder.forward(inputs)
        if is_image:
            self.clock.images += len(inputs)
        else:
            self.clock.texts += len(inputs)
            self.clock.cut_texts += count_cut_texts(encoder, inputs)
        self._encoded |= dict(zip(self._pending, _make_unit_rows(vectors), strict=True))
        self._pending = {}

    def _open_encoder(self) -> Any:
        encoder = self.reader.encoder
        return encoder.open() if isinstance(encoder, DeferredEncoder) else encoder

    def finish(self) -> tuple[list[ItemRecord], list[int], Float32]:
        """Run what is pending; return records, their source rows and vectors [n, d]. Bad vectors join the rejects."""
        self._run()
        found = [(row, item.record, self._find_vector(item)) for row, item in self.items]
        problems = {row: vector for row, _, vector in found if isinstance(vector, str)}
        names = {row: record.id for row, record, _ in found}
        self.rejects += [Reject(row, names[row], problem) for row, problem in problems.items()]
        good = [(row, record, vector) for row, record, vector in found if row not in problems]
        vectors = [np.asarray(vector, np.float32) for _, _, vector in good]
        dim = self.reader.encoder.dim
        stacked = np.stack(vectors) if vectors else np.empty((0, dim), np.float32)
        return [record for _, record, _ in good], [row for row, _, _ in good], stacked

    def _find_vector(self, item: PreparedItem) -> Float32 | str:
        """Return the unit vector of an item, or why it has none."""
        if item.stored is not None:
            return item.stored
        if item.precomputed is not None:
            vector = _make_unit_rows(item.precomputed[None])[0]
        else:
            vector = self._encoded[item.record.sha256]
        problems = find_vector_problems(vector[None])
        return f"{self.reader.modality} embedding is {problems[0]}" if problems else vector


def _make_unit_rows(raw: Float32) -> Float32:
    """Scale raw vectors [n, d] to unit length; those that are zero or not finite stay as they are."""
    unit = np.array(raw, np.float32)
    good = [row for row in range(len(unit)) if row not in find_vector_problems(unit)]
    unit[good] = normalise_rows(unit[good])
    return unit


@contextmanager
def open_earlier_journals(store: Store, name: str, plan: Mapping[str, Any]) -> Iterator[list[Journal]]:
    """Open the journals that killed runs left, of the same encoder and dtype; remove them if all goes well.

    They are of another plan: files of the source have changed since.
    """
    with ExitStack() as stack:
        found = []
        for other in store.list_journal_plans(name):
            if other != plan and all(other.get(key) == plan[key] for key in ("encoder", "dtype")):
                with suppress(Busy):
                    found.append(stack.enter_context(store.journal(name, other)))
        yield found
        for journal in found:
            journal.discard()


def encode_rows(
    journal: Journal,
    others: Sequence[Journal],
    reader: ItemReader,
    rows: int,
    bad: BadRowCounter,
    progress: Callable[[int], None],
) -> EncoderClock:
    """Encode the rows that are not in the journal yet; `progress` is called with the number of rows done.

    Content of which the journal, or one of the others, has the vector, is not encoded again. Raises InputRefused if the
    source ends early, or for more bad rows than are allowed.
    """
    done, end, clock = journal.next_row, 0, EncoderClock(decoders=count_shared_decoders())
    earlier = _EarlierVectors(journal, others, reader)
    for reject in journal.rejects():
        bad.count(reject)
    progress(done)
    batch = _ItemBatch(reader, clock, earlier.find)
    items = reader.group_skipped(join_repeated_ids(islice(reader.source.read(done), rows - done)))
    with _prepare_rows(reader, items, clock) as prepared_rows:
        for row in prepared_rows:
            prepared = _load_and_prepare(reader, row, clock)
            batch.add(prepared)
            covered = _list_rows(prepared)
            done, end = done + len(covered), max(end, *(row + 1 for row in covered))
            if isinstance(prepared, Reject):
                bad.count(prepared)
            if (len(batch) >= SEGMENT_ROWS and done == end) or done == rows:
                _append(journal, batch, done, bad, earlier)
                batch = _ItemBatch(reader, clock, earlier.find)
                progress(done)
    if done < rows:
        raise InputRefused(
            f"{reader.source.path} ended after {done:,} rows",
            f"{rows:,} rows, as it had when it was opened",
            "start again when it is complete",
        )
    if clock.cut_texts:
        encoder = reader.encoder
        _log.warning(describe_cut(clock.cut_texts, clock.texts, "texts", encoder.spec, encoder.fingerprint))
    return clock


@contextmanager
def _prepare_rows(
    reader: ItemReader, items: Iterable[_Row], clock: EncoderClock
) -> Iterator[Iterator[PreparedRow | Reject | SkippedRows]]:
    """Read rows in a thread, and prepare them in those that all callers share, in order and within bounds of memory."""

    def prepare(item: _Row) -> PreparedRow | Reject | SkippedRows:
        started = time.perf_counter()
        try:
            return reader.prepare(item)
        finally:
            clock.add("decode", time.perf_counter() - started)

    waited = partial(clock.add, "read")
    read = read_ahead(items, _count_bytes, most=SEGMENT_ROWS, most_bytes=READ_BYTES, waited=waited)
    with closing(read), closing(prefetch(prepare, read, size=_count_bytes)) as prepared:
        yield prepared


def _count_bytes(row: _Row | PreparedRow) -> int:
    """Count the bytes of a row's content, read or prepared."""
    if isinstance(row, PreparedRow):
        return sum(getattr(item.ready, "nbytes", 0) for item in row.items)
    return count_pair_bytes(row) if isinstance(row, Pair) else 0


def _list_rows(row: PreparedRow | Reject | SkippedRows) -> Sequence[int]:
    """List the source rows that a prepared row covers."""
    if isinstance(row, SkippedRows):
        return row.rows
    item = row.pair if isinstance(row, PreparedRow) else row
    return (item.row, *item.joined)


def _load_and_prepare(
    reader: ItemReader, row: PreparedRow | Reject | SkippedRows, clock: EncoderClock
) -> PreparedRow | Reject | SkippedRows:
    """Prepare a row again, once the encoder is loaded, that waits for it; return others as they are."""
    if not isinstance(row, PreparedRow) or not row.waits:
        return row
    if isinstance(reader.encoder, DeferredEncoder):
        reader.encoder.open()
    with clock.measure("decode"):
        return reader.prepare(row.pair)


class _EarlierVectors:
    """Find the vectors that are in the journal, or in others, by content."""

    def __init__(self, journal: Journal, others: Sequence[Journal], reader: ItemReader) -> None:
        self._journal, self._side = journal, reader.side
        self._places: dict[str, tuple[Journal, int]] = {}
        self._count = journal.kept
        for each in (journal, *others):
            for number, record in enumerate(each.records()):
                self._places.setdefault(record.image_sha256, (each, number))

    def add(self, records: Sequence[ItemRecord]) -> None:
        """Add records that were appended to the journal."""
        for number, record in enumerate(records, self._count):
            self._places.setdefault(record.sha256, (self._journal, number))
        self._count += len(records)

    def find(self, sha256: str) -> Float32 | None:
        """Return the stored vector [d] of a content, or None."""
        if sha256 not in self._places:
            return None
        journal, number = self._places[sha256]
        return journal.read_vector(self._side, number)


def _append(journal: Journal, batch: _ItemBatch, done: int, bad: BadRowCounter, earlier: _EarlierVectors) -> None:
    before = len(batch.rejects)
    records, sources, vectors = batch.finish()
    for reject in batch.rejects[before:]:
        bad.count(reject)
    rejected = {reject.row for reject in batch.rejects}
    skipped = [row for row in batch.skipped if row not in rejected]
    with batch.clock.measure("write"):
        journal.append_sides(records, {batch.reader.side: vectors}, batch.rejects, done, sources, skipped)
    earlier.add(records)
