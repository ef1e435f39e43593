"""Quality of search on Flickr8k dev: self retrieval, recall beside `asif eval`, and what is above chance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import realdata, show
from search_data import ANCHORS, DEV, read_dev_captions, read_dev_images

from asif import Engine, Gallery
from asif.aligners import make_aligner
from asif.engine.search.query import Query
from asif.evaluate.retrieval import evaluate_retrieval
from asif.pairs import open_pairs
from asif.vectors import Float32, Int64

ALIGNERS = ("auto", "cca", "asif", "procrustes")
THRESHOLDS = (0.1, 0.01, 0.001)
KS = (1, 5, 10)
ABSENT = (
    "a circuit board",
    "an x-ray of a knee",
    "stock market chart",
    "a page of sheet music",
    "a galaxy seen by a telescope",
    "bacteria under a microscope",
    "a map of the metro",
    "a bowl of ramen",
    "source code in an editor",
    "the interior of an empty cathedral",
    "quarterly tax return form",
    "periodic table of elements",
    "a jet engine turbine",
    "satellite image of farmland",
    "a spreadsheet",
    "a letter in latin, written by hand",
    "a nuclear reactor",
    "a wedding cake",
    "church organ pipes",
    "the moon",
    "dna double helix",
    "a piano keyboard close up",
    "an empty white wall",
    "screenshot of an email",
    "surgeon in an operating room",
    "tomato plants in a greenhouse",
    "coins and banknotes",
    "oil painting of a duke",
    "a penguin colony",
    "airplane cockpit",
)


def measure_quality(home: Path, limit: int | None, aligners: tuple[str, ...] = ALIGNERS) -> None:
    """Print the tables of all aligners; `limit` is the number of captions, all by default."""
    gallery, (texts, owners) = Gallery(DEV, home=home), read_dev_captions()
    texts, owners = texts[:limit], owners[:limit]
    recalls, relevance = [], []
    for name in aligners:
        engine = make_engine(home, name)
        if name == aligners[0]:
            print(f"\n{describe_lost_items(engine, gallery)}\n", flush=True)
        found = search_all(engine, gallery, texts)
        own = found.find_ranks([gallery.ids.index(owner) for owner in owners])
        recalls += compare_recalls(engine, name, own, whole=limit is None)
        relevance += describe_captions(name, found, own)
        for what, queries in (("word salads", make_word_salads(texts)), ("absent topics", ABSENT)):
            nothing = search_all(engine, gallery, queries)
            rows = nothing.count_kept()
            relevance += [
                [name, f"{len(queries)} {what}", shown, *describe_counts(kept), "", ""] for shown, kept in rows
            ]
    print(f"{len(texts):,} captions search {len(gallery):,} images.\n")
    show(["aligner", "by", *(f"R@{k} text→image" for k in KS)], recalls)
    print("\nHow many images are kept by their chance; only a caption's own image is relevant.\n")
    header = ["aligner", "queries", "kept if", "images kept, mean", "median", "queries that keep none"]
    show([*header, "recall: own image kept", "precision"], relevance)


def make_engine(home: Path, aligner: str) -> Engine:
    """Return an engine of the anchors; `auto` is their profile if they were tuned, else the default."""
    return Engine(ANCHORS, home=home, aligner=None if aligner == "auto" else make_aligner(aligner))


def describe_lost_items(engine: Engine, gallery: Gallery) -> str:
    """Search by each item of the gallery and, encoded again, by each image file; count those that are not first."""
    images = dict(read_dev_images())
    by_item = engine.search(gallery, queries=[Query.of(items=[name]) for name in gallery.ids], k=1)
    by_file = engine.search(gallery, images=images.values(), k=1)
    lost = [
        sum(answer.results[0].id != name for answer, name in zip(answers, names, strict=True))
        for answers, names in ((by_item, gallery.ids), (by_file, images))
    ]
    return f"Of {len(gallery):,} images, {lost[0]} do not find themselves first by id, {lost[1]} by file."


class Found(NamedTuple):
    """Hold for each query all items of the gallery, best first [q, n], their chances, and how many are relevant."""

    rows: Int64
    chances: Float32
    relevant: Int64

    def find_ranks(self, rows: Sequence[int]) -> Int64:
        """Return the place, from 0, of one item for each query."""
        return np.argmax(self.rows == np.array(rows)[:, None], axis=1)

    def count_kept(self) -> list[tuple[str, Int64]]:
        """Count what each query keeps: by limits of the chance, and with `only_relevant`."""
        by_limit = [(f"chance < {limit:g}", (self.chances < limit).sum(axis=1)) for limit in THRESHOLDS]
        return [*by_limit, ("only_relevant", self.relevant)]


def search_all(engine: Engine, gallery: Gallery, texts: Sequence[str]) -> Found:
    """Rank the whole gallery for each text."""
    rows, chances, relevant = [], [], []
    for answer in engine.search(gallery, texts=texts, k=len(gallery)):
        rows.append([each.row for each in answer])
        chances.append([each.chance for each in answer])
        relevant.append(answer.relevant)
    return Found(np.array(rows, np.int64), np.array(chances, np.float32), np.array(relevant, np.int64))


def compare_recalls(engine: Engine, name: str, ranks: Int64, *, whole: bool) -> list[list[str]]:
    """Return the recalls of search and, for all captions, those of `asif eval`, in full precision."""
    searched = [float((ranks < k).mean()) for k in KS]
    rows = [[name, "asif search", *map(repr, searched)]]
    if whole:
        found = evaluate_retrieval(engine, open_pairs(realdata() / "flickr8k" / "dev.parquet"))
        metrics = {**found.metrics, **found.further}
        evaluated = [metrics[f"image_retrieval_recall@{k}"] for k in KS]
        verdict = "equal" if evaluated == searched else "DIFFERENT"
        rows.append([name, f"asif eval: {verdict}", *map(repr, evaluated)])
    return rows


def describe_captions(name: str, found: Found, own: Int64) -> list[list[str]]:
    """Count what captions keep of their results, and how often their own image is among it."""
    return [
        [
            name,
            f"{len(own):,} captions",
            shown,
            *describe_counts(kept),
            f"{(own < kept).mean():.1%}",
            f"{(own < kept).sum() / max(1, kept.sum()):.1%}",
        ]
        for shown, kept in found.count_kept()
    ]


def describe_counts(kept: Int64) -> list[str]:
    return [f"{kept.mean():.1f}", f"{np.median(kept):g}", f"{(kept == 0).mean():.1%}"]


def make_word_salads(texts: list[str], count: int = 50, words: int = 8) -> list[str]:
    """Draw words of all captions, without regard to how often each occurs."""
    known = sorted({word for text in texts for word in text.lower().split() if word.isalpha()})
    draw = random.Random(0)
    return [" ".join(draw.sample(known, min(words, len(known)))) for _ in range(count)]
