"""Times of asif classify as a process: one photo cold, and with cached labels; per image of 100; asif --help."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import labelled, machine, show

LABELS = "cat,dog,car,tree,person,coffee,rocket,page of text"
RUNS = 5


def seconds(home: str, *args: str) -> float:
    """Run the command line once; return the seconds."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "asif", *args]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "ASIF_HOME": home})
    return time.perf_counter() - started


def main() -> None:
    """Print medians of several runs."""
    print(machine() + "\n")
    images, _ = labelled("caltech101")
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "photos"
        folder.mkdir()
        for number, image in enumerate(images[:100]):
            (folder / f"{number:03d}.jpg").write_bytes(image)
        one = str(folder / "000.jpg")
        rows = []
        help_ = statistics.median(seconds(home, "--help") for _ in range(RUNS))
        rows.append(["`asif --help`", f"{help_ * 1000:.0f} ms"])
        first = seconds(home, "classify", one, "--labels", LABELS)
        rows.append(["first classify on a fresh machine (builds imagenet-head)", f"{first:.1f} s"])
        cold = [seconds(home, "classify", one, "--labels", f"{LABELS},new{run}") for run in range(RUNS)]
        rows.append(["one photo, new labels (loads the text encoder)", f"{statistics.median(cold):.2f} s"])
        cached = [seconds(home, "classify", one, "--labels", LABELS) for _ in range(RUNS)]
        rows.append(["one photo, labels cached", f"{statistics.median(cached):.2f} s"])
        many = [seconds(home, "classify", str(folder), "--labels", LABELS) for _ in range(RUNS)]
        each = (statistics.median(many) - statistics.median(cached)) / 99
        rows.append(["batch of 100 photos", f"{statistics.median(many):.2f} s, {each * 1000:.1f} ms per further image"])
    show(["what", "median"], rows)


if __name__ == "__main__":
    main()
