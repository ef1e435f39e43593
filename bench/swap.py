"""Swap anchor sets under load: threads label vectors while the set is swapped every 100 ms.

Every answer is compared with the result of the set with its digest, without swaps; latencies are those of the same run
with and without swaps, in turn; resident memory is followed over the swaps. Ends with exit code 1 if any call failed.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import machine, show
from fit import synthetic
from numpy.typing import NDArray

import asif
from asif.aligners import make_aligner
from asif.anchorset import AnchorSet, Store
from asif.building.copy_rows import publish_rows
from asif.classify import Labels
from asif.engine import Engine
from asif.vectors import Embeddings

DIMS = (1280, 384)
SETS = 4  # each lacks a different tenth of the pairs
QUERIES = 64
ROUNDS = 5
QUIET = 0.2  # time without swaps, as a share of the time with swaps
EVERY = 0.1  # seconds between swaps
ALONE = 1000  # swaps with one call each, in one thread
BINS = 4000  # bins of latencies, each one percent wide, from a microsecond on


@dataclass
class Latencies:
    """Count latencies in bins, so that memory does not grow with them."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, seconds: float) -> None:
        self.counts[min(BINS - 1, max(0, int(math.log(seconds * 1e6) / math.log(1.01))))] += 1

    def at(self, share: float) -> str:
        total = int(self.counts.sum())
        place = int(np.searchsorted(np.cumsum(self.counts), share * total))
        return f"{1.01**place / 1000:.2f} ms" if total else "-"

    def __add__(self, other: Latencies) -> Latencies:
        return Latencies(self.counts + other.counts)


@dataclass
class Asker:
    """Classify images one after another, and check the results."""

    engine: Engine
    question: Any
    oracle: dict[str, list[Any]]
    number: int
    phase: list[str]
    stop: threading.Event
    latencies: dict[str, Latencies] = field(default_factory=lambda: {"quiet": Latencies(), "swaps": Latencies()})
    wrong: int = 0
    errors: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Classify until the stop event is set."""
        images, labels, prompts = self.question
        turn = self.number
        while not self.stop.is_set():
            turn = (turn + 1) % QUERIES
            phase, started = self.phase[0], time.perf_counter()
            try:
                (result,) = self.engine.classify_vectors(images[turn], labels, prompts)
            except Exception as error:
                self.errors.append(repr(error))
                continue
            self.latencies[phase].add(time.perf_counter() - started)
            named = result.anchors
            self.wrong += named is None or self.oracle[named.digest][turn] != result.predictions


def make_sets(home: Path, ref: str | None, count: int) -> list[str]:
    """Make sets from the named anchors, or from random ones; each leaves out different pairs."""
    with whole_set(home, ref, count) as anchors:
        rows = np.arange(anchors.count)
        names = [f"set{number}" for number in range(SETS)]
        for number, name in enumerate(names):
            publish_rows([(anchors, rows[rows % 10 != number])], Store(home), name, {"kind": "subset"}).close()
    return names


def whole_set(home: Path, ref: str | None, count: int) -> AnchorSet:
    """Open the anchors from which the sets are made."""
    if ref is not None:
        return asif.open_anchors(ref)
    (home / "pairs").mkdir()
    for side, dim in zip(("image", "text"), DIMS, strict=True):
        rows = np.concatenate(synthetic(count, dim).blocks(side)).astype(np.float32)
        np.save(home / "pairs" / f"{'img' if side == 'image' else 'text'}_emb_0.npy", rows)
    return asif.build_anchors(home / "pairs", "whole", home=home).anchors


def main() -> None:
    """Classify and swap, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="with swaps; a fifth of it more without")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--anchors", help="make the sets of these instead of random ones")
    parser.add_argument("--pairs", type=int, default=6000, help="random ones")
    parser.add_argument("--aligner", default="asif")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(measure(Path(folder), options))


