"""Retrieval on Flickr8k by aligner, number of pairs and hubness correction.

Anchors are images of the train part with their five captions averaged; tests are the dev part, 1,000 images with 5,000
captions. `cca(words)` reads the captions too; "each caption" is a set with each caption as an anchor of its own, as
`--captions all` builds it. `auto` is the choice without tuning; tuned, it is the profile that `asif tune --task search`
finds on those anchors, with two single captions of each held-out pair as queries: its seconds are those of the tuning
and of the fit. `python retrieval.py quick` measures 1,000 and 6,000 pairs without tuning.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence

import numpy as np
from common import Pairs, captions_of, machine, realdata, show
from numpy.typing import NDArray

from asif.aligners import Aligner, Hubness, make_aligner
from asif.aligners.hubness import build_query_bank
from asif.compare import Candidates, score_candidates
from asif.evaluate.comparison.peak_memory import read_peak_memory, reset_peak_memory
from asif.tuning import CaptionSampler, TuningResult, default_setting, has_repeated_images, tune
from asif.vectors import Embeddings, Float32, Int64, Side

SIDES: tuple[Side, Side] = ("image", "text")
COUNTS = (50, 100, 300, 1_000, 3_000, 6_000)
SEEDS = (0, 1, 2)
CAPTIONS = 5
ALIGNERS: dict[str, Aligner] = {
    "asif-paper": make_aligner("asif-paper"),
    "asif": make_aligner("asif"),
    "procrustes": make_aligner("procrustes"),
    "ridge to text": make_aligner("ridge", towards="text"),
    "ridge to image": make_aligner("ridge"),
    "cca": make_aligner("cca"),
    "cca(words)": make_aligner("cca(words)"),
}
CORRECTIONS = {"": Hubness("none"), " + nnn": Hubness("nnn"), " + lse": Hubness("lse")}
SINGLE = "cca(words), each caption"  # as an anchor of its own


def features(part: str) -> tuple[Float32, Float32]:
    """Read images [n, d] and captions [n, 5, d], unit rows."""
    folder = realdata() / "flickr8k" / "features"
    images, captions = np.load(folder / f"{part}-image-lite0.npy"), np.load(folder / f"{part}-text-minilm.npy")
    return Embeddings.from_raw(images).values, Embeddings.from_raw(captions.reshape(-1, captions.shape[-1])).values


def main() -> None:
    """Fit every aligner on every sample; print means over the seeds and, for R@1, their spread."""
    print(machine() + "\n")
    images, captions = features("train")
    mean_captions = Embeddings.from_raw(captions.reshape(len(images), CAPTIONS, -1).mean(axis=1)).values
    dev_images, dev_captions = features("dev")
    said = captions_of("train")
    single_captions = tuple((caption,) for some in captions_of("dev") for caption in some)
    asked = [Embeddings(dev_images), Embeddings(dev_captions, single_captions)]
    rows, choices = [], []
    quick = sys.argv[1:] == ["quick"]
    for count in (1_000, 6_000) if quick else COUNTS:
        found: dict[str, list[list[float]]] = {}
        for seed in SEEDS:
            chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:count])
            sides = images[chosen].astype(np.float16), mean_captions[chosen].astype(np.float16)
            pairs = Pairs([sides[0]], [sides[1]], [said[row] for row in chosen])
            for (name, aligner), (suffix, hubness) in itertools.product(ALIGNERS.items(), CORRECTIONS.items()):
                if suffix and name == "asif-paper":  # its image rows are not of unit length
                    continue
                found.setdefault(name + suffix, []).append(measured(aligner, hubness, pairs, asked[0], asked[1]))
            single = captions.reshape(len(images), CAPTIONS, -1)[chosen]
            every = split_captions(pairs, single)
            for suffix in (" + nnn", " + lse"):
                result = measured(make_aligner("cca(words)"), CORRECTIONS[suffix], every, asked[0], asked[1])
                found.setdefault(SINGLE + suffix, []).append(result)
            for name, anchors in (("auto", pairs), ("auto, each caption", every)):
                repeat = has_repeated_images(anchors)
                setting, hubness = default_setting("search", anchors.count, texts_repeat=False, images_repeat=repeat)
                result = measured(make_aligner(setting.name(anchors.count)), hubness, anchors, asked[0], asked[1])
                found.setdefault(name, []).append(result)
            if quick:
                continue
            tuned, peak = tuned_to(pairs, single, seed)
            result = measured(make_aligner(tuned.best.aligner), tuned.best.hubness, pairs, asked[0], asked[1])
            found.setdefault("auto, tuned", []).append([*result[:8], result[8] + tuned.seconds, max(result[9], peak)])
            correction = " ".join(str(value) for value in tuned.best.hubness.parameters.values())
            choices.append([f"{count:,}", str(seed), tuned.best.aligner, correction, f"{tuned.best.score:.3f}"])
        for name, runs in found.items():
            means, spread = np.mean(runs, axis=0), np.ptp(runs, axis=0)
            cells = [
                f"{mean:.1f}" + (f" ± {spread[at] / 2:.1f}" if at in (0, 4) else "")
                for at, mean in enumerate(means[:8])
            ]
            rows.append([f"{count:,}", name, *cells, f"{means[8]:.2f}", f"{max(run[9] for run in runs):.0f}"])
    ways = [f"{way} {what}" for way in ("image→text", "text→image") for what in ("R@1", "R@5", "R@10", "median rank")]
    show(["pairs", "aligner", *ways, "fit s", "peak MiB"], rows)
    if quick:
        return
    print("\nWhat tuning chose:\n")
    show(["pairs", "seed", "aligner", "hubness", "held-out mean reciprocal rank"], choices)


def tuned_to(pairs: Pairs, captions: Float32, seed: int) -> tuple[TuningResult, float]:
    """Tune on the anchors, with two of the five captions [n, 5, d] as queries; return the result and peak memory."""
    before = reset_peak_memory()
    tuned = tune(pairs, "search", seconds=600, seed=seed, captions=two_of(captions, pairs.captions, seed))
    return tuned, read_peak_memory() - before


def split_captions(pairs: Pairs, captions: Float32) -> Pairs:
    """Make each of the five captions [n, 5, d] of the pairs an anchor of its own."""
    images = np.repeat(pairs.image[0], CAPTIONS, axis=0)
    said = [(caption,) for some in pairs.captions for caption in some]
    return Pairs([images], [captions.reshape(len(images), -1).astype(np.float16)], said)


def two_of(captions: Float32, texts: Sequence[tuple[str, ...]], seed: int) -> CaptionSampler:
    """Return a sampler of two of the five captions [n, 5, d] of each anchor, with their texts."""

    def single(rows: Int64) -> tuple[Embeddings, Int64]:
        drawn = np.random.default_rng(seed).random((len(rows), CAPTIONS)).argsort(axis=1)[:, :2]
        said = captions[rows[:, None], drawn].reshape(-1, captions.shape[-1])
        words = tuple((texts[row][at],) for row, both in zip(rows.tolist(), drawn.tolist(), strict=True) for at in both)
        return Embeddings(said, words), np.repeat(np.arange(len(rows)), 2)

    return single


def measured(aligner: Aligner, hubness: Hubness, pairs: Pairs, image: Embeddings, text: Embeddings) -> list[float]:
    """Return recalls and median ranks in both directions, the seconds of the fit, the peak MiB without the pairs."""
    before = reset_peak_memory()
    started = time.perf_counter()
    fitted = aligner.fit(pairs)
    fitted.represent("image", Embeddings(image.values[:1]))
    seconds = time.perf_counter() - started
    rows = {"image": fitted.represent("image", image), "text": fitted.represent("text", text)}
    owners = np.repeat(np.arange(len(image)), CAPTIONS)
    results: list[float] = []
    for query, candidate in (SIDES, SIDES[::-1]):
        biases = None
        if hubness.method != "none":
            biases = hubness.compute_biases(rows[candidate], build_query_bank(fitted, pairs, query))
        every = score_candidates(rows[query], Candidates(rows[candidate], biases=biases))
        own = owners == np.arange(len(image))[:, None]
        ranks = best_ranks(every, own if query == "image" else own.T)
        results += [100 * float((ranks < k).mean()) for k in (1, 5, 10)]
        results.append(float(np.median(ranks)) + 1)
    return [*results, seconds, read_peak_memory() - before]


def best_ranks(every: Float32, right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rank, from 0, of each query's best relevant candidate; of equal scores the earlier candidate first."""
    order = np.argsort(-every, axis=1, kind="stable")
    return np.take_along_axis(right, order, axis=1).argmax(axis=1)


if __name__ == "__main__":
    main()
