"""Build a gallery: its next version from all rows of a source; a killed build resumes where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from asif.anchorset import AnchorSet, EncoderInfo, Store
from asif.building import BadRowCounter, Tolerance
from asif.building.clock import EncoderClock, StageTimes
from asif.building.gallery.encode import encode_rows, open_earlier_journals
from asif.building.gallery.known import KnownVectors
from asif.building.gallery.prepare import ItemEncoder, ItemReader
from asif.errors import InputRefused, IntegrityError, Interrupted, NotFound
from asif.modality import read_modality
from asif.pairs import PairSource
from asif.pairs.filter_expression import parse_where
from asif.pairs.item import ITEM_FIELDS, ItemRecord
from asif.vectors import Side


@dataclass(frozen=True)
class GalleryOptions:
    """Hold how rows become items: the number of rows to read, the items to keep, and how they are stored.

    `where` is an expression over the fields of items, see `asif.pairs.item.ITEM_FIELDS`.
    """

    dtype: str = "float16"
    thumbnails: bool = False
    limit: int | None = None
    where: str | None = None
    max_bad_rows: Tolerance = field(default_factory=lambda: Tolerance(share=1.0))
    resume: bool = True

    def leaves_out(self) -> Callable[[ItemRecord], bool]:
        """Return a predicate of the items that `where` leaves out; raises UsageError for an invalid expression."""
        if self.where is None:
            return lambda record: False
        holds = parse_where(self.where, ITEM_FIELDS)
        return lambda record: not holds(record)

    def count_rows(self, source: PairSource) -> int:
        """Return how many rows of a source are read."""
        return source.rows if self.limit is None else min(self.limit, source.rows)

    def count_bad(self, rows: int) -> BadRowCounter:
        """Return a counter of bad rows that raises above the limit."""
        return BadRowCounter(self.max_bad_rows.allowed(rows), rows, "; what is done is kept")


@dataclass(frozen=True)
class GalleryResult(StageTimes):
    """Hold a version of a gallery as it was built: the rows read after row `resumed_at`, and the times."""

    opened: AnchorSet
    rows: int
    resumed_at: int
    seconds: float
    clock: EncoderClock

    @property
    def encoded(self) -> int:
        """Count the contents that the encoder ran on."""
        return self.clock.images + self.clock.texts


def build_gallery_version(
    source: PairSource,
    store: Store,
    name: str,
    side: Side,
    encoder: ItemEncoder,
    options: GalleryOptions,
    origin: Mapping[str, Any],
    progress: Callable[[int], None] = lambda rows: None,
) -> GalleryResult:
    """Build a version of the gallery `name` from all rows of a source, and make it current.

    Content that the current version has is not encoded again if its encoder and dtype are the same. Raises InputRefused
    if no row can become an item, or if more are bad than `options` allows; Interrupted on Ctrl-C. Both keep what was
    done, and the same call resumes.
    """
    started, rows = time.perf_counter(), options.count_rows(source)
    if rows == 0:
        raise InputRefused(
            f"{source.path} has no rows", f"at least one {read_modality(encoder.fingerprint, side)}", "check the path"
        )
    plan = make_plan(source, encoder, options)
    if not options.resume:
        with store.journal(name, plan) as old:
            old.discard()
    current = open_compatible(store, name, side, encoder, options) if options.resume else None
    known = KnownVectors([current] if current else [], side)
    reader = ItemReader(source, side, encoder, known, options.thumbnails, options.leaves_out())
    with open_earlier_journals(store, name, plan) as earlier, store.journal(name, plan) as journal:
        resumed_at = journal.next_row
        try:
            clock = encode_rows(journal, earlier, reader, rows, options.count_bad(rows), progress)
            info = {side: EncoderInfo(encoder.spec, encoder.fingerprint)}
            with clock.measure("write"):
                opened = journal.publish_items(info, {"kind": "build", "input": source.identity}, origin)
        except KeyboardInterrupt:
            raise make_interrupted(journal.next_row, rows) from None
    return GalleryResult(opened, rows - resumed_at, resumed_at, time.perf_counter() - started, clock)


def make_plan(source: PairSource, encoder: ItemEncoder, options: GalleryOptions) -> dict[str, Any]:
    """Return what decides the outcome of encoding the rows of a source."""
    encoded_by = [encoder.spec, encoder.fingerprint.digest]
    return {"input": source.identity, "encoder": encoded_by, **make_plan_options(options)}


def make_plan_options(options: GalleryOptions) -> dict[str, Any]:
    """Return the options that decide the outcome."""
    wanted = asdict(options)
    del wanted["max_bad_rows"], wanted["resume"]
    return wanted


def make_interrupted(done: int, rows: int) -> Interrupted:
    """Make the error for Ctrl-C."""
    return Interrupted(
        f"stopped at row {done:,} of {rows:,}; what is done is saved",
        "the rest of the rows",
        "run the same command again to resume",
    )


def open_compatible(
    store: Store, ref: str, side: Side, encoder: ItemEncoder, options: GalleryOptions
) -> AnchorSet | None:
    """Open a version if its vectors are those that the encoder gives; None for another or a damaged one."""
    try:
        current = store.open(ref)
        store.verify(current.exactly).raise_if_bad()
    except (NotFound, IntegrityError):
        return None
    same = current.manifest.sides == (side,) and current.fingerprint(side) == encoder.fingerprint
    return current if same and current.manifest.dtype == options.dtype else None
