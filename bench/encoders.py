"""Encoder pairs: do linear CKA, its debiased form and mutual k-NN rank encoders as retrieval does?

The image encoders are one encoder, degraded in several ways, and plain pixels. Measures are computed on pairs of
Flickr8k's train part with their five captions averaged; aligners are fitted to them and evaluated on retrieval in both
directions on the dev part.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow.parquet as pq
from common import Pairs, machine, realdata, show
from numpy.typing import NDArray
from PIL import Image
from retrieval import CAPTIONS, features, measured
from scipy.stats import spearmanr

from asif.aligners import Hubness, make_aligner
from asif.aligners.sampling import choose_evenly_spaced
from asif.evaluate.encoder_pairs.alignment import EncoderSpace, measure_alignment
from asif.evaluate.encoder_pairs.permutation_test import PermutationTest
from asif.vectors import Embeddings, Float32

Rows = NDArray[np.float64]
COUNTS = (300, 1_000, 5_000)
ALIGNERS = ("procrustes", "cca")
MEASURES = {"cka": "CKA", "cka_debiased": "debiased CKA", "mutual_knn": "mutual k-NN"}
PROJECTED, NOISES, KEPT, REMOVED = (32, 128, 512), (0.5, 1.0, 2.0), (8, 32, 128), (1, 8, 64)


def degraded(train: Float32) -> dict[str, Callable[[Rows], Rows]]:
    """Return functions that degrade an image encoder's embeddings, equally for train and dev."""
    dim, mean = train.shape[1], train.mean(axis=0, dtype=np.float64)
    axes = np.linalg.svd(train[::2] - mean, full_matrices=False)[2]  # principal directions [dim, dim]
    ways: dict[str, Callable[[Rows], Rows]] = {"as it is": lambda rows: rows}
    for size in PROJECTED:
        random = np.random.default_rng(size).standard_normal((dim, size))
        ways[f"random projection to {size}"] = lambda rows, random=random: rows @ random
    for noise in NOISES:
        scale = noise / np.sqrt(dim)  # of a unit row's length
        ways[f"noise {noise:g} times its length"] = lambda rows, scale=scale: (
            rows + scale * np.random.default_rng(len(rows)).standard_normal(rows.shape)
        )
    for size in KEPT:
        ways[f"first {size} principal directions"] = lambda rows, top=axes[:size]: (rows - mean) @ top.T
    for size in REMOVED:
        ways[f"without the first {size}"] = lambda rows, top=axes[:size]: (rows - mean) @ (np.eye(dim) - top.T @ top)
    return ways


def encoders(train: Float32, dev: Float32) -> Iterator[tuple[str, Embeddings, Embeddings]]:
    """Yield image encoders by name: embeddings of train and dev."""
    for name, way in degraded(train).items():
        yield name, Embeddings.from_raw(way(train.astype(np.float64))), Embeddings.from_raw(way(dev.astype(np.float64)))
    yield "16 x 16 pixels", Embeddings(pixels("train")), Embeddings(pixels("dev"))


def pixels(part: str) -> Float32:
    """Read images as 16 x 16 pixels, unit rows: an encoder without any training."""
    column = pq.read_table(realdata() / "flickr8k" / f"{part}.parquet", columns=["image"])["image"].to_pylist()
    opened = (Image.open(io.BytesIO(image["bytes"])).convert("RGB").resize((16, 16)) for image in column)
    return Embeddings.from_raw(np.stack([np.asarray(image, np.float32).ravel() - 127.5 for image in opened])).values


def main() -> None:
    """Print measures (shuffled in brackets) and R@1 by encoder, then each measure's Spearman correlation with R@1."""
    print(machine() + "\n")
    images, captions = features("train")
    mean_captions = Embeddings.from_raw(captions.reshape(len(images), CAPTIONS, -1).mean(axis=1)).values
    dev_images, dev_captions = features("dev")
    chosen = {count: choose_evenly_spaced(len(images), count) for count in COUNTS}
    texts = {count: EncoderSpace.of(mean_captions[rows]) for count, rows in chosen.items()}
    found: dict[tuple[int, str], list[PermutationTest]] = {}
    recalls: dict[str, list[float]] = {name: [] for name in ALIGNERS}
    table = []
    for name, train, dev in encoders(images, dev_images):
        for count, rows in chosen.items():
            alignment = measure_alignment(EncoderSpace.of(train.values[rows]), texts[count], permutations=100)
            for measure in MEASURES:
                found.setdefault((count, measure), []).append(getattr(alignment, measure))
        pairs = Pairs([train.values.astype(np.float16)], [mean_captions.astype(np.float16)])
        for aligner in ALIGNERS:
            both = measured(make_aligner(aligner), Hubness("none"), pairs, dev, Embeddings(dev_captions))
            recalls[aligner].append((both[0] + both[4]) / 2)
        last = [found[count, measure][-1] for count in (COUNTS[0], COUNTS[-1]) for measure in MEASURES]
        scores = [f"{recalls[aligner][-1]:.1f}" for aligner in ALIGNERS]
        table.append([name, str(train.dim), *scores, *(f"{one.value:.3f} ({one.null_mean:.3f})" for one in last)])
    heads = [f"{title}, n = {count:,}" for count in (COUNTS[0], COUNTS[-1]) for title in MEASURES.values()]
    show(["image encoder", "dim", *(f"R@1 {aligner}" for aligner in ALIGNERS), *heads], table)
    print()
    summary = []
    for (count, measure), every in found.items():
        values = [one.value for one in every]
        rhos = [
            f"{spearmanr(values[:some], recalls[aligner][:some]).statistic:.2f}"
            for some in (len(values), 1 + len(PROJECTED) + len(NOISES))
            for aligner in ALIGNERS
        ]
        z = [one.z for one in every if one.z is not None]
        summary.append([f"{count:,}", MEASURES[measure], *rhos, f"{z[0]:.0f}", f"{min(z):.0f}"])
    kinds = [f"{name}, {which}" for which in ("all", "projected or noisy") for name in ALIGNERS]
    show(["pairs", "measure", *kinds, "z as it is", "smallest z"], summary)


if __name__ == "__main__":
    main()
