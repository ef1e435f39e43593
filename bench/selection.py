"""Selection methods on Flickr8k: R@1 in both directions, compared with a random selection of the same size.

Anchors are selected from 6,000 images of the train part with their five captions averaged; tests are the dev part,
1,000 images with 5,000 captions, which no selection uses. Concepts are the names of the 1,000 classes of ImageNet,
which were not chosen for these images.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np
from common import Pairs, machine, show
from numpy.typing import NDArray
from retrieval import CAPTIONS, features, measured

from asif import selection
from asif.aligners import Aligner, Hubness, make_aligner
from asif.classify import Labels
from asif.encoders import DEFAULT_ENCODERS, encode_texts, load_head, load_text_encoder
from asif.prompts import find_templates
from asif.vectors import Embeddings, Float32, Int64

COUNTS = (50, 100, 300, 1_000)
SEEDS = (0, 1, 2)
ASKED: dict[str, tuple[Aligner, Hubness]] = {
    "asif": (make_aligner("asif"), Hubness("none")),
    "procrustes + nnn": (make_aligner("procrustes"), Hubness("nnn")),
    "cca + nnn": (make_aligner("cca"), Hubness("nnn")),
}
Choose = Callable[[int, int], Int64]


def main() -> None:
    """Select by every method, fit every aligner; print means over the seeds, and half their range."""
    print(machine() + "\n")
    images, captions = features("train")
    texts = Embeddings.from_raw(captions.reshape(len(images), CAPTIONS, -1).mean(axis=1)).values
    image, text = [images.astype(np.float16)], [texts.astype(np.float16)]
    asked = [Embeddings(rows) for rows in features("dev")]
    rows = []
    for count, (name, (seeds, choose)) in itertools.product(COUNTS, methods(image, text, class_prompts()).items()):
        runs, seconds = [], []
        for seed in seeds:
            started = time.perf_counter()
            chosen = choose(count, seed)
            seconds.append(time.perf_counter() - started)
            pairs = Pairs([image[0][chosen]], [text[0][chosen]])
            runs.append([recall for how in ASKED.values() for recall in measured(*how, pairs, *asked)[:5:4]])
        cells = [spread(column) for column in np.transpose(runs)]
        rows.append([f"{count:,}", name, *cells, f"{np.mean(seconds):.2f}"])
    ways = [f"{name} {way}" for name in ASKED for way in ("i→t", "t→i")]
    show(["pairs", "chosen by", *ways, "s"], rows)


def methods(
    image: list[NDArray[np.float16]], text: list[NDArray[np.float16]], prompts: Float32
) -> dict[str, tuple[tuple[int, ...], Choose]]:
    """Return each method with its seeds, one if it is deterministic, and its function of (count, seed)."""
    return {
        "random": (SEEDS, lambda count, seed: selection.choose_at_random(len(image[0]), count, seed)),
        "kmeans": (SEEDS, lambda count, seed: selection.choose_by_kmeans(image, count, seed)),
        "kmeans, text": (SEEDS, lambda count, seed: selection.choose_by_kmeans(text, count, seed)),
        "kdpp": ((0,), lambda count, _: selection.choose_by_kdpp(image, count)),
        "kdpp, text": ((0,), lambda count, _: selection.choose_by_kdpp(text, count)),
        "concepts": ((0,), lambda count, _: selection.choose_by_concepts(text, prompts, count)),
    }


def class_prompts() -> Float32:
    """Encode the first name of every ImageNet class, equal names once, as `asif anchors select` does."""
    _, head = load_head(DEFAULT_ENCODERS["image"])
    names = dict.fromkeys(name.split(",")[0].strip() for name in head.names)
    prompts = Labels(tuple(names), find_templates("photo")).prompts()
    return encode_texts(load_text_encoder(DEFAULT_ENCODERS["text"]), prompts).values


def spread(values: NDArray[np.float64]) -> str:
    """Format the mean, and half the range if there are several values."""
    return f"{values.mean():.1f}" + (f" ± {np.ptp(values) / 2:.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
