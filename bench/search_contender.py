"""One contender of bench/search.py, in a process of its own: it opens a gallery, answers queries, and prints JSON.

Arguments: home, number of rows, contender, and the number of runs of a warm query. Peers read the float32 rows that
bench/search.py wrote as files, and search exactly.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from search_data import ANCHORS, SHARES, name_gallery, name_item

from asif.evaluate.comparison.peak_memory import read_peak_memory

K, MANY = 20, 64
QUERY_ROWS = 97  # apart, of the items that are queries of an image space
Answer = tuple[list[str], dict[str, float]]
Search = Callable[[int, int, str | None], Answer]
"""Answers `many` queries from number `first` on, with a label: the ids of the first one, and times in it."""


class Timer:
    """Collect milliseconds by name."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def measure(self, name: str, action: Callable[[], Any], runs: int = 1) -> Any:
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            output = action()
            times.append(1000 * (time.perf_counter() - started))
        self.found[name] = statistics.median(times)
        return output


def main() -> None:
    """Open, then measure: the first query, warm ones, many at once, with filters, and memory."""
    home, rows, contender, runs = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    before, timer = psutil.Process().memory_info().rss, Timer()
    opener = OPENERS.get(contender, open_asif)
    search = opener(home, rows, contender, timer)
    ids, times = timer.measure("first", lambda: search(0, 1, None))
    found: dict[str, Any] = {"ids": [ids], "first_parts": times}
    warm = [search(1 + run, 1, None) for run in range(2)]
    taken = []
    for run in range(runs):
        ids, times = timer.measure("one", lambda run=run: search(3 + run, 1, None))
        taken.append({"whole": timer.found.pop("one"), **times})
    found["ids"] += [warm[0][0], ids]
    found["warm"] = {name: statistics.median(one[name] for one in taken) for name in taken[0]}
    timer.measure("many", lambda: search(0, MANY, None))
    for label in SHARES:
        timer.measure(f"first {label}", lambda label=label: search(0, 1, label))
        ids, _ = timer.measure(label, lambda label=label: search(1, 1, label), max(3, runs // 4))
        found["ids"].append(ids)
    memory = psutil.Process().memory_info()
    found |= {"ms": timer.found, "before_mib": before / 2**20, "rss_mib": memory.rss / 2**20}
    found |= {"own_mib": (memory.rss - memory.shared) / 2**20, "peak_mib": read_peak_memory()}
    print(json.dumps(found))


def open_asif(home: Path, rows: int, contender: str, timer: Timer) -> Search:
    """Open the gallery with an aligner; `image` searches by items in the image space."""
    import asif
    from asif.aligners import make_aligner
    from asif.engine.search.query import Query

    asif.Gallery("dev", home=home).close()  # imports
    gallery = timer.measure("open", lambda: asif.Gallery(name_gallery(rows), home=home))
    aligner = make_aligner("cca" if contender == "asif: image" else contender.split(": ")[1])
    engine = timer.measure("open anchors", lambda: asif.Engine(ANCHORS, home=home, aligner=aligner))
    texts = json.loads((home / "queries.json").read_text())

    def search(first: int, many: int, label: str | None) -> Answer:
        where = None if label is None else f"label = '{label}'"
        if contender == "asif: image":
            items = [name_item(number % len(texts) * QUERY_ROWS) for number in range(first, first + many)]
            queries = [Query.of(items=[item]) for item in items]
            answers = list(engine.search(gallery, queries=queries, k=K, where=where))
        else:
            some = [texts[number % len(texts)] for number in range(first, first + many)]
            answers = list(engine.search(gallery, texts=some, k=K, where=where))
        return [each.id for each in answers[0]], answers[0].timings_ms

    return search


def read_rows(home: Path, rows: int, contender: str) -> tuple[np.ndarray, np.ndarray]:
    """Map the rows of all items [n, d], and read those of the queries [q, d]."""
    space = contender.split(": ")[1]
    folder = home / "rows"
    return np.load(folder / f"{rows}-{space}.npy", mmap_mode="r"), np.load(folder / f"{rows}-{space}-queries.npy")


def read_labels(home: Path, rows: int) -> list[str | None]:
    labels: list[str | None] = json.loads((home / "rows" / f"{rows}-labels.json").read_text())
    return labels


def name_all(found: Sequence[Any]) -> list[str]:
    return [name_item(int(row)) for row in found if int(row) >= 0]


def take(queries: np.ndarray, first: int, many: int) -> np.ndarray:
    return queries[np.arange(first, first + many) % len(queries)]


def start_again() -> None:
    """Run this script again in place of this process: what is measured has not made the files that it reads."""
    os.execv(sys.executable, [sys.executable, *sys.argv])


def open_faiss(home: Path, rows: int, contender: str, timer: Timer) -> Search:
    """Map a file of faiss into memory; a filter is a bitmap that is made before."""
    import faiss

    vectors, queries = read_rows(home, rows, contender)
    faiss.omp_set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    file = home / "rows" / f"{rows}-{contender.split(': ')[1]}.faiss"
    if not file.exists():
        made = faiss.IndexFlatIP(vectors.shape[1])
        made.add(np.asarray(vectors))
        faiss.write_index(made, str(file))
        start_again()
    index = timer.measure("open", lambda: faiss.read_index(str(file)))
    labels, filters = np.array(read_labels(home, rows), object), {}
    for label in SHARES:
        bits = np.packbits(labels == label, bitorder="little")
        filters[label] = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))

    def search(first: int, many: int, label: str | None) -> Answer:
        _, found = index.search(take(queries, first, many), K, params=filters.get(label) if label else None)
        return name_all(found[0]), {}

    return search


