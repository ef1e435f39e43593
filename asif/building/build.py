"""Build an anchor set from pairs: read, encode, journal, publish; a killed build resumes where it stopped."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeAlias

from asif.anchorset import AnchorSet, EncoderInfo, Journal, Store
from asif.anchorset.format.atomic_io import make_folder
from asif.building.bad_rows import BadRowCounter, Tolerance, UnusablePairs
from asif.building.batch import EmbeddingBatch, PreparedPair, prepare_pair
from asif.building.caption_encoder import CaptionEncoder
from asif.building.clock import EncoderClock, StageTimes
from asif.building.pair_records import CaptionMode
from asif.building.segments import PreparedItem, SegmentCollector, SegmentWriter, finish_segments
from asif.building.stages import SingleWorker, read_ahead, run_forward_passes
from asif.encoders import ImageEncoder, TextEncoder
from asif.encoders.prefetch import open_decoders, prefetch
from asif.encoders.text_limits import describe_cut
from asif.errors import InputRefused, Interrupted
from asif.pairs import (
    JoinedRow,
    Pair,
    PairSource,
    Place,
    Reject,
    RowsApart,
    index_rows_apart,
    join_repeated_ids,
)
from asif.vectors import Fingerprint
from asif.version import VERSION

_log = logging.getLogger(__name__)

SEGMENT_ROWS = 512
"""Rows in one journal segment. A killed build repeats two at most: one that was written, one that was encoded."""
READ_BYTES = 32 << 20
"""Bytes of images, vectors and captions that are read ahead."""
_Item: TypeAlias = Pair | Reject | JoinedRow


class PairReader(Protocol):
    """Read pairs in a fixed order: the part of `asif.pairs.PairSource` that a build needs."""

    @property
    def path(self) -> Place: ...
    @property
    def rows(self) -> int: ...
    @property
    def identity(self) -> str: ...

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield exactly one item for each row from `start` on."""
        ...


@dataclass(frozen=True)
class BuildOptions:
    """Hold how pairs become anchors; `limit` is the number of source rows to read."""

    captions: CaptionMode = "mean"
    dtype: str = "float16"
    dedup: str = "exact"
    limit: int | None = None
    max_bad_rows: Tolerance = field(default_factory=Tolerance)
    resume: bool = True


@dataclass(frozen=True)
class BuildResult(StageTimes):
    """Hold the result of a build: the set, the `rows` read in this run after row `resumed_at`, and the times.

    `joined` counts the rows whose captions are part of the anchor of another row with their id and image.
    If it was `already_built` by an earlier run, no row was read.
    """

    anchors: AnchorSet
    rows: int
    resumed_at: int
    seconds: float
    clock: EncoderClock
    joined: int = 0
    already_built: bool = False


def build_anchor_set(
    source: PairReader,
    store: Store,
    name: str,
    image: ImageEncoder,
    text: TextEncoder,
    options: BuildOptions,
    operation: dict[str, Any],
    progress: Callable[[int], None] = lambda rows: None,
    profiles: Mapping[str, Any] | None = None,
) -> BuildResult:
    """Build a version of the anchor set `name` and make it current.

    `progress` is called with the number of rows done; `profiles` {task: profile} are stored with the set. Memory: two
    segments of 512 pairs, 32 MB read and 64 MB decoded ahead, and about 250 bytes per pair. Rows with the same id and
    image are one pair with all their captions; those of a table need not follow each other, but if they do not, the
    table is read once before. Raises InputRefused for damaged or empty input and when more rows are bad than
    `options.max_bad_rows` allows, Interrupted on Ctrl-C; both keep the journal, and the same call resumes where it
    stopped.
    """
    started = time.perf_counter()
    rows = source.rows if options.limit is None else min(source.rows, options.limit)
    if rows == 0:
        raise InputRefused(f"{source.path} has no rows", "at least one pair", "check the path")
    clock = EncoderClock(decoders=_count_decoders())
    with clock.measure("read"):
        apart = index_rows(source, rows, store, options)
    info = {side: EncoderInfo(e.spec, e.fingerprint) for side, e in (("image", image), ("text", text))}
    plan = plan_build(source, info, options, apart)
    if not options.resume:
        with store.journal(name, plan) as old:
            old.discard()
    with store.journal(name, plan) as journal:
        resumed_at = journal.next_row
        progress(resumed_at)
        try:
            encode_rows(journal, source, rows, apart, (image, text), options, clock, progress)
            joined = 0 if options.captions == "all" else journal.joined
            with clock.measure("write"):
                anchors = journal.publish(
                    image=info["image"],
                    text=info["text"],
                    dtype=options.dtype,
                    captions=options.captions,
                    operation=operation,
                    asif_version=VERSION,
                    dedup="exact" if options.dedup == "exact" else "keep",
                    profiles=profiles,
                    check=lambda rejects: check_rejects(rejects, rows, options),
                )
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped at row {journal.next_row:,} of {rows:,}; {journal.kept:,} anchors are saved",
                "the rest of the rows",
                "run the same command again to resume",
            ) from None
    report_cut_captions(clock, text.spec, text.fingerprint)
    return BuildResult(anchors, rows - resumed_at, resumed_at, time.perf_counter() - started, clock, joined)


