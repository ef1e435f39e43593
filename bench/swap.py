"""Open an anchor set of 6,000, and swap to another one in a running process: milliseconds."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import machine, realdata, show

import asif
from asif.classify import Labels
from asif.vectors import Embeddings

RUNS = 50


def save_pairs(folder: Path, rows: slice) -> None:
    """Write Flickr8k features as precomputed vectors."""
    features = realdata() / "flickr8k" / "features"
    folder.mkdir()
    np.save(folder / "img_emb_0.npy", np.load(features / "train-image-lite0.npy")[rows].astype(np.float32))
    np.save(folder / "text_emb_0.npy", np.load(features / "train-text-minilm.npy")[rows, 0].astype(np.float32))


def milliseconds(action: Callable[[], object]) -> tuple[float, float]:
    """Return the median and the worst of several runs."""
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        action()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times), max(times)


def main() -> None:
    """Build two sets of 6,000, then open and swap them."""
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name, rows in (("one", slice(None)), ("two", slice(None, None, -1))):
            save_pairs(home / f"{name}-pairs", rows)
            asif.build_anchors(home / f"{name}-pairs", name, home=home)
        engine = asif.Engine("one", home=home)
        rng = np.random.default_rng(0)
        labels = Labels(tuple(f"label {n}" for n in range(10)))
        image = Embeddings.from_raw(rng.normal(size=(1, 1280)))
        texts = Embeddings.from_raw(rng.normal(size=(10, 384)))
        names = iter(["two", "one"] * RUNS * 2)

        def swap_and_answer() -> object:
            engine.swap(next(names))
            return engine.classify_vectors(image, labels, texts, top=1)

        rows = []
        for what, action in (
            ("open a set of 6,000 anchors", lambda: asif.open_anchors("one", home=home)),
            ("swap to another set of 6,000", lambda: engine.swap(next(names))),
            ("swap and first answer (1 image, 10 labels)", swap_and_answer),
            ("answer alone", lambda: engine.classify_vectors(image, labels, texts, top=1)),
        ):
            median, worst = milliseconds(action)
            rows.append([what, f"{median:.1f} ms", f"{worst:.1f} ms"])
    show(["what", "median", "worst of 50"], rows)


if __name__ == "__main__":
    main()