def open_lancedb(home: Path, rows: int, contender: str, timer: Timer) -> Search:
    """Open a table of LanceDB without an index; filters are applied before the search."""
    import lancedb
    import pyarrow as pa

    vectors, queries = read_rows(home, rows, contender)
    folder, name = home / "rows" / "lancedb", f"r{rows}-{contender.split(': ')[1]}"
    made = lancedb.connect(folder)
    if not (folder / f"{name}.lance").exists():
        labels, step = read_labels(home, rows), 65_536

        def batches() -> Any:
            for start in range(0, rows, step):
                some = np.asarray(vectors[start : start + step])
                column = pa.FixedSizeListArray.from_arrays(pa.array(some.ravel()), some.shape[1])
                ids = [name_item(row) for row in range(start, start + len(some))]
                yield pa.record_batch({"id": ids, "label": labels[start : start + len(some)], "vector": column})

        schema = pa.schema(
            {"id": pa.string(), "label": pa.string(), "vector": pa.list_(pa.float32(), vectors.shape[1])}
        )
        made.create_table(name, batches(), schema=schema)
        start_again()
    table = timer.measure("open", lambda: lancedb.connect(folder).open_table(name))

    def search(first: int, many: int, label: str | None) -> Answer:
        found = []
        for query in take(queries, first, many):
            asked = table.search(query).distance_type("dot").select(["id", "_distance"]).limit(K)
            if label is not None:
                asked = asked.where(f"label = '{label}'", prefilter=True)
            found.append(asked.to_arrow()["id"].to_pylist())
        return found[0], {}

    return search


def open_qdrant(home: Path, rows: int, contender: str, timer: Timer) -> Search:
    """Fill a local collection of Qdrant in memory: its local mode reads a folder in the same way, point by point."""
    from qdrant_client import QdrantClient, models

    vectors, queries = read_rows(home, rows, contender)
    labels = read_labels(home, rows)
    client = QdrantClient(":memory:")
    size = models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT)
    client.create_collection("items", vectors_config=size)

    def fill() -> None:
        payload = [{"label": label} for label in labels]
        client.upload_collection("items", vectors=np.asarray(vectors), payload=payload, ids=range(rows))

    timer.measure("open", fill)

    def search(first: int, many: int, label: str | None) -> Answer:
        condition = None
        if label is not None:
            match = models.FieldCondition(key="label", match=models.MatchValue(value=label))
            condition = models.Filter(must=[match])
        found = [
            client.query_points("items", query=query.tolist(), limit=K, query_filter=condition, with_payload=False)
            for query in take(queries, first, many)
        ]
        return name_all([point.id for point in found[0].points]), {}

    return search


OPENERS = {
    **{f"faiss: {space}": open_faiss for space in ("cca", "image")},
    **{f"lancedb: {space}": open_lancedb for space in ("cca", "image")},
    **{f"qdrant: {space}": open_qdrant for space in ("cca", "image")},
}

if __name__ == "__main__":
    main()
