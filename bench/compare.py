"""The head-to-head on Flickr8k: every method, training-free and trained, on the same cached features and words.

Anchors are images of the train part with their five captions averaged, projectors are trained on single captions; tests
are the dev part, 1,000 images with 5,000 captions. Writes results.json and report.html, and can be stopped and run
again. It is `asif compare` with features computed in advance.

    python bench/compare.py                          # 50 to 6,000 pairs, three seeds: hours on two cores
    python bench/compare.py --short 1000             # one number of pairs, one seed
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import captions_of, machine, realdata, show
from retrieval import CAPTIONS, features

from asif.engine import Engine, build_anchors
from asif.evaluate.comparison.datasets import RetrievalSet
from asif.evaluate.comparison.methods import COMPARED_METHODS
from asif.evaluate.comparison.plan import ComparisonPlan
from asif.evaluate.comparison.result import DatasetDescription
from asif.evaluate.comparison.run import run_comparison
from asif.evaluate.comparison.verdict import judge_comparison
from asif.evaluate.provenance import DataUsed
from asif.report import build_comparison_tables, render_comparison_page
from asif.vectors import Embeddings, Float32, Int64


def main() -> None:
    """Compare, print the tables and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "compare")
    parser.add_argument("--pairs", default="50,100,300,1000,3000,6000")
    parser.add_argument("--methods", default=",".join(COMPARED_METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--short", type=int, metavar="PAIRS", help="One number of pairs, one seed.")
    given = parser.parse_args()
    if given.short:
        given.pairs, given.seeds = str(given.short), 1
        given.out = given.out.with_name(f"{given.out.name}-{given.short}")
    given.out.mkdir(parents=True, exist_ok=True)
    counts = tuple(map(int, given.pairs.split(",")))
    plan = ComparisonPlan(tuple(given.methods.split(",")), counts, tuple(range(given.seeds)), given.seconds)
    with tempfile.TemporaryDirectory() as home:
        engine, texts = anchors(Path(home))
        found = run_comparison(engine, texts, [development()], plan, given.out / "runs.jsonl", tell)
    found = replace(found, command="bench/compare.py")
    (given.out / "results.json").write_text(json.dumps(found.to_json(), indent=1))
    (given.out / "report.html").write_text(render_comparison_page(found), encoding="utf-8")
    print(machine() + "\n")
    for table in build_comparison_tables(found):
        print(f"\n{table.title}\n")
        show(list(table.header), [list(row) for row in table.rows])
    print()
    print("\n".join(judge_comparison(found).lines))


def anchors(home: Path) -> tuple[Engine, tuple[Embeddings, Int64]]:
    """Build an anchor set of the train part; return its engine and its single captions, with their texts."""
    images, captions = features("train")
    said = captions_of("train")
    means = captions.reshape(len(images), CAPTIONS, -1).mean(axis=1)
    columns = {"id": pa.array([f"{row:06d}" for row in range(len(images))])}  # anchors are in the order of their ids
    columns |= {"image_embedding": vectors(images), "text_embedding": vectors(means), "captions": pa.array(said)}
    pq.write_table(pa.table(columns), home / "train.parquet")
    build_anchors(home / "train.parquet", "flickr8k", home=home)
    single = Embeddings(captions, tuple((caption,) for some in said for caption in some))
    return Engine("flickr8k", home=home), (single, np.repeat(np.arange(len(images)), CAPTIONS))


def vectors(rows: Float32) -> pa.Array:
    """Make an Arrow column of vectors."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def development() -> RetrievalSet:
    """Return the dev part as a data set."""
    images, captions = features("dev")
    table = pq.read_table(realdata() / "flickr8k" / "dev.parquet", columns=["id", "captions"]).to_pylist()
    said = tuple(caption for row in table for caption in row["captions"])
    counts = {"images": len(images), "captions": len(captions), "images_among_anchors": 0}
    features_used = DataUsed("flickr8k/features/dev-*.npy", "npy", 2, 0, len(images), {}, "", "")
    description = DatasetDescription(counts, (), features_used)
    owners = np.repeat(np.arange(len(images)), CAPTIONS)
    ids = tuple(str(row["id"]) for row in table)
    texts = Embeddings(captions, tuple((caption,) for caption in said))
    return RetrievalSet("flickr8k dev", Embeddings(images), texts, owners, said, ids, description)


def tell(what: str, done: int, every: int) -> None:
    """Print the progress."""
    print(f"{done} of {every}: {what}", flush=True)


if __name__ == "__main__":
    main()
