"""A small domain: handwritten digits with class-level captions; accuracy by aligner and number of pairs.

The images are scikit-learn's 1,797 scans of 8 x 8 pixels, enlarged and embedded; captions are like "a handwritten digit
three". Aligners are compared with a supervised nearest-centroid classifier on the same pairs. `asif, ties cut` keeps
exactly k anchors, the first ones of equal texts: it shows why ties must not be cut.
"""

from __future__ import annotations

from unittest import mock

import numpy as np
from common import Pairs, machine, show
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestCentroid

from asif.aligners import Aligner, Hubness, make_aligner
from asif.aligners.hubness import build_query_bank
from asif.compare import Candidates, score_candidates
from asif.encoders import DEFAULT_ENCODERS, encode_images, load_image_encoder, load_text_encoder
from asif.kernels import topk_similarity
from asif.tuning import tune
from asif.vectors import Embeddings

COUNTS, SEEDS, TESTED = (50, 100, 200, 500, 1_000), (0, 1, 2), 700
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FIXED = (
    *("asif-paper", "asif", "asif, ties cut", "procrustes", "ridge(towards=text)", "ridge", "cca"),
    *("cca(words)", "cca(words,lambda=1)"),
)


def pictures() -> tuple[list[bytes], np.ndarray]:
    """Return the digits as PNG files of 64 x 64 pixels, and their labels."""
    import io

    data, files = load_digits(), []
    for pixels in data.images:
        grey = Image.fromarray((255 - pixels / 16 * 255).astype(np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        grey.convert("RGB").save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files, data.target


def accuracy(
    aligner: Aligner, hubness: Hubness, pairs: Pairs, tests: Embeddings, labels: Embeddings, right: object
) -> float:
    """Return the share of images whose best label is right."""
    fitted = aligner.fit(pairs)
    rows = fitted.represent("text", labels)
    biases = (
        None if hubness.method == "none" else hubness.compute_biases(rows, build_query_bank(fitted, pairs, "image"))
    )
    every = score_candidates(fitted.represent("image", tests), Candidates(rows, biases=biases))
    return 100 * float((every.argmax(axis=1) == right).mean())


def main() -> None:
    """Embed once; sample, fit and test for every count and seed."""
    print(machine() + "\n")
    files, truth = pictures()
    images = encode_images(load_image_encoder(DEFAULT_ENCODERS["image"]), files).values
    encoder = load_text_encoder(DEFAULT_ENCODERS["text"])
    said = [f"a handwritten digit {word}" for word in WORDS]
    captions = Embeddings.from_raw(encoder.forward(said)).values
    asked_for = [f"the digit {word}" for word in WORDS]
    labels = Embeddings.from_raw(encoder.forward(asked_for), tuple((text,) for text in asked_for))
    plain, found = Hubness("none"), {}
    for count in COUNTS:
        for seed in SEEDS:
            order = np.random.default_rng(seed).permutation(len(images))
            tests, chosen = order[:TESTED], order[TESTED : TESTED + count]
            asked, right = Embeddings(images[tests]), truth[tests]
            sides = images[chosen].astype(np.float16), captions[truth[chosen]].astype(np.float16)
            pairs = Pairs([sides[0]], [sides[1]], [(said[at],) for at in truth[chosen]])
            for name in FIXED:
                aligner = make_aligner(name.removesuffix(", ties cut"))
                cut = mock.patch(
                    "asif.aligners.relative.find_topk_with_ties",
                    lambda queries, anchors, k, engine: topk_similarity(queries, anchors, k, engine=engine),
                )
                if name.endswith("cut"):
                    with cut:
                        result = accuracy(aligner, plain, pairs, asked, labels, right)
                else:
                    result = accuracy(aligner, plain, pairs, asked, labels, right)
                found.setdefault(name, {}).setdefault(count, []).append(result)
            tuned = tune(pairs, "classify", seconds=600, seed=seed).best
            result = accuracy(make_aligner(tuned.aligner), tuned.hubness, pairs, asked, labels, right)
            found.setdefault("auto", {}).setdefault(count, []).append(result)
            centroid = NearestCentroid().fit(images[chosen], truth[chosen])
            supervised = 100 * float((centroid.predict(images[tests]) == right).mean())
            found.setdefault("nearest centroid (supervised)", {}).setdefault(count, []).append(supervised)
    rows = [
        [name, *(f"{np.mean(by[count]):.1f} ± {np.ptp(by[count]) / 2:.1f}" for count in COUNTS)]
        for name, by in found.items()
    ]
    show(["aligner", *(f"{count:,} pairs" for count in COUNTS)], rows)


if __name__ == "__main__":
    main()
