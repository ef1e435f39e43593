"""Update a gallery: its next version has the items that its source has now; only new content is encoded."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from asif.anchorset import AnchorSet, EncoderInfo, Journal, Store
from asif.anchorset.edit.gc import DeletedFiles
from asif.anchorset.edit.purge import PurgePlan
from asif.anchorset.edit.transaction import SourceState
from asif.anchorset.edit.whole_set import DeletedSet
from asif.anchorset.format.atomic_io import make_folder
from asif.anchorset.format.kinds import GALLERY
from asif.anchorset.format.locks import acquire_lock
from asif.anchorset.format.row_hash import hash_record
from asif.anchorset.receipts.receipt_file import check_receipt_path
from asif.anchorset.select.find import PairSelection, iter_ids
from asif.building.add_pairs import SCRATCH_FOLDER
from asif.building.clock import EncoderClock, StageTimes
from asif.building.gallery.build import GalleryOptions, make_interrupted, make_plan
from asif.building.gallery.encode import encode_rows, open_earlier_journals
from asif.building.gallery.known import KnownVectors
from asif.building.gallery.prepare import ItemEncoder, ItemReader
from asif.building.gallery.stored import StoredItems
from asif.errors import BadMedia, Busy, InputRefused, IntegrityError, NotFound
from asif.pairs import PairSource, Reject, join_repeated_ids
from asif.pairs.item import ItemRecord
from asif.pairs.pair import ID_CONFLICT, SAME_PAIR, Pair
from asif.vectors import Side


@dataclass(frozen=True)
class GalleryChanges(StageTimes):
    """Count what an update changed: items that are new, changed, or gone, those as they were, and contents encoded.

    `renamed` are new items whose content an item had that is gone; `rows` were read in this run. A purge has `deleted`
    files.
    """

    opened: AnchorSet
    added: int
    changed: int
    renamed: int
    removed: int
    unchanged: int
    rejected: int
    rows: int
    clock: EncoderClock
    seconds: float
    deleted: DeletedFiles | None = None

    @property
    def encoded(self) -> int:
        """Count the contents that the encoder ran on."""
        return self.clock.images + self.clock.texts


@dataclass(frozen=True)
class UpdateRows:
    """Hold what is needed to encode the rows of an update into a journal of the set `name` of the store `scratch`.

    `has_leftover` tells whether that set has what a killed update had encoded.
    """

    store: Store
    current: AnchorSet
    scratch: Store
    name: str
    has_leftover: bool
    reader: ItemReader
    stored: StoredItems
    options: GalleryOptions


class RowEncoder(Protocol):
    """Encodes the rows of an update."""

    def __call__(
        self, update: UpdateRows, progress: Callable[[int], None]
    ) -> AbstractContextManager[tuple[Journal, EncoderClock, int]]:
        """Yield the journal with all rows, the times, and the number of rows that an earlier run has done."""
        ...


@contextmanager
def encode_here(update: UpdateRows, progress: Callable[[int], None]) -> Iterator[tuple[Journal, EncoderClock, int]]:
    """Encode the rows of an update in this process."""
    reader, options, scratch, name = update.reader, update.options, update.scratch, update.name
    rows = options.count_rows(reader.source)
    plan = {**make_plan(reader.source, reader.encoder, options), "version": update.current.version}
    if not options.resume:
        with scratch.journal(name, plan) as old:
            old.discard()
    with open_earlier_journals(scratch, name, plan) as earlier, scratch.journal(name, plan) as journal:
        resumed_at = journal.next_row
        try:
            mark_seen(journal, reader, update.stored)
            clock = encode_rows(journal, earlier, reader, rows, options.count_bad(rows), progress)
        except KeyboardInterrupt:
            raise make_interrupted(journal.next_row, rows) from None
        yield journal, clock, resumed_at


def update_gallery_version(
    source: PairSource,
    store: Store,
    ref: str,
    encoder: ItemEncoder,
    options: GalleryOptions,
    origin: Mapping[str, Any],
    *,
    encode: RowEncoder = encode_here,
    receipt: Path | None = None,
    purge: bool = False,
    on_plan: Callable[[PurgePlan], None] = lambda plan: None,
    progress: Callable[[int], None] = lambda rows: None,
) -> GalleryChanges:
    """Publish the next version of a gallery, with the items that the source has now; none if nothing changed.

    A file with the path, size and time that it had is not read; content that the gallery has is not encoded again. The
    digest is that of a new build. With `receipt` or `purge`, items whose content is gone are removed by a version of
    its own, see `Store.remove` and `Store.purge`. A killed update is resumed by the same call. Raises Conflict if the
    gallery was edited meanwhile, Busy while another update runs, InputRefused if no item would be left.
    """
    if receipt is not None and not purge:
        check_receipt_path(receipt)
    with _UpdateLock(store, ref):
        update = _Update(source, store, store.open(ref), encoder, options, origin, encode)
        return update.run(receipt, purge, on_plan, progress)


class _UpdateLock:
    """Hold the lock of the updates of one gallery."""

    def __init__(self, store: Store, ref: str) -> None:
        folder = store.root / SCRATCH_FOLDER / GALLERY.folder
        make_folder(folder)
        self.file = folder / f"{_name_scratch(store.path(ref))}.lock"
        self._ref = ref

    def __enter__(self) -> None:
        self._lock = acquire_lock(self.file, self._make_busy_error)

    def _make_busy_error(self) -> Busy:
        return Busy(
            f"another update of {self._ref!r} is running",
            "one update of a gallery at a time",
            "wait for it, or stop it",
        )

    def __exit__(self, *error: object) -> None:
        self._lock.release()


@dataclass
class _Update:
    """Hold what one update works on."""

    source: PairSource
    store: Store
    current: AnchorSet
    encoder: ItemEncoder
    options: GalleryOptions
    origin: Mapping[str, Any]
    encode: RowEncoder

    @property
    def side(self) -> Side:
        return self.current.manifest.sides[0]

    def run(
        self, receipt: Path | None, purge: bool, on_plan: Callable[[PurgePlan], None], progress: Callable[[int], None]
    ) -> GalleryChanges:
        started, rows = time.perf_counter(), self.options.count_rows(self.source)
        stored = StoredItems.of(self.current, self.options.leaves_out())
        scratch, name = Store(self.store.root / SCRATCH_FOLDER, GALLERY), _name_scratch(self.current.folder.path)
        leftover = _open_leftover(scratch, name)
        known = KnownVectors([self.current, *([leftover] if leftover else [])], self.side)
        reader = ItemReader(
            self.source,
            self.side,
            self.encoder,
            known,
            self.options.thumbnails,
            stored.skips,
            stored.is_stored,
        )
        work = UpdateRows(self.store, self.current, scratch, name, leftover is not None, reader, stored, self.options)
        with self.encode(work, progress) as (journal, clock, resumed_at):
            rejects, fresh = list(journal.rejects()), None
            rows_by_id = dict(zip(journal.ids(), journal.source_rows(), strict=True))
            if journal.kept:
                info = {self.side: EncoderInfo(self.encoder.spec, self.encoder.fingerprint)}
                fresh = journal.publish_items(info, {"kind": "encode"}, self.origin)
                rejects = fresh.rejects()
            else:
                journal.discard()
        new, rejects = _resolve_conflicts(self.current, stored, fresh, rejects, rows_by_id)
        changes = self._publish(stored, new, fresh, rejects, receipt, purge, on_plan, clock)
        shutil.rmtree(scratch.root / GALLERY.folder / name, ignore_errors=True)
        return replace(changes, rows=rows - resumed_at, seconds=time.perf_counter() - started)

    def _publish(
        self,
        stored: StoredItems,
        new: Mapping[str, ItemRecord],
        fresh: AnchorSet | None,
        rejects: list[Reject],
        receipt: Path | None,
        purge: bool,
        on_plan: Callable[[PurgePlan], None],
        clock: EncoderClock,
    ) -> GalleryChanges:
        unread = {reject.id for reject in rejects if reject.id}  # what such a file holds is not known
        there = (stored.seen | unread) & stored.stamps.keys()
        present = {record.sha256 for record in new.values()} | {stored.contents[name].hex() for name in there}
        kept = stored.seen | new.keys()
        if not kept:
            raise InputRefused(
                f"{self.source.path} has none of the {self.current.count:,} items of {self.current.ref} any more",
                "some of them, or others",
                "check that the disk is there; asif gallery delete deletes a gallery",
            )
        gone = [name for name in stored.stamps if name not in kept]
        own_step = {name for name in gone if stored.contents[name].hex() not in present} if receipt or purge else set()
        if not kept - own_step:
            own_step = set()
        opened = self._replace(stored, new, fresh, {*gone} - own_step, rejects)
        deleted = None
        if purge:
            is_gone = lambda record: record.image_sha256 not in present and record.id not in unread  # noqa: E731
            selection = PairSelection(is_gone, frozenset())
            ref = opened.exactly
            opened, deleted = self.store.purge(ref, saying=on_plan, receipt=receipt, selection=selection)
        elif own_step:
            opened = self.store.remove(opened.exactly, own_step, receipt=receipt)
        old_contents = {stored.contents[name].hex() for name in gone}
        added = [record for name, record in new.items() if name not in stored.stamps]
        renamed = sum(record.sha256 in old_contents for record in added)
        return GalleryChanges(
            opened,
            len(added) - renamed,
            len(new) - len(added),
            renamed,
            len(gone),
            len(stored.seen - new.keys()),
            len(rejects),
            0,
            clock,
            0.0,
            deleted,
        )

    def _replace(
        self,
        stored: StoredItems,
        new: Mapping[str, ItemRecord],
        fresh: AnchorSet | None,
        dropped: set[str],
        rejects: list[Reject],
    ) -> AnchorSet:
        """Publish the version with the new items, and without those that they replace and those that are gone."""
        manifest = self.current.manifest
        if not new and not dropped and manifest.origin == self.origin and self.current.rejects() == rejects:
            return self.current
        removed = [row for row, name in enumerate(iter_ids(self.current)) if name in new or name in dropped]
        rows = [] if fresh is None else [row for row, name in enumerate(iter_ids(fresh)) if name in new]
        operation = {
            "kind": "update",
            "added": sum(name not in stored.stamps for name in new),
            "replaced": sum(name in stored.stamps for name in new),
            "removed": len(dropped),
            "input": self.source.identity,
        }
        state = SourceState(self.origin, rejects)
        return self.store.replace_rows(
            self.current, np.array(removed, np.int64), fresh, np.array(rows, np.int64), operation, state
        )


def _name_scratch(gallery: Path) -> str:
    """Return the name of the scratch set of the updates of a gallery, by the path of its folder."""
    return hashlib.sha256(str(gallery).encode("utf-8", "surrogateescape")).hexdigest()


def delete_with_updates(store: Store, name: str) -> DeletedSet:
    """Delete a gallery with all of its versions, and what interrupted updates of it have encoded.

    Raises Busy while an update runs, and what `Store.delete` raises.
    """
    with _UpdateLock(store, name):
        scratch = _name_scratch(store.path(name))
        deleted = store.delete(name)
        shutil.rmtree(store.root / SCRATCH_FOLDER / GALLERY.folder / scratch, ignore_errors=True)
    return deleted


def _open_leftover(scratch: Store, name: str) -> AnchorSet | None:
    """Open what a killed update had encoded but not inserted; a damaged set is deleted."""
    try:
        found = scratch.open(name)
        scratch.verify(found.exactly).raise_if_bad()
        return found
    except NotFound:
        return None
    except IntegrityError:
        shutil.rmtree(scratch.root / GALLERY.folder / name)
        return None


def mark_seen(journal: Journal, reader: ItemReader, stored: StoredItems) -> None:
    """Mark the items as seen that were found unchanged: those of the rows in a journal that it has not encoded."""
    rejected, encoded = {reject.row for reject in journal.rejects()}, defaultdict[int, set[str]](set)
    for row, name in zip(journal.source_rows(), journal.ids(), strict=True):
        encoded[row].add(name)
    for item in join_repeated_ids(islice(reader.source.read(), journal.next_row)):
        if item.row in rejected or not isinstance(item, Pair):
            continue
        try:
            if not all(map(stored.leaves_out, reader.describe(item))):
                stored.seen.update(stored.stamps.keys() & set(reader.name_item(item)) - encoded.get(item.row, set()))
        except BadMedia:
            continue  # it has vanished since


def _resolve_conflicts(
    current: AnchorSet,
    stored: StoredItems,
    fresh: AnchorSet | None,
    rejects: list[Reject],
    rows_by_id: Mapping[str, int],
) -> tuple[dict[str, ItemRecord], list[Reject]]:
    """Return the new items by id, and the rejects; of two rows with one id the one with the smaller row hash stays."""
    if fresh is None:
        return {}, rejects
    records = [record for block in range(len(fresh.manifest.blocks)) for record in fresh.pairs(block)]
    new = {record.id: record for record in records if isinstance(record, ItemRecord)}
    both = sorted(new.keys() & stored.seen)
    if not both:
        return new, rejects
    rows = {name: row for row, name in enumerate(iter_ids(current)) if name in new}
    for name in both:
        old, other = hash_record(current.records([rows[name]])[0]), hash_record(new[name])
        if old <= other:
            del new[name]
        rejects = [*rejects, Reject(rows_by_id[name], name, SAME_PAIR if old == other else ID_CONFLICT)]
    return new, sorted(rejects, key=lambda reject: reject.row)
