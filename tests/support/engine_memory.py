"""Run by test_classify in a process of its own: represent and compare 10,000 labels, print the memory it took in MB."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from support.engine_toys import Toy, hashed, unit

from asif.aligners import make_aligner
from asif.classify import Labels, represent_labels
from asif.compare import rank_candidates
from asif.vectors import Embeddings

COUNT, TEXT, IMAGE = 10_000, 384, 1280


def peak() -> float:
    """Return the peak so far; `ru_maxrss` would begin with that of the process that started this one."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    anchors = Toy(unit(1000, IMAGE, 1), unit(1000, TEXT, 2), np.float16)
    fitted = make_aligner("asif").fit(anchors)
    images = fitted.represent("image", Embeddings(unit(64, IMAGE, 3)))  # torch is imported, its threads are there
    batches: list[int] = []

    def encode(texts: list[str]) -> Embeddings:
        batches.append(len(texts))
        return hashed(texts, TEXT)

    before = peak()
    labels = Labels(tuple(f"thing {number}" for number in range(COUNT)), ("{}", "a photo of {}", "no {c}"))
    candidates = represent_labels(labels, encode, fitted)
    found = rank_candidates(images, candidates, COUNT)
    report = {"before": before, "grown": peak() - before, "batch": max(batches), "prompts": sum(batches)}
    sys.stdout.write(json.dumps(report))
    assert found.scores.shape == (64, COUNT)


if __name__ == "__main__":
    main()
