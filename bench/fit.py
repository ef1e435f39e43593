"""The closed-form fit at a million pairs: sums, solution, and what adding or removing a thousand pairs costs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, show
from numpy.typing import NDArray

from asif.aligners import Linear, Moments, make_aligner
from asif.aligners.linear import solve
from asif.vectors import Side

ROWS = 8192
LATENT = 64  # directions that both sides of a synthetic pair share
CHANGED = 1000


@dataclass(frozen=True)
class Synthetic:
    """Hold pairs whose sides share some directions, float16, in blocks as an anchor set has them."""

    sides: dict[Side, list[NDArray[np.float16]]]

    @classmethod
    def make(cls, count: int, dim: int, seed: int = 0) -> Synthetic:
        rng = np.random.default_rng(0)
        mixes = [rng.standard_normal((LATENT, dim), dtype=np.float32) for _ in range(2)]
        rng = np.random.default_rng(seed)
        blocks: list[list[NDArray[np.float16]]] = [[], []]
        for start in range(0, count, ROWS):
            latent = rng.standard_normal((min(ROWS, count - start), LATENT), dtype=np.float32)
            for side, mix in zip(blocks, mixes, strict=True):
                rows = latent @ mix + 8 * rng.standard_normal((len(latent), dim), dtype=np.float32)
                side.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16))
        return cls({"image": blocks[0], "text": blocks[1]})

    @property
    def count(self) -> int:
        return sum(map(len, self.sides["image"]))

    def blocks(self, side: Side) -> Sequence[NDArray[Any]]:
        return self.sides[side]

    def mean(self, side: Side) -> NDArray[np.float64]:
        return np.concatenate(self.sides[side]).mean(axis=0, dtype=np.float64)


def high_water() -> float:
    """Read the peak resident memory since it was last reset, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Time each step once; print the peak memory beside the pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=768)
    options = parser.parse_args()
    print(machine() + f"\n\n{options.pairs:,} synthetic pairs, d = {options.dim} on both sides, float16.\n")
    pairs, changed = Synthetic.make(options.pairs, options.dim), Synthetic.make(CHANGED, options.dim, seed=1)
    Path("/proc/self/clear_refs").write_text("5")
    before, rows = high_water(), []

    def timed(what: str, action: Any) -> Any:
        started = time.perf_counter()
        made = action()
        rows.append([what, f"{time.perf_counter() - started:.2f}", f"{high_water() - before:,.0f}"])
        return made

    moments = timed("sums over all pairs", lambda: Moments.of(pairs))
    edited = timed(f"sums, {CHANGED:,} pairs added", lambda: moments + Moments.of(changed))
    restored = timed(f"sums, {CHANGED:,} pairs removed again", lambda: edited - Moments.of(changed))
    for name in ("procrustes", "ridge", "cca"):
        aligner = make_aligner(name)
        assert isinstance(aligner, Linear)
        solved = timed(f"{name}: solve", lambda aligner=aligner: solve(aligner, moments))
        again = timed(f"{name}: solve after both edits", lambda aligner=aligner: solve(aligner, restored))
        np.testing.assert_allclose(again.correlations, solved.correlations, rtol=1e-6)
    show(["step", "seconds", "peak MiB so far"], rows)


if __name__ == "__main__":
    main()
