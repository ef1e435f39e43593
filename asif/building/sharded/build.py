"""Build an anchor set on several workers: plan, encode shards, publish; a killed build resumes with the shards left."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from asif.anchorset import Store
from asif.anchorset.write.shard_journal import ShardJournal
from asif.building.build import (
    BuildOptions,
    BuildResult,
    check_rejects,
    index_rows,
    make_counter,
    plan_build,
    report_cut_captions,
)
from asif.building.clock import EncoderClock
from asif.building.sharded.encode import PairShardWorker
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
from asif.encoders import ImageEncoder, TextEncoder
from asif.errors import UsageError
from asif.pairs import PairSource, Reject, RowsApart
from asif.vectors import Side
from asif.version import VERSION


def build_sharded_anchor_set(
    source: PairSource,
    store: Store,
    name: str,
    specs: Mapping[Side, str],
    load: Callable[[], tuple[ImageEncoder, TextEncoder]],
    options: BuildOptions,
    operation: Mapping[str, Any],
    sharding: ShardingOptions,
    open_pool: PoolOpener,
    progress: Callable[[int], None] = lambda rows: None,
) -> BuildResult:
    """Build a version of the anchor set `name` on workers, each with encoders from `load`, and make it current.

    `specs` are the names of the encoders. Digest and content are those of `build_anchor_set`. Raises what that raises;
    InputRefused, which names the file, if the input has changed since the plan was made; EncoderMismatch for a worker
    with another encoder; AsifError if workers keep dying. All of these keep the finished shards, and the same call
    resumes.
    """
    started, clock = time.perf_counter(), EncoderClock()
    rows = count_rows(source, options.limit, "pair")
    with clock.measure("read"):
        apart = index_rows(source, rows, store, options)
    plan = {**plan_build(source, {}, options, None), "encoders": dict(specs)}
    if apart is not None and sharding.exchange is not None:
        raise UsageError(
            "an exchange for rows of one pair that do not follow each other",
            "rows that are sorted by id, or workers that see the store",
            "sort the rows, or leave --exchange out",
        )
    with open_shard_journal(store, name, source, plan, sharding, options.resume) as journal:
        folder = _save_index(apart, journal.path)

        def make_worker(shards: ShardPlan, place: ShardPlace) -> WorkerSpec:
            return WorkerSpec(PairShardWorker, (source, rows, shards, place, options.dtype, options, load, folder))

        try:
            bad = make_counter(rows, options)
            work = ShardedWork(journal, source, rows, sharding, open_pool, make_worker, bad, clock, progress)
            encoders, resumed_at = work.do()
            journal.reject_later(_find_later_rejects(journal, apart))
            joined = 0 if options.captions == "all" else journal.joined
            with clock.measure("write"):
                anchors = journal.publish(
                    image=encoders["image"],
                    text=encoders["text"],
                    dtype=options.dtype,
                    captions=options.captions,
                    operation=operation,
                    asif_version=VERSION,
                    dedup="exact" if options.dedup == "exact" else "keep",
                    check=partial(check_rejects, rows=rows, options=options),
                )
        except KeyboardInterrupt:
            raise make_shards_interrupted(journal, rows) from None
    report_cut_captions(clock, encoders["text"].spec, encoders["text"].fingerprint)
    return BuildResult(anchors, rows - resumed_at, resumed_at, time.perf_counter() - started, clock, joined)


def _save_index(apart: RowsApart | None, journal: Path) -> Path | None:
    """Write the index of rows whose pairs are apart, for the workers."""
    if apart is None:
        return None
    folder = journal / "apart"
    shutil.rmtree(folder, ignore_errors=True)
    apart.save(folder)
    return folder


def _find_later_rejects(journal: ShardJournal, apart: RowsApart | None) -> list[Reject]:
    """Return rejects of rows that were joined to a pair which was rejected in another shard."""
    if apart is None:
        return []
    rejects = list(journal.rejects())
    known = {reject.row for reject in rejects}
    return [
        Reject(row, reject.id, reject.reason)
        for reject in rejects
        for row in apart.list_later_rows(reject.row)
        if row not in known
    ]
