"""Captions modes on Flickr8k: the mean of five captions as one anchor, the first alone, or five anchors for each image.

Anchors are images of the train part; tests are the dev part, 1,000 images with 5,000 captions. The mode is fixed when a
set is built, so it is measured here once; aligners have their usual parameters, `asif` the usual k of its anchors.
"""

from __future__ import annotations

import numpy as np
from common import Pairs, machine, show
from retrieval import CAPTIONS, features, measured

from asif.aligners import Hubness, make_aligner
from asif.vectors import Embeddings, Float32, Float64

COUNTS, SEEDS, BLOCK = (300, 1_000, 6_000), (0, 1, 2), 8_192
TRIED = {"asif": Hubness("none"), "procrustes": Hubness("nnn"), "cca": Hubness("nnn")}
MODES = ("mean", "first", "all")
RECALLS = {"R@1 image→text": 0, "R@1 text→image": 4, "R@5 image→text": 1, "R@5 text→image": 5}


def anchors(mode: str, images: Float32, captions: Float32) -> Pairs:
    """Make anchors from images [n, di] and their captions [n, 5, dt]."""
    if mode == "all":
        images, texts = np.repeat(images, CAPTIONS, axis=0), captions.reshape(len(images) * CAPTIONS, -1)
    else:
        texts = captions[:, 0] if mode == "first" else Embeddings.from_raw(captions.mean(axis=1)).values
    cuts = range(0, len(images), BLOCK)
    return Pairs(*([side[at : at + BLOCK].astype(np.float16) for at in cuts] for side in (images, texts)))


def spread(runs: Float64, form: str = ".1f") -> str:
    """Format a mean ± half the spread; the figure alone if there is one sample."""
    return f"{runs.mean():{form}}" + (f" ± {np.ptp(runs) / 2:.1f}" if len(runs) > 1 else "")


def main() -> None:
    """Print recalls by aligner, number of images and mode, and each mode's difference to `mean`, sample by sample."""
    print(machine() + "\n")
    images, captions = features("train")
    each = captions.reshape(len(images), CAPTIONS, -1)
    asked = [Embeddings(rows) for rows in features("dev")]
    rows = []
    for count in COUNTS:
        seeds = SEEDS if count < len(images) else SEEDS[:1]  # all of them are one sample
        chosen = [np.sort(np.random.default_rng(seed).permutation(len(images))[:count]) for seed in seeds]
        for name, hubness in TRIED.items():
            found = {}
            for mode in MODES:
                pairs = (anchors(mode, images[some], each[some]) for some in chosen)
                runs = [measured(make_aligner(name), hubness, one, asked[0], asked[1]) for one in pairs]
                found[mode] = np.array(runs)[:, list(RECALLS.values())]
            for mode, runs in found.items():
                cells = [spread(run) for run in runs.T]
                gained = (runs - found["mean"])[:, :2].mean(axis=1)
                apart = "" if mode == "mean" else spread(gained, "+.1f")
                called = name if hubness.method == "none" else f"{name} + {hubness.method}"
                rows.append([f"{count:,}", called, mode, *cells, apart])
    show(["images", "aligner", "captions", *RECALLS, "R@1 minus that of mean, by sample"], rows)


if __name__ == "__main__":
    main()