def report_cut_captions(clock: EncoderClock, spec: str, fingerprint: Fingerprint) -> None:
    """Warn of captions whose end the text encoder does not read."""
    if clock.cut_texts:
        _log.warning(describe_cut(clock.cut_texts, clock.texts, "captions", spec, fingerprint))


def _count_decoders() -> int:
    """Return how many threads decode: one for each core, from 2 to 16.

    They decode only what the image encoder has made room for: beside one on the same cores few of them work at a time,
    beside one on a GPU all.
    """
    return min(16, max(2, os.cpu_count() or 2))


def plan_build(
    source: PairReader, info: Mapping[str, EncoderInfo], options: BuildOptions, apart: RowsApart | None
) -> dict[str, Any]:
    """Return what decides the outcome of a build: a journal with another plan is not resumed."""
    return {
        "input": source.identity,
        "encoders": {side: [each.spec, each.fingerprint.digest] for side, each in info.items()},
        "captions": options.captions,
        "dtype": options.dtype,
        "dedup": options.dedup,
        "limit": options.limit,
        **({"rows": "apart"} if apart else {}),
    }


def index_rows(source: PairReader, rows: int, store: Store, options: BuildOptions) -> RowsApart | None:
    """Index rows of one id that do not follow each other.

    Raises InputRefused for too many ids of several images, Interrupted on Ctrl-C.
    """
    if not isinstance(source, PairSource):
        return None
    make_folder(store.root)
    conflicts = BadRowCounter(options.max_bad_rows.allowed(rows), rows)
    try:
        return index_rows_apart(source, rows, store.root, conflicts.count)
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped while ids were read, before anything was encoded; what an earlier run saved is kept",
            f"the ids of {rows:,} rows",
            "run the same command again to resume",
        ) from None


def encode_rows(
    journal: Journal,
    source: PairReader,
    rows: int,
    apart: RowsApart | None,
    encoders: tuple[ImageEncoder, TextEncoder],
    options: BuildOptions,
    clock: EncoderClock,
    progress: Callable[[int], None],
    of_rows: int | None = None,
) -> None:
    """Encode the rows up to `rows` that are not in the journal yet, segment by segment.

    They are part of `of_rows` rows, to which the limit of bad rows applies, by default of `rows`.

    Threads read and decode rows, encode captions and write segments. The calling thread waits for images to be encoded,
    where Ctrl-C interrupts it. Errors are raised in the order of the rows, once the segments before are written.
    """
    bad, unusable = make_counter(of_rows or rows, options), UnusablePairs(apart)
    for reject in journal.rejects():
        bad.count(reject)
        unusable.add(reject)
    with run_forward_passes(in_one_thread=_are_on_torch(*encoders)) as run_forward:
        captions = CaptionEncoder(encoders[1], options.captions, SEGMENT_ROWS, clock, run_forward)
        writer = SingleWorker(
            "write",
            SegmentWriter(journal, captions, bad, unusable, clock).write,
            lambda segment: progress(segment.done),
        )
        collector = SegmentCollector(
            lambda: EmbeddingBatch(*encoders, options.captions, clock, run_forward),
            writer,
            bad,
            SEGMENT_ROWS,
            rows,
            journal.next_row,
        )
        items = _join_rows(islice(source.read(collector.done), rows - collector.done), apart, options)
        with (
            finish_segments(writer, captions),
            _prepare_rows(_announce_items(items, captions), encoders[0], clock) as prepared_rows,
        ):
            for prepared in prepared_rows:
                collector.add(prepared)
                writer.check()
    if collector.done < rows:
        raise InputRefused(
            f"{source.path} ended after {collector.done:,} rows",
            f"{rows:,} rows, as it had when it was opened",
            "start again when it is complete",
        )