def measure(home: Path, options: argparse.Namespace) -> int:
    """Run the rounds; returns the exit code."""
    names = make_sets(home, options.anchors, options.pairs)
    engines = [Engine(name, home=home, aligner=make_aligner(options.aligner)) for name in names]
    dims, random = engines[0].anchors.dims, np.random.default_rng(0)
    images = [Embeddings.from_raw(random.standard_normal((1, dims["image"]))) for _ in range(QUERIES)]
    question = images, Labels(tuple(f"thing {n}" for n in range(10))), Embeddings.from_raw(
        random.standard_normal((10, dims["text"]))
    )  # fmt: skip
    oracle = {
        one.anchors.digest: [one.classify_vectors(image, *question[1:])[0].predictions for image in images]
        for one in engines
    }
    assert len({str(answers) for answers in oracle.values()}) == SETS
    count = engines[0].anchors.count
    del engines
    engine = Engine(names[0], home=home, aligner=make_aligner(options.aligner))
    phase, stop = ["quiet"], threading.Event()
    askers = [Asker(engine, question, oracle, number, phase, stop) for number in range(options.threads)]
    threads = [threading.Thread(target=asker.run) for asker in askers]
    for thread in threads:
        thread.start()
    swaps, memory, turn = Latencies(), [], 0
    for number in range(ROUNDS):
        phase[0] = "quiet"
        time.sleep(60 * options.minutes * QUIET / ROUNDS)
        phase[0], deadline = "swaps", time.perf_counter() + 60 * options.minutes / ROUNDS
        while (started := time.perf_counter()) < deadline:
            turn += 1
            engine.swap(names[turn % SETS])
            swaps.add(time.perf_counter() - started)
            if number:  # the first round warms up
                memory.append((turn, psutil.Process().memory_info().rss))
            time.sleep(max(0.0, EVERY - (time.perf_counter() - started)))
    stop.set()
    for thread in threads:
        thread.join()
    alone = []
    for number in range(-100, ALONE):  # in the first ones memory still grows
        engine.swap(names[number % SETS])
        engine.classify_vectors(images[0], *question[1:])
        alone += [(number, psutil.Process().memory_info().rss)] if number >= 0 else []
    return report(options, count, askers, swaps, turn, memory, alone)


def report(
    options: argparse.Namespace,
    count: int,
    askers: list[Asker],
    swaps: Latencies,
    turns: int,
    memory: list[tuple[int, int]],
    alone: list[tuple[int, int]],
) -> int:
    """Print the results; returns 1 if a call failed, or a result was wrong."""
    quiet, busy = (sum((asker.latencies[phase] for asker in askers), Latencies()) for phase in ("quiet", "swaps"))
    failures = [error for asker in askers for error in asker.errors]
    wrong = sum(asker.wrong for asker in askers)
    resident = [size for _, size in memory]
    slope, slope_alone = (float(np.polyfit(*np.array(each, np.float64).T, 1)[0]) for each in (memory, alone))
    print(
        f"{machine()}\n\n{options.threads} threads, {SETS} sets of {count:,} anchors, {options.aligner}, an image and "
        f"10 labels a call; {options.minutes:g} min with a swap every {1000 * EVERY:.0f} ms.\n"
    )
    show(
        ["", "without swaps", "with swaps"],
        [
            ["calls", f"{quiet.counts.sum():,}", f"{busy.counts.sum():,}"],
            ["p50", quiet.at(0.5), busy.at(0.5)],
            ["p99", quiet.at(0.99), busy.at(0.99)],
        ],
    )
    print()
    show(
        ["swaps", "median", "p99", "calls failed", "answers wrong", "resident memory", "its slope", "in one thread"],
        [
            [
                f"{turns:,}",
                swaps.at(0.5),
                swaps.at(0.99),
                f"{len(failures):,}",
                f"{wrong:,}",
                f"{resident[0] / 1e6:,.0f} to {resident[-1] / 1e6:,.0f} MB",
                f"{slope / 1000:+.2f} kB a swap",
                f"{slope_alone / 1000:+.2f} kB a swap",
            ]
        ],
    )
    for error in sorted(set(failures))[:5]:
        print(f"\nfailed: {error}")
    return int(bool(failures or wrong))


if __name__ == "__main__":
    main()
