"""Build an anchor set from pairs: read, encode, journal, publish; a killed build resumes where it stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

from asif.anchorset import AnchorSet, EncoderInfo, Journal, Store
from asif.building.batch import EmbeddingBatch, EncoderClock, PreparedPair, prepare_pair
from asif.building.pair_records import CaptionMode
from asif.encoders import ImageEncoder, TextEncoder
from asif.encoders.prefetch import prefetch
from asif.encoders.text_limits import describe_cut
from asif.errors import InputRefused, Interrupted, UsageError
from asif.pairs import Pair, Place, Reject, join_repeated_ids
from asif.pairs.pair import ID_CONFLICT
from asif.version import VERSION

_log = logging.getLogger(__name__)

SEGMENT_ROWS = 512
"""Rows in one journal segment: a resumed build encodes at most this many rows again."""


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
class Tolerance:
    """Limit the bad rows of a build: to a share of all rows, or to a number.

    >>> Tolerance.parse("1%").allowed(6000), Tolerance.parse("25").allowed(6000)
    (60, 25)
    """

    share: float = 0.01
    number: int | None = None

    @classmethod
    def parse(cls, text: str) -> Tolerance:
        """Read "1%" or "25"; raises UsageError for anything else."""
        try:
            if text.endswith("%"):
                share = float(text[:-1]) / 100
                if 0 <= share <= 1:
                    return cls(share)
            elif int(text) >= 0:
                return cls(number=int(text))
        except ValueError:
            pass
        raise UsageError(f"--max-bad-rows is {text!r}", "a share or a number of rows", "pass for example 1% or 25")

    def allowed(self, rows: int) -> int:
        """Return how many of `rows` rows may be bad."""
        return int(self.share * rows) if self.number is None else self.number


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
class BuildResult:
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

    @property
    def encoder_share(self) -> float:
        """Return the share of the time that the encoders' forward passes took."""
        return (self.clock.image_seconds + self.clock.text_seconds) / self.seconds if self.seconds else 0.0


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

    `progress` is called with the number of rows done; `profiles` {task: profile} are stored with the set. Memory: one
    segment of 512 pairs, and about 250 bytes per pair. Consecutive rows with the same id and image are one pair with
    all their captions. Raises InputRefused for damaged or empty input and when more rows are bad than
    `options.max_bad_rows` allows, Interrupted on Ctrl-C; both keep the journal, and the same call
    resumes where it stopped.
    """
    started = time.perf_counter()
    rows = source.rows if options.limit is None else min(source.rows, options.limit)
    if rows == 0:
        raise InputRefused(f"{source.path} has no rows", "at least one pair", "check the path")
    info = {side: EncoderInfo(e.spec, e.fingerprint) for side, e in (("image", image), ("text", text))}
    plan = {
        "input": source.identity,
        "encoders": {side: [each.spec, each.fingerprint.digest] for side, each in info.items()},
        "captions": options.captions,
        "dtype": options.dtype,
        "dedup": options.dedup,
        "limit": options.limit,
    }
    if not options.resume:
        with store.journal(name, plan) as old:
            old.discard()
    with store.journal(name, plan) as journal:
        resumed_at, clock = journal.next_row, EncoderClock()
        progress(resumed_at)
        try:
            _encode_rows(journal, source, rows, EmbeddingBatch(image, text, options.captions, clock), options, progress)
            joined = 0 if options.captions == "all" else journal.joined
            anchors = journal.publish(
                image=info["image"],
                text=info["text"],
                dtype=options.dtype,
                captions=options.captions,
                operation=operation,
                asif_version=VERSION,
                dedup="exact" if options.dedup == "exact" else "keep",
                profiles=profiles,
                check=lambda rejects: _check_rejects(rejects, rows, options),
            )
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped at row {journal.next_row:,} of {rows:,}; {journal.kept:,} anchors are saved",
                "the rest of the rows",
                "run the same command again to resume",
            ) from None
    if clock.cut_texts:
        _log.warning(describe_cut(clock.cut_texts, clock.texts, "captions", text.spec, text.fingerprint))
    return BuildResult(anchors, rows - resumed_at, resumed_at, time.perf_counter() - started, clock, joined)


def _encode_rows(
    journal: Journal,
    source: PairReader,
    rows: int,
    batch: EmbeddingBatch,
    options: BuildOptions,
    progress: Callable[[int], None],
) -> None:
    """Encode the rows that are not in the journal yet, segment by segment."""
    done, end = journal.next_row, 0
    bad, conflicts = _make_counter(rows, options), _IdConflicts()
    for reject in journal.rejects():
        bad.count(reject)
    items = join_repeated_ids(_fill_missing_ids(islice(source.read(done), rows - done), options))
    # closing it cancels pending work
    with closing(prefetch(lambda item: prepare_pair(item, batch.image), items)) as prepared_rows:
        for prepared in prepared_rows:
            batch.add(prepared)
            item = prepared.pair if isinstance(prepared, PreparedPair) else prepared
            done, end = done + 1 + len(item.joined), max(end, item.row + 1, *(row + 1 for row in item.joined))
            if isinstance(prepared, Reject):
                bad.count(prepared)
            elif conflicts.add(prepared):
                bad.count(Reject(item.row, item.id, ID_CONFLICT))
            if (len(batch) >= SEGMENT_ROWS and done == end) or done == rows:
                before = len(batch.rejects)
                records, rows_of, image, text = batch.finish()
                for reject in batch.rejects[before:]:
                    bad.count(reject)
                journal.append(records, image, text, batch.rejects, done, rows_of, batch.joined)
                batch = EmbeddingBatch(batch.image, batch.text, batch.captions, batch.clock)
                progress(done)
    if done < rows:
        raise InputRefused(
            f"{source.path} ended after {done:,} rows",
            f"{rows:,} rows, as it had when it was opened",
            "start again when it is complete",
        )


def _fill_missing_ids(items: Iterable[Pair | Reject], options: BuildOptions) -> Iterator[Pair | Reject]:
    """Give pairs without an id one made from their row, if equal pairs are kept (dedup = "keep")."""
    for item in items:
        nameless = options.dedup == "keep" and isinstance(item, Pair) and item.id is None
        yield replace(item, id=f"row-{item.row}") if nameless else item


def _make_counter(rows: int, options: BuildOptions) -> BadRowCounter:
    return BadRowCounter(options.max_bad_rows.allowed(rows), rows, "; what is done is kept")


def _check_rejects(rejects: Sequence[Reject], rows: int, options: BuildOptions) -> None:
    """Count all rejects of a build, duplicates included; raises InputRefused for too many bad ones."""
    bad = _make_counter(rows, options)
    for reject in rejects:
        bad.count(reject)


class _IdConflicts:
    """Find pairs whose id names another pair, so that a build stops early; about 150 bytes for each pair."""

    def __init__(self) -> None:
        self._ids: set[int] = set()
        self._pairs: set[int] = set()

    def add(self, prepared: PreparedPair) -> bool:
        """Add a pair, and tell whether it differs from all earlier ones with its id, of which there are some."""
        pair = prepared.pair
        if pair.id is None:
            return False
        name, whole = hash(pair.id), hash((pair.id, prepared.image_sha256, pair.captions))
        conflicts = name in self._ids and whole not in self._pairs
        self._ids.add(name)
        self._pairs.add(whole)
        return conflicts


class BadRowCounter:
    """Count bad rows and raise when there are too many; `note` is appended to the advice of that error."""

    def __init__(self, allowed: int, rows: int, note: str = "") -> None:
        self.allowed = allowed
        self.rows = rows
        self.note = note
        self.reasons: list[Reject] = []

    def count(self, reject: Reject) -> None:
        """Count one reject, once for each of its rows; raises InputRefused, with the first reasons, above the limit."""
        if not reject.bad:
            return
        self.reasons += reject.split_rows()
        if len(self.reasons) > self.allowed:
            first = "; ".join(f"row {bad.row}: {bad.reason}" for bad in self.reasons[:3])
            ids = any(bad.reason == ID_CONFLICT for bad in self.reasons)
            raise InputRefused(
                f"{len(self.reasons)} bad rows ({first})",
                f"at most {self.allowed} bad rows of {self.rows:,}"
                + (", and one image for each id, with the rows of an id next to each other" if ids else ""),
                ("sort the rows by id, or take no ids from the input with --column id=, or " if ids else "")
                + f"mend the input, or allow more with --max-bad-rows{self.note}",
            )
