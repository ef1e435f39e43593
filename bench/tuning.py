"""Does the tuning criterion on held-out anchors predict test results? Spearman correlations over all single settings.

For labels: anchors of imagenet-head, and 3,000 pairs of Flickr8k's train part. The criterion, whose images have noise
(a cosine of 0.3 to the original), and the same with less noise and with none, are correlated with zero-shot top-1 on
Caltech-101 and CIFAR-10. For search: the same pairs of Flickr8k, and R@1 in both directions on its dev part.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import Pairs, captions_of, classnames, labelled, machine, show
from retrieval import CAPTIONS, best_ranks, features, two_of
from scipy.stats import spearmanr

from asif.aligners import Anchors, make_aligner
from asif.encoders import encode_images
from asif.engine import Engine
from asif.engine.captions import sample_captions
from asif.kernels import compute_similarity
from asif.tuning import CaptionSampler, Task
from asif.tuning.criteria import compute_chance_of_first, compute_reciprocal_rank, count_candidates_ahead
from asif.tuning.grid import build_grid
from asif.tuning.scoring import fit_and_score
from asif.tuning.splits import NOISE_COSINE, split_folds
from asif.vectors import Embeddings, Float32

PAIRS = 3_000
BLURS = (0.6, NOISE_COSINE)
SETS = ("caltech101", "cifar10")


def criteria(anchors: Anchors, task: Task, captions: CaptionSampler | None) -> dict[str, list[float]]:
    """Return for every setting the criterion, preceded by others: less noise, or one direction of search."""
    parts = list(split_folds(anchors, 0, captions))[:2]
    found = {}
    for setting in build_grid(384):
        worth: list[list[Any]] = []
        for at, plain in enumerate(parts):
            if task == "search":
                right = plain.matches
                table = fit_and_score(setting.name(plain.anchors.count), plain, task, False).table
                worth.append(
                    [
                        compute_reciprocal_rank(count_candidates_ahead(table, right)),
                        compute_reciprocal_rank(count_candidates_ahead(table.T, right.T)),
                    ]
                )
                continue
            asked = [plain, *(plain.add_noise(at, cosine) for cosine in BLURS)]
            tables = [fit_and_score(setting.name(one.anchors.count), one, task, False).table for one in asked]
            wrong = (~plain.matches).sum(axis=1)
            worth.append(
                [compute_chance_of_first(count_candidates_ahead(table, plain.matches), wrong) for table in tables]
            )
        each = [float(np.mean(np.concatenate(column))) for column in zip(*worth, strict=True)]
        found[setting.name(anchors.count)] = [*each, float(np.mean(each))] if task == "search" else each
    return found


def main() -> None:
    """Print the correlations, and the single setting that the criterion would choose."""
    print(machine() + "\n")
    images, captions = features("train")
    single = captions.reshape(len(images), CAPTIONS, -1)
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:PAIRS])
    means = Embeddings.from_raw(single.mean(axis=1)).values
    said, texts = captions_of("train"), means[chosen].astype(np.float16)
    pairs = Pairs([images[chosen].astype(np.float16)], [texts], [said[row] for row in chosen])

    two = two_of(single[chosen], pairs.captions, 0)
    rows = []
    with tempfile.TemporaryDirectory() as home:
        engine = Engine(home=Path(home), aligner=make_aligner("asif"))
        encoder, truth = engine.image_encoder(engine.anchors), {}
        for name in SETS:
            files, labels = labelled(name)
            known, names = sorted(set(labels)), classnames(name)
            prompts = [t.replace("{}", names.get(x, (x,))[0]) for x in known for t in ("{}", "a photo of a {}.")]
            texts = engine.encode_texts(prompts).values.reshape(len(known), 2, -1).mean(axis=1)
            truth[name] = (encode_images(encoder, files), Embeddings.from_raw(texts), np.searchsorted(known, labels))

        def accuracies(anchors: Anchors) -> Callable[[str], list[float]]:
            def measure(name: str) -> list[float]:
                fitted, found = make_aligner(name).fit(anchors), []
                for asked, texts, right in truth.values():
                    every = compute_similarity(fitted.represent("image", asked), fitted.represent("text", texts))
                    found.append(100 * float((every.argmax(axis=1) == right).mean()))
                return found

            return measure

        def report(what: str, found: dict[str, list[float]], measure: Callable[[str], list[float]], on: Any) -> None:
            measured = np.array([measure(name) for name in found])
            said = np.array(list(found.values()))
            best = int(said[:, -1].argmax())
            for at, real in enumerate(on):
                correlations = [f"{spearmanr(column, measured[:, at]).statistic:.2f}" for column in said.T]
                top = f"{measured[best, at]:.1f} of {measured[:, at].max():.1f}"
                rows.append([what, real, *correlations, top, list(found)[best]])

        anchors = engine.anchors
        found = criteria(anchors, "classify", sample_captions(engine, 0))
        report("labels, imagenet-head", found, accuracies(anchors), SETS)
        report("labels, Flickr8k pairs", criteria(pairs, "classify", two), accuracies(pairs), SETS)
    dev_images, dev_captions = (Embeddings(side) for side in features("dev"))
    report(
        "search, Flickr8k pairs",
        criteria(pairs, "search", two),
        lambda name: recalls(name, pairs, dev_images, dev_captions),
        ("R@1 image→text", "R@1 text→image"),
    )
    columns = ["no noise, or image→text", "0.6, or text→image", "criterion: 0.3, or both ways"]
    show(["anchors", "measured", *columns, "its choice of the best", "choice"], rows)


def recalls(name: str, pairs: Pairs, images: Embeddings, captions: Embeddings) -> list[float]:
    """Return R@1 from images to captions, and from captions to images."""
    fitted = make_aligner(name).fit(pairs)
    every: Float32 = compute_similarity(fitted.represent("image", images), fitted.represent("text", captions))
    own = np.repeat(np.arange(len(images)), CAPTIONS) == np.arange(len(images))[:, None]
    return [100 * float((best_ranks(*way) == 0).mean()) for way in ((every, own), (every.T, own.T))]


if __name__ == "__main__":
    main()
