"""Run the shards of a plan on workers: compare their encoders, resume, quarantine rows, stop for bad ones."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asif.anchorset import EncoderInfo
from asif.anchorset.write.shard_journal import FinishedShard, ShardJournal
from asif.building.bad_rows import BadRowCounter
from asif.building.clock import STAGES, EncoderClock
from asif.building.sharded.encode import EncoderIdentity, ShardTask
from asif.building.sharded.marks import Mark, Suspicion
from asif.building.sharded.places import ShardPlace
from asif.building.sharded.plan import Shard, ShardPlan
from asif.cluster.pool import WorkerPool, call_all
from asif.cluster.schedule import TaskRun
from asif.errors import EncoderMismatch, IntegrityError
from asif.vectors import Fingerprint, Side

_log = logging.getLogger(__name__)


def compare_encoders(pool: WorkerPool) -> dict[Side, EncoderInfo]:
    """Return the encoders of the workers; raises EncoderMismatch, which names what differs, unless all have the same.

    Loads them: this is the first call.
    """
    found: list[Mapping[Side, EncoderIdentity]] = call_all(pool, "describe_encoders", [()] * len(pool.workers))
    for worker, encoders in enumerate(found[1:], 1):
        for side, each in encoders.items():
            check_same_encoder(found[0][side].fingerprint, each.fingerprint, f"worker {worker}", side)
    return {side: EncoderInfo(each.spec, Fingerprint(each.fingerprint)) for side, each in found[0].items()}


def check_same_encoder(known: Mapping[str, Any], other: Mapping[str, Any], who: str, side: Side) -> None:
    """Raise EncoderMismatch unless two encoders of one side have equal fingerprints."""
    differing = Fingerprint(known).differences(Fingerprint(other))
    if differing:
        named = "; ".join(f"{name}: {theirs!r}, not {mine!r}" for name, (mine, theirs) in differing.items())
        raise EncoderMismatch(
            f"{who} has another {side} encoder: {named}",
            "one encoder on all workers, so that all vectors can be compared",
            "install the same versions on all machines, then run the same command again",
        )


@dataclass
class ShardRun:
    """Hand shards to workers, and take their results; `finished` are those that are done, by name.

    `bad` counts the bad rows of all shards, `clock` adds up the times of those that were encoded in this run.
    """

    journal: ShardJournal
    plan: ShardPlan
    place: ShardPlace
    encoders: Mapping[Side, EncoderInfo]
    bad: BadRowCounter
    clock: EncoderClock
    progress: Callable[[int], None]
    slow_seconds: float = 30.0
    finished: dict[str, FinishedShard] = field(default_factory=dict)
    quarantined: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _suspicions: dict[str, Suspicion] = field(default_factory=dict)

    @property
    def rows_done(self) -> int:
        """Count the rows of finished shards."""
        return sum(shard.next_row - shard.first_row for shard in self.finished.values())

    def resume(self) -> int:
        """Take up the shards that an earlier run has finished, after a check; return the number of their rows."""
        for shard in self.plan.shards:
            if self.place.fetch(shard.name, self.journal.path):
                found = self.journal.find_shard(shard.name)
                if found is not None:
                    self._take(found)
        return self.rows_done

    def run(self, pool: WorkerPool) -> None:
        """Let workers do the shards that are left, then collect all of them in the journal."""
        left = [shard for shard in self.plan.shards if shard.name not in self.finished]
        TaskRun(pool, "encode", self, self.slow_seconds).run(left)
        self.journal.collect([self.finished[shard.name] for shard in self.plan.shards])

    def begin(self, task: Shard) -> tuple[ShardTask]:
        """Return an attempt at a shard."""
        window = self._suspicions[task.name].window if task.name in self._suspicions else None
        attempt = f"{task.name}-{secrets.token_hex(4)}"
        return (ShardTask(task, attempt, window, self.quarantined.get(task.name, ())),)

    def finish(self, task: Shard, value: FinishedShard) -> None:
        """Take a finished shard; raises InputRefused if there are too many bad rows now."""
        self.place.fetch(task.name, self.journal.path)
        self._take(value)
        seconds = {stage: value.about["microseconds"][stage] / 1e6 for stage in STAGES}
        counts = {name: value.about[name] for name in ("images", "texts", "cut_texts")}
        encoder_seconds = value.about["encoder_microseconds"] / 1e6
        self.clock.add_all(EncoderClock(**counts, seconds=seconds, encoder_seconds=encoder_seconds))

    def _take(self, shard: FinishedShard) -> None:
        if shard.about["plan"] != self.plan.digest:
            raise IntegrityError(
                f"the shard {shard.name} is of the plan {shard.about['plan'][:12]}",
                f"the plan {self.plan.digest[:12]}",
                "run the same command again with --fresh",
            )
        for side, fields in shard.about["encoders"].items():
            check_same_encoder(self.encoders[side].fingerprint.fields, fields, f"the worker of {shard.name}", side)
        self.finished[shard.name] = shard
        if shard.rejected:
            for reject in self.journal.read_shard_rejects(shard):
                self.bad.count(reject)
        self.progress(self.rows_done)

    def note_death(self, task: Shard, attempt: ShardTask) -> None:
        """Find out whether a row is to blame; raises AsifError if workers die in a shard without one."""
        suspicion = self._suspicions.setdefault(task.name, Suspicion())
        found = suspicion.note_death(self.place.read_mark(attempt.attempt), task.name)
        if found is not None:
            self._quarantine(task, found)

    def _quarantine(self, task: Shard, rows: Mark) -> None:
        known = self.quarantined.get(task.name, ())
        if rows.first in known:
            raise IntegrityError(
                f"row {rows.first:,} of the source kills its worker when it is only read",
                "rows that can be read",
                "mend that part of the input, or leave it out",
            )
        _log.warning("source row %s killed its worker three times: it is left out", f"{rows.first:,}")
        self.quarantined[task.name] = (*known, *range(rows.first, rows.stop))
