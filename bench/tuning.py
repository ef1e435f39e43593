"""Does what held-out anchors say predict what labelled images and captions say? Every setting that is tried, alone.

For labels: anchors of imagenet-head, and 3,000 pairs of Flickr8k's train part; the criterion and its three parts
(images as they are, blurred to a cosine of 0.6 and of 0.3) against zero-shot top-1 on Caltech-101 and CIFAR-10. For
search: the same pairs of Flickr8k, against R@1 both ways on its dev part. Spearman correlations over the settings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, Pairs, labelled, machine, show
from retrieval import CAPTIONS, best_ranks, features
from scipy.stats import spearmanr

from asif.aligners import Anchors, make_aligner
from asif.encoders import encode_images
from asif.engine import Engine
from asif.engine.tuner import captions_of
from asif.evaluate.classnames import read_classnames
from asif.kernels import similarity
from asif.tuning import Captions, Task
from asif.tuning.asked import BLURS, answers
from asif.tuning.criteria import ahead, chance_of_first, reciprocal
from asif.tuning.held_out import divisions
from asif.tuning.settings import grid
from asif.vectors import Embeddings, Float32, Int64

PAIRS = 3_000
SETS = ("caltech101", "cifar10")


def criteria(anchors: Anchors, task: Task, captions: Captions | None) -> dict[str, list[float]]:
    """Return for every setting the criterion, and before it the parts it is the mean of."""
    parts = list(divisions(anchors, 0, captions))[:2]
    blurs = BLURS if task == "classify" else ()
    blurred = [[one.blurred(cosine, at) for at, cosine in enumerate(blurs)] for one in parts]
    found = {}
    for setting in grid(384):
        worth: list[list[Any]] = []
        for questions, images in zip(parts, blurred, strict=True):
            tables = answers(setting.name(questions.fitted.count), questions, images, task, False).tables
            right = questions.right
            if task == "search":
                worth.append([reciprocal(ahead(tables[0], right)), reciprocal(ahead(tables[0].T, right.T))])
            else:
                wrong = (~right).sum(axis=1)
                worth.append([chance_of_first(ahead(table, right), wrong) for table in tables])
        each = [float(np.mean(np.concatenate(column))) for column in zip(*worth, strict=True)]
        found[setting.name(anchors.count)] = [*each, float(np.mean(each))]
    return found


def main() -> None:
    """Print the correlations, and what the criterion would choose among settings alone."""
    print(machine() + "\n")
    images, captions = features("train")
    single = captions.reshape(len(images), CAPTIONS, -1)
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:PAIRS])
    means = Embeddings.from_raw(single.mean(axis=1)).values
    pairs = Pairs([images[chosen].astype(np.float16)], [means[chosen].astype(np.float16)])

    def two(rows: Int64) -> tuple[Embeddings, Int64]:
        drawn = np.random.default_rng(0).random((len(rows), CAPTIONS)).argsort(axis=1)[:, :2]
        said = single[chosen[rows][:, None], drawn].reshape(-1, single.shape[-1])
        return Embeddings(said), np.repeat(np.arange(len(rows)), 2)

    rows = []
    with tempfile.TemporaryDirectory() as home:
        engine = Engine(home=Path(home), aligner=make_aligner("asif"))
        encoder, truth = engine.image_encoder(engine.anchors), {}
        for name in SETS:
            files, labels = labelled(name)
            file = ROOT / "bench" / "classnames" / f"{name}.tsv"
            names = read_classnames(file) if file.exists() else {}
            known = sorted(set(labels))
            prompts = [f"{t}".replace("{}", names.get(x, (x,))[0]) for x in known for t in ("{}", "a photo of a {}.")]
            texts = engine.encode_texts(prompts).values.reshape(len(known), 2, -1).mean(axis=1)
            truth[name] = (encode_images(encoder, files), Embeddings.from_raw(texts), np.searchsorted(known, labels))

        def accuracies(anchors: Anchors) -> Callable[[str], list[float]]:
            def measure(name: str) -> list[float]:
                fitted, found = make_aligner(name).fit(anchors), []
                for asked, texts, right in truth.values():
                    every = similarity(fitted.represent("image", asked), fitted.represent("text", texts))
                    found.append(100 * float((every.argmax(axis=1) == right).mean()))
                return found

            return measure

        def report(what: str, found: dict[str, list[float]], measure: Callable[[str], list[float]], on: Any) -> None:
            measured = np.array([measure(name) for name in found])
            said = np.array(list(found.values()))
            best = int(said[:, -1].argmax())
            for at, real in enumerate(on):
                correlations = [f"{spearmanr(column, measured[:, at]).statistic:.2f}" for column in said.T]
                pad = [""] * (4 - len(correlations))
                top = f"{measured[best, at]:.1f} of {measured[:, at].max():.1f}"
                rows.append([what, real, *correlations[:-1], *pad, correlations[-1], top, list(found)[best]])

        anchors = engine.anchors
        found = criteria(anchors, "classify", captions_of(engine, 0))
        report("labels, imagenet-head", found, accuracies(anchors), SETS)
        report("labels, Flickr8k pairs", criteria(pairs, "classify", two), accuracies(pairs), SETS)
    dev_images, dev_captions = (Embeddings(side) for side in features("dev"))
    report(
        "search, Flickr8k pairs",
        criteria(pairs, "search", two),
        lambda name: recalls(name, pairs, dev_images, dev_captions),
        ("R@1 image→text", "R@1 text→image"),
    )
    show(["anchors", "measured", "as they are", "0.6", "0.3", "criterion", "its choice of the best", "choice"], rows)


def recalls(name: str, pairs: Pairs, images: Embeddings, captions: Embeddings) -> list[float]:
    """Return R@1 from images to captions and back."""
    fitted = make_aligner(name).fit(pairs)
    every: Float32 = similarity(fitted.represent("image", images), fitted.represent("text", captions))
    own = np.repeat(np.arange(len(images)), CAPTIONS) == np.arange(len(images))[:, None]
    return [100 * float((best_ranks(*way) == 0).mean()) for way in ((every, own), (every.T, own.T))]


if __name__ == "__main__":
    main()
