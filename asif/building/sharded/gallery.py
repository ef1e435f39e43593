"""Build and update galleries on several workers: what each encodes is as in a build in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from asif.anchorset import Store
from asif.anchorset.write.journal import Journal
from asif.anchorset.write.shard_journal import ShardAttempt
from asif.building.clock import EncoderClock
from asif.building.gallery.build import (
    GalleryOptions,
    GalleryResult,
    make_plan_options,
    open_compatible,
)
from asif.building.gallery.encode import encode_rows
from asif.building.gallery.known import KnownVectors
from asif.building.gallery.prepare import ItemEncoder, ItemReader
from asif.building.gallery.stored import StoredItems
from asif.building.gallery.update import UpdateRows, mark_seen
from asif.building.sharded.encode import EncoderIdentity, ShardWorker
from asif.building.sharded.places import ShardPlace
from asif.building.sharded.plan import ShardPlan
from asif.building.sharded.work import (
    PoolOpener,
    ShardedWork,
    ShardingOptions,
    count_rows,
    make_shards_interrupted,
    open_shard_journal,
)
from asif.cluster.pool import WorkerSpec
from asif.errors import UsageError
from asif.pairs import PairSource
from asif.vectors import Side


@dataclass
class ItemShardWorker(ShardWorker):
    """Encode items of one side; made in the process of a worker, with an encoder of its own, which `load` loads.

    Content of `known` sets of the store, given by reference, is not encoded again. In an update items that the first
    of them has as they are now are skipped.
    """

    store: Store
    side: Side
    options: GalleryOptions
    load: Callable[[], ItemEncoder]
    known: tuple[tuple[Store, str], ...]
    is_update: bool
    _reader: ItemReader = field(init=False)

    def __post_init__(self) -> None:
        encoder, leaves_out = self.load(), self.options.leaves_out()
        found = [open_compatible(store, ref, self.side, encoder, self.options) for store, ref in self.known]
        sets = [each for each in found if each is not None]
        if self.is_update and found[0] is None:
            raise UsageError(
                f"a worker cannot open {self.known[0][1]}, which is to be updated",
                "the store at the same path on all machines",
                "put it on a disk that all of them see",
            )
        known = KnownVectors(sets, self.side)
        more: dict[str, Any] = {"skips": leaves_out}
        if self.is_update and sets:
            stored = StoredItems.of(sets[0], leaves_out)
            more = {"skips": stored.skips, "is_stored": stored.is_stored}
        self._reader = ItemReader(self.source, self.side, encoder, known, self.options.thumbnails, **more)

    @property
    def encoders(self) -> Mapping[Side, EncoderIdentity]:
        """Return what encodes the side."""
        return {self.side: EncoderIdentity.of(self._reader.encoder)}

    def encode_rows(self, attempt: ShardAttempt, source: Any, stop: int, clock: EncoderClock) -> None:
        """Append the rows up to `stop` to an attempt."""
        bad = self.options.count_bad(self.rows)
        clock.add_all(encode_rows(attempt, [], replace(self._reader, source=source), stop, bad, lambda rows: None))


def build_sharded_gallery(
    source: PairSource,
    store: Store,
    name: str,
    side: Side,
    spec: str,
    load: Callable[[], ItemEncoder],
    options: GalleryOptions,
    origin: Mapping[str, Any],
    sharding: ShardingOptions,
    open_pool: PoolOpener,
    progress: Callable[[int], None] = lambda rows: None,
) -> GalleryResult:
    """Build a version of the gallery `name` on workers, each with an encoder from `load`, and make it current.

    `spec` is the name of the encoder. Digest and content are those of `build_gallery_version`. Raises what that raises,
    and what `build_sharded_anchor_set` does; finished shards are kept, and the same call resumes.
    """
    started, rows, clock = time.perf_counter(), count_rows(source, options.limit, side), EncoderClock()
    plan = {**make_plan_options(options), "encoder": spec, "side": side}
    with open_shard_journal(store, name, source, plan, sharding, options.resume) as journal:
        known = ((store, name),) if options.resume else ()

        def make_worker(shards: ShardPlan, place: ShardPlace) -> WorkerSpec:
            what = store, side, options, load, known, False
            return WorkerSpec(ItemShardWorker, (source, rows, shards, place, options.dtype, *what))

        try:
            bad = options.count_bad(rows)
            work = ShardedWork(journal, source, rows, sharding, open_pool, make_worker, bad, clock, progress)
            encoders, resumed_at = work.do()
            with clock.measure("write"):
                opened = journal.publish_items(encoders, {"kind": "build", "input": source.identity}, origin)
        except KeyboardInterrupt:
            raise make_shards_interrupted(journal, rows) from None
    return GalleryResult(opened, rows - resumed_at, resumed_at, time.perf_counter() - started, clock)


@dataclass(frozen=True)
class ShardedUpdate:
    """Encode the rows of an update on workers; `load` returns an encoder of the gallery, loaded when it is needed."""

    load: Callable[[], ItemEncoder]
    sharding: ShardingOptions
    open_pool: PoolOpener

    @contextmanager
    def __call__(
        self, update: UpdateRows, progress: Callable[[int], None]
    ) -> Iterator[tuple[Journal, EncoderClock, int]]:
        """Yield the journal with all rows of an update, the times, and the number of rows of an earlier run."""
        options, source, clock = update.options, update.reader.source, EncoderClock()
        rows = count_rows(source, options.limit, update.reader.side)
        plan = {**make_plan_options(options), "encoder": update.reader.encoder.spec, "version": update.current.version}
        known = [
            (update.store, update.current.exactly),
            *([(update.scratch, update.name)] if update.has_leftover else []),
        ]
        with ExitStack() as stack:
            journal = stack.enter_context(
                open_shard_journal(update.scratch, update.name, source, plan, self.sharding, options.resume)
            )

            def make_worker(shards: ShardPlan, place: ShardPlace) -> WorkerSpec:
                what = update.store, update.reader.side, options, self.load, tuple(known), True
                return WorkerSpec(ItemShardWorker, (source, rows, shards, place, options.dtype, *what))

            bad = options.count_bad(rows)
            work = ShardedWork(journal, source, rows, self.sharding, self.open_pool, make_worker, bad, clock, progress)
            try:
                _, resumed_at = work.do()
                mark_seen(journal, update.reader, update.stored)
            except KeyboardInterrupt:
                raise make_shards_interrupted(journal, rows) from None
            yield journal, clock, resumed_at
