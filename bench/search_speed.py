"""Speed of search over made-up galleries, by aligner and beside exact peers; every contender in its own process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, show
from encode import environment
from search_contender import MANY, QUERY_ROWS
from search_data import (
    ANCHORS,
    SHARES,
    has_set,
    list_labels,
    make_gallery,
    make_records,
    name_gallery,
    read_dev_captions,
)

from asif import Engine, Gallery
from asif.aligners import make_aligner
from asif.anchorset import EncoderInfo, Store
from asif.anchorset.format.kinds import GALLERY
from asif.engine.search.represented import RepresentedGallery
from asif.vectors import DenseRows, gather_rows

THREADS = 2
QUERIES = 200
PEERS = {"faiss": "faiss", "lancedb": "lancedb", "qdrant": "qdrant_client"}
SPACES = ("cca", "image")


def prepare_queries(home: Path) -> list[str]:
    """Choose captions of Flickr8k dev as queries, and encode them: contenders find them in the cache."""
    texts = sorted(set(read_dev_captions()[0]))[::20][:QUERIES]
    (home / "queries.json").write_text(json.dumps(texts))
    Engine(ANCHORS, home=home).encode_texts(texts)
    return texts


def run_contender(home: Path, rows: int, contender: str, runs: int) -> dict[str, Any]:
    """Run a contender in a process; returns what it measured, or {"error": reason}."""
    command = [sys.executable, str(ROOT / "bench" / "search_contender.py"), str(home), str(rows), contender, str(runs)]
    limits = {"OPENBLAS_NUM_THREADS": str(THREADS), "LANCE_CPU_THREADS": str(THREADS), "TOKIO_WORKER_THREADS": "2"}
    print(f"{contender}, {rows:,} rows", file=sys.stderr, flush=True)
    ran = subprocess.run(
        command, check=False, env={**environment(home, THREADS), **limits}, capture_output=True, text=True
    )
    if ran.returncode:
        print(ran.stderr[-2000:], file=sys.stderr)
        return {"error": f"ended with {ran.returncode}: {ran.stderr.strip().splitlines()[-1:]}"}
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


# ---- asif by aligner


def measure_speed(home: Path, sizes: list[int], aligners: list[str], runs: int) -> None:
    """Print times and memory of searches by size and aligner, without rows on disk and with them."""
    texts = prepare_queries(home)
    rows, parts = [], []
    for size in sizes:
        make_gallery(home, size).close()
        for name in aligners:
            forget_rows(home, size)
            cold = run_contender(home, size, f"asif: {name}", 1)
            found = run_contender(home, size, f"asif: {name}", runs)
            if "error" in found or "error" in cold:
                rows.append([f"{size:,}", name, str(found.get("error", cold.get("error")))])
                continue
            rows.append(describe_run(size, name, found, cold))
            parts.append(describe_parts(size, name, found))
    print(f"\n{len(texts)} captions as queries, k = 20, {THREADS} threads; milliseconds; encoding is not counted.\n")
    filters = [f"{share:.1%} match" for share in SHARES.values()]
    header = ["rows", "aligner", "open", "open anchors", "first ever", "first in a process", "warm", f"{MANY} at once"]
    show([*header, *filters, "first filtered", "RSS MiB", "of it not shared", "peak"], rows)
    print("\nParts of a warm query, milliseconds.\n")
    show(["rows", "aligner", *(name for name in _PARTS)], parts)


_PARTS = ("encode", "represent", "compare", "chance", "describe", "whole")


def describe_run(size: int, name: str, found: dict[str, Any], cold: dict[str, Any]) -> list[str]:
    ms = found["ms"]
    warm = found["warm"]["whole"] - found["warm"]["encode"]
    shown = [ms["open"], ms["open anchors"], cold["ms"]["first"], ms["first"], warm, ms["many"]]
    shown += [*(ms[label] for label in SHARES), ms[f"first {next(iter(SHARES))}"]]
    memory = [f"{found[key]:,.0f}" for key in ("rss_mib", "own_mib", "peak_mib")]
    return [f"{size:,}", name, *(f"{value:,.1f}" for value in shown), *memory]


def describe_parts(size: int, name: str, found: dict[str, Any]) -> list[str]:
    return [f"{size:,}", name, *(f"{found['warm'].get(part, 0):.2f}" for part in _PARTS)]


def forget_rows(home: Path, size: int) -> None:
    """Delete the rows that are kept with a gallery, so that the next search makes them."""
    folder = home / "galleries" / name_gallery(size) / "fits"
    shutil.rmtree(folder, ignore_errors=True)


# ---- after an update


def measure_update(home: Path, sizes: list[int], aligners: list[str]) -> None:
    """Print the seconds of replacing 1 % of the items of a gallery, and of the first search after that."""
    rows = []
    for size in sizes:
        for name in aligners:
            rows.append([f"{size:,}", name, *map("{:,.2f}".format, time_update(home, size, name))])
    print("\nSeconds: replace 1 % of the items (vectors are there), open it, the first query before and after, warm.\n")
    show(["rows", "aligner", "replace 1 %", "open", "first before", "first after", "warm"], rows)
    edits = [
        [f"{size:,}", name, *map("{:,.2f}".format, time_edit(home, size, name))] for size in sizes for name in aligners
    ]
    print("\nSeconds: the first query ever, then after 1 % of the pairs are removed from the anchors.\n")
    show(["rows", "aligner", "first ever", "first after"], edits)


def time_update(home: Path, size: int, aligner: str) -> list[float]:
    store, name = Store(home, GALLERY), name_gallery(size)
    make_gallery(home, size).close()
    texts = json.loads((home / "queries.json").read_text())
    engine = Engine(ANCHORS, home=home, aligner=make_aligner(aligner))
    list(engine.search(Gallery(name, home=home), texts=texts[:1]))  # rows are kept from here on
    engine = Engine(ANCHORS, home=home, aligner=make_aligner(aligner))
    before = time_action(lambda: list(engine.search(Gallery(name, home=home), texts=texts[:1])))
    fresh = publish_changed(home, size)
    replaced = time_action(lambda: store.put(name, fresh, "update"))
    opened = time_action(lambda: Gallery(name, home=home))
    gallery = Gallery(name, home=home)
    after = time_action(lambda: list(engine.search(gallery, texts=texts[:1])))
    warm = time_action(lambda: list(engine.search(gallery, texts=texts[:1])))
    store.rollback(name, store.log(name)[-1].version)
    store.gc(name, 1)
    store.delete("changed")
    return [replaced, opened, before, after, warm]


def time_edit(home: Path, size: int, aligner: str) -> list[float]:
    """Time the first query ever, and the first one after an edit of the anchors, which is taken back."""
    store, texts = Store(home), json.loads((home / "queries.json").read_text())
    gallery = make_gallery(home, size)
    forget_rows(home, size)
    with store.open(ANCHORS) as opened:
        version, ids = opened.version, [pair.id for pair in opened]

    def search_first() -> float:
        engine = Engine(ANCHORS, home=home, aligner=make_aligner(aligner))
        list(engine.search("dev", texts=texts[:1]))  # the aligner is fitted, chances are measured
        return time_action(lambda: list(engine.search(gallery, texts=texts[:1])))

    before = search_first()
    store.remove(ANCHORS, np.random.default_rng(0).choice(ids, len(ids) // 100, replace=False).tolist())
    after = search_first()
    store.rollback(ANCHORS, version)
    return [before, after]


def publish_changed(home: Path, size: int) -> Any:
    """Publish a gallery of 1 % of the items, with other vectors."""
    store, chosen = Store(home, GALLERY), np.arange(0, size, 100)
    if has_set(store, "changed"):
        store.delete("changed")
    with Store(home).open(ANCHORS) as anchors:
        vectors = gather_rows(anchors.blocks("image"), chosen % anchors.count).astype(np.float32)
        encoder = EncoderInfo(anchors.encoder_spec("image"), anchors.fingerprint("image"))
    records = [make_records(int(row), int(row) + 1)[0] for row in chosen]
    with store.journal("changed", {"dtype": "float16", "changed": size}) as journal:
        journal.append_sides(records, {"image": vectors}, [], len(records))
        return journal.publish_items({"image": encoder}, {"kind": "build", "input": "synthetic"}, {"sources": []})


def time_action(action: Any) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


# ---- peers


def measure_peers(home: Path, sizes: list[int], runs: int, names: list[str], spaces: Sequence[str]) -> None:
    """Print times and memory of asif and of exact peers on the same rows."""
    prepare_queries(home)
    chosen = [name for name in names if find_spec(PEERS[name])]
    for name in names:
        if name not in chosen:
            print(f"{name} is left out: {PEERS[name]} is not installed.")
    rows = []
    for size in sizes:
        write_rows(home, size, spaces)
        for space in spaces:
            found = {name: run_contender(home, size, f"{name}: {space}", runs) for name in ("asif", *chosen)}
            rows += describe_peers(size, space, found)
    print(f"\nMilliseconds, k = 20, {THREADS} threads, all exact; agreement: of the ids that asif returns.")
    print("Encoding is not counted; asif represents queries and finds chances, peers get represented queries.")
    print("To open Qdrant is to fill it.\n")
    filters = [f"{share:.1%} match" for share in SHARES.values()]
    header = ["rows", "space", "contender", "open", "first", "warm", "x fastest peer", f"{MANY} at once", *filters]
    show([*header, "RSS MiB", "peak MiB", "agreement"], rows)


def describe_peers(size: int, space: str, found: dict[str, dict[str, Any]]) -> list[list[str]]:
    warm = {name: each["warm"]["whole"] - each["warm"].get("encode", 0) for name, each in found.items() if "ms" in each}
    fastest = min((value for name, value in warm.items() if name != "asif"), default=float("nan"))
    rows = []
    for name, each in found.items():
        if "error" in each:
            rows.append([f"{size:,}", space, name, each["error"]])
            continue
        ms = each["ms"]
        times = [ms["open"], ms["first"], warm[name]]
        agreement = count_agreement(each["ids"], found["asif"].get("ids", []))
        rows.append(
            [
                f"{size:,}",
                space,
                name,
                *(f"{value:,.1f}" for value in times),
                f"{warm[name] / fastest:.2f}",
                *(f"{ms[key]:,.1f}" for key in ("many", *SHARES)),
                f"{each['rss_mib']:,.0f}",
                f"{each['peak_mib']:,.0f}",
                f"{agreement:.1%}",
            ]
        )
    return rows


def count_agreement(found: list[list[str]], expected: list[list[str]]) -> float:
    """Return the share of expected ids that were found, over all queries that every contender answers."""
    pairs = list(zip(found, expected, strict=False))
    wanted = sum(len(ids) for _, ids in pairs)
    return sum(len({*some} & {*ids}) for some, ids in pairs) / max(1, wanted)


def write_rows(home: Path, size: int, spaces: Sequence[str]) -> None:
    """Write what peers search in float32: the rows of `cca`, or the image vectors; queries; labels."""
    folder, gallery = home / "rows", make_gallery(home, size)
    folder.mkdir(exist_ok=True)
    texts = json.loads((home / "queries.json").read_text())
    engine = Engine(ANCHORS, home=home, aligner=make_aligner("cca"))
    fitted = engine.role("search").fitted
    queries = fitted.represent("text", engine.encode_texts(texts))
    assert isinstance(queries, DenseRows)
    np.save(folder / f"{size}-cca-queries.npy", queries.values)
    numbers = np.arange(len(texts)) * QUERY_ROWS % size
    np.save(folder / f"{size}-image-queries.npy", gather_rows(gallery.vectors, numbers).astype(np.float32))
    (folder / f"{size}-labels.json").write_text(json.dumps(list_labels(size)))
    represented = RepresentedGallery(gallery, engine.role("search"))
    for space in spaces:
        file = folder / f"{size}-{space}.npy"
        if not file.exists():
            blocks = represented.shared.blocks if space == "cca" else map(DenseRows, gallery.vectors)
            _write_blocks(file, [block.values for block in blocks if isinstance(block, DenseRows)])


def _write_blocks(file: Path, blocks: Sequence[np.ndarray]) -> None:
    """Write blocks of rows [n, d] as one array in float32."""
    part, start = file.with_suffix(".part"), 0
    out = np.lib.format.open_memmap(part, "w+", np.float32, (sum(map(len, blocks)), blocks[0].shape[1]))
    for block in blocks:
        out[start : start + len(block)] = block
        start += len(block)
    out.flush()
    os.replace(part, file)
