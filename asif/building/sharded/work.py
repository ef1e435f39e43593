"""What sharded builds have in common: the journal, the plan, the workers, and the rows that are left to encode."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from asif.anchorset import EncoderInfo, Store
from asif.anchorset.write.shard_journal import PLAN_FILE, ShardJournal
from asif.building.bad_rows import BadRowCounter
from asif.building.clock import EncoderClock
from asif.building.sharded.places import ShardPlace, open_place
from asif.building.sharded.plan import DEFAULT_SHARD_ROWS, ShardPlan, write_plan
from asif.building.sharded.run import ShardRun, compare_encoders
from asif.cluster.pool import ClusterOptions, WorkerPool, WorkerSpec
from asif.errors import InputRefused, Interrupted, UsageError
from asif.pairs import PairSource
from asif.vectors import Side

PoolOpener: TypeAlias = "Callable[[Callable[[int], Sequence[WorkerSpec]], ClusterOptions], WorkerPool]"
"""Opens a pool of workers, made of the specs that a function returns for their number."""


@dataclass(frozen=True)
class ShardingOptions:
    """Hold how a build is divided: the workers, and the rows of each shard.

    Workers find the input and the store at the same paths as this machine. With `exchange`, a URL such as
    s3://bucket/folder, they leave finished shards there, and need the store for caches of encoders alone.
    """

    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    shard_rows: int = DEFAULT_SHARD_ROWS
    exchange: str | None = None


def count_rows(source: PairSource, limit: int | None, noun: str) -> int:
    """Return how many rows are read; raises InputRefused for none, UsageError for rows in memory."""
    if not source.files:
        raise UsageError(
            "rows in memory, which workers do not see", "a path that all of them see", "write the rows to parquet"
        )
    rows = source.rows if limit is None else min(source.rows, limit)
    if rows == 0:
        raise InputRefused(f"{source.path} has no rows", f"at least one {noun}", "check the path")
    return rows


def open_shard_journal(
    store: Store, name: str, source: PairSource, plan: Mapping[str, Any], sharding: ShardingOptions, resume: bool
) -> ShardJournal:
    """Open the journal of a sharded build, without what earlier runs have left unless it is to `resume`.

    `plan` is what decides the outcome. The content of the input is not part of it: `ShardPlan.check_files` compares it.
    """
    key = {**plan, "input": str(source.path), "columns": source.columns.by_role(), "shard_rows": sharding.shard_rows}
    if not resume:
        with store.shard_journal(name, key) as old:
            old.discard()
    return store.shard_journal(name, key)


def make_shards_interrupted(journal: ShardJournal, rows: int) -> Interrupted:
    """Make the error for Ctrl-C."""
    finished = len(os.listdir(journal.path / "done"))
    return Interrupted(
        f"stopped with {finished:,} shards of {rows:,} rows finished, which are saved",
        "the rest of the shards",
        "run the same command again to resume",
    )


@dataclass
class ShardedWork:
    """Encode the rows of a source on workers, into a journal; `make_worker` makes the spec of each worker."""

    journal: ShardJournal
    source: PairSource
    rows: int
    sharding: ShardingOptions
    open_pool: PoolOpener
    make_worker: Callable[[ShardPlan, ShardPlace], WorkerSpec]
    bad: BadRowCounter
    clock: EncoderClock
    progress: Callable[[int], None]

    def do(self) -> tuple[dict[Side, EncoderInfo], int]:
        """Encode what is left; return the encoders of the workers, and the number of rows of an earlier run.

        Raises InputRefused if the input has changed since the plan was made, and what `ShardRun` raises.
        """
        plan = self._keep_plan()
        place = open_place(self.journal.path, self.sharding.exchange, plan.digest)
        spec = self.make_worker(plan, place)
        with closing(
            self.open_pool(lambda count: [spec] * min(count, len(plan.shards)), self.sharding.cluster)
        ) as pool:
            encoders = compare_encoders(pool)
            run = ShardRun(self.journal, plan, place, encoders, self.bad, self.clock, self.progress)
            resumed_at = run.resume()
            run.run(pool)
        place.clear()
        return encoders, resumed_at

    def _keep_plan(self) -> ShardPlan:
        """Return the plan that an earlier run has made, or make it; raises InputRefused for changed input."""
        made = write_plan(self.journal.name, self.source, self.rows, self.sharding.shard_rows)
        plan = ShardPlan.from_bytes(self.journal.keep_plan(made), str(self.journal.path / PLAN_FILE))
        if plan.digest != ShardPlan.from_bytes(made, "the plan").digest:
            plan.check_files(self.source)
        return plan
