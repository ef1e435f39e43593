"""The closed-form fit at a million pairs: sums, solution, and what adding or removing a thousand pairs costs."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from common import Pairs, machine, show
from numpy.typing import NDArray

from asif.aligners import Linear, Moments, make_aligner
from asif.aligners.linear import solve_maps
from asif.evaluate.comparison.peak_memory import read_peak_memory, reset_peak_memory

ROWS = 8192
LATENT = 64  # directions that both sides of a synthetic pair share
CHANGED = 1000


def synthetic(count: int, dim: int, seed: int = 0) -> Pairs:
    """Make pairs whose sides share some directions."""
    rng = np.random.default_rng(0)
    mixes = [rng.standard_normal((LATENT, dim), dtype=np.float32) for _ in range(2)]
    rng = np.random.default_rng(seed)
    sides: list[list[NDArray[np.float16]]] = [[], []]
    for start in range(0, count, ROWS):
        latent = rng.standard_normal((min(ROWS, count - start), LATENT), dtype=np.float32)
        for side, mix in zip(sides, mixes, strict=True):
            rows = latent @ mix + 8 * rng.standard_normal((len(latent), dim), dtype=np.float32)
            side.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16))
    return Pairs(*sides)


def main() -> None:
    """Time each step once; print the peak memory without the pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=768)
    options = parser.parse_args()
    print(machine() + f"\n\n{options.pairs:,} synthetic pairs, d = {options.dim} on both sides, float16.\n")
    pairs, changed = synthetic(options.pairs, options.dim), synthetic(CHANGED, options.dim, seed=1)
    before, rows = reset_peak_memory(), []

    def timed(what: str, action: Any) -> Any:
        started = time.perf_counter()
        made = action()
        rows.append([what, f"{time.perf_counter() - started:.2f}", f"{read_peak_memory() - before:,.0f}"])
        return made

    moments = timed("sums over all pairs", lambda: Moments.of(pairs))
    edited = timed(f"sums, {CHANGED:,} pairs added", lambda: moments + Moments.of(changed))
    restored = timed(f"sums, {CHANGED:,} pairs removed again", lambda: edited - Moments.of(changed))
    for name in ("procrustes", "ridge", "cca"):
        aligner = make_aligner(name)
        assert isinstance(aligner, Linear)
        solved = timed(f"{name}: solve", lambda aligner=aligner: solve_maps(aligner, moments))
        again = timed(f"{name}: solve after both edits", lambda aligner=aligner: solve_maps(aligner, restored))
        np.testing.assert_allclose(again.correlations, solved.correlations, rtol=1e-6)
    show(["step", "seconds", "peak MiB so far"], rows)


if __name__ == "__main__":
    main()