def _are_on_torch(image: ImageEncoder, text: TextEncoder) -> bool:
    """Tell whether both encoders run in torch: in two threads, OpenMP would keep a pool of threads for each."""
    return all(encoder.fingerprint.fields.get("backend") == "torch" for encoder in (image, text))


def _join_rows(rows: Iterable[Pair | Reject], apart: RowsApart | None, options: BuildOptions) -> Iterator[_Item]:
    """Yield rows as items: pairs with all their captions, later rows of them, and rejects."""
    filled = _fill_missing_ids(rows, options)
    return apart.join(filled) if apart else join_repeated_ids(filled)


def _announce_items(items: Iterable[_Item], captions: CaptionEncoder) -> Iterator[_Item]:
    """Yield items; their captions are encoded from then on."""
    for item in items:
        captions.add(item)
        yield item
    captions.end()


@contextmanager
def _prepare_rows(
    items: Iterable[_Item], encoder: ImageEncoder, clock: EncoderClock
) -> Iterator[Iterator[PreparedItem]]:
    """Read and decode items in threads, in order and within bounds of memory; the threads end with the block."""

    def prepare(item: _Item) -> PreparedItem:
        if isinstance(item, JoinedRow):
            return item
        started = time.perf_counter()
        try:
            return prepare_pair(item, encoder)
        finally:
            clock.add("decode", time.perf_counter() - started)

    read = read_ahead(
        items,
        _count_bytes,
        most=SEGMENT_ROWS,
        most_bytes=READ_BYTES,
        waited=partial(clock.add, "read"),
    )
    with (
        open_decoders(clock.decoders) as pool,
        closing(read),
        closing(prefetch(prepare, read, pool=pool, size=_count_bytes)) as prepared,
    ):
        yield prepared


def _count_bytes(item: _Item | PreparedPair) -> int:
    """Count the bytes of an image, encoded or prepared, or those of vectors, and of captions."""
    if isinstance(item, Reject | JoinedRow):
        return 0
    if isinstance(item, PreparedPair):
        return getattr(item.image, "nbytes", 0)
    return count_pair_bytes(item)


def count_pair_bytes(pair: Pair) -> int:
    """Count the bytes of an encoded image, or of vectors, and the characters of captions."""
    image = len(pair.image) if isinstance(pair.image, bytes) else 0
    vectors = sum(0 if each is None else each.nbytes for each in (pair.image_embedding, pair.text_embedding))
    return image + vectors + sum(map(len, pair.captions))


def _fill_missing_ids(items: Iterable[Pair | Reject], options: BuildOptions) -> Iterator[Pair | Reject]:
    """Give pairs without an id one made from their row, if equal pairs are kept (dedup = "keep")."""
    for item in items:
        nameless = options.dedup == "keep" and isinstance(item, Pair) and item.id is None
        yield replace(item, id=f"row-{item.row}") if nameless else item


def make_counter(rows: int, options: BuildOptions) -> BadRowCounter:
    """Make the counter of the bad rows among `rows`."""
    return BadRowCounter(options.max_bad_rows.allowed(rows), rows, "; what is done is kept")


def check_rejects(rejects: Sequence[Reject], rows: int, options: BuildOptions) -> None:
    """Count all rejects of a build, duplicates included; raises InputRefused for too many bad ones."""
    bad = make_counter(rows, options)
    for reject in rejects:
        bad.count(reject)
