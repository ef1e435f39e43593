"""Builds and exact search on Ray beside those of one process: equal results, and what Ray costs on one machine."""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import machine, realdata, show

from asif.anchorset import AnchorSet, Store
from asif.cluster.pool import ClusterOptions
from asif.engine.sharded.anchors import ShardedAnchorSet
from asif.engine.sharded.workers import SearchWorkers
from asif.kernels import topk_similarity

DIMS = {"image_embedding": 384, "text_embedding": 8}
_GROUP = 10_000


def make_vectors(path: Path, rows: int, dims: dict[str, int] = DIMS, group: int = _GROUP) -> Path:
    """Write pairs of random vectors, in row groups of `group`, unless they are there."""
    if path.exists():
        return path
    kinds = {name: pa.list_(pa.float32(), dim) for name, dim in dims.items()}
    schema = pa.schema([("id", pa.string()), ("caption", pa.string()), *kinds.items()])
    with pq.ParquetWriter(path.with_suffix(".part"), schema) as writer:
        for start in range(0, rows, group):
            random, count = np.random.default_rng(start), min(group, rows - start)
            names = [f"{row:09d}" for row in range(start, start + count)]
            columns: list[Any] = [names, [f"caption {name}" for name in names]]
            for name, dim in dims.items():
                values = random.standard_normal(count * dim, np.float32)
                columns.append(pa.FixedSizeListArray.from_arrays(pa.array(values), dim).cast(kinds[name]))
            writer.write_table(pa.table(columns, schema=schema))
    path.with_suffix(".part").rename(path)
    return path


def build(source: Path, home: Path, name: str, *more: object) -> dict[str, Any]:
    """Build a set by the command in a process of its own; return its JSON, seconds, and the peak memory in MB."""
    command = [sys.executable, "-m", "asif", "build-anchors", str(source), "--name", name, "--json", *map(str, more)]
    started = time.perf_counter()
    with subprocess.Popen(
        command, env={**os.environ, "ASIF_HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, printed
    return {**json.loads(printed), "wall": time.perf_counter() - started, "peak": usage.ru_maxrss / 1024}


def hash_blocks(home: Path, name: str) -> list[str]:
    with Store(home).open(name) as opened:
        return [opened.digest, *(entry.sha256 for entry in opened.manifest.blocks)]


@contextmanager
def run_ray() -> Iterator[str]:
    """Run Ray for all measurements; yield its address."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary:
        context = ray.init(
            num_cpus=os.cpu_count(),
            include_dashboard=False,
            object_store_memory=200 << 20,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=temporary,
        )
        yield context.address_info["gcs_address"]
        ray.shutdown()


def measure_builds(folder: Path, source: Path, limit: int, address: str, what: str) -> None:
    """Compare builds of some rows: local, and by one and two actors on a Ray that runs already."""
    shard, rows = max(1, limit // 12), []
    local = build(source, folder / "home", f"{what}-local", "--limit", limit)
    for actors in (0, 1, 2):
        name = f"{what}-{actors}"
        on_ray = ("--engine", "ray", "--address", address, "--actors", actors, "--shard-rows", shard)
        found = build(source, folder / "home", name, "--limit", limit, *on_ray) if actors else local
        equal = hash_blocks(folder / "home", name if actors else f"{what}-local") == hash_blocks(
            folder / "home", f"{what}-local"
        )
        rows.append(
            [
                f"ray, {actors} actor{'s' * (actors > 1)}" if actors else "local",
                f"{found['wall']:.1f}",
                f"{100 * (found['wall'] / local['wall'] - 1):+.0f} %" if actors else "",
                f"{found['wall'] - found['seconds']:.1f}",
                f"{found['peak']:.0f}",
                "yes" if equal else "NO",
            ]
        )
    print(f"\n{what}: {limit:,} pairs, shards of {shard:,} rows\n")
    show(
        ["engine", "seconds", "overhead", "of them outside of the build", "driver, peak MB", "digest and blocks equal"],
        rows,
    )


def measure_memory(folder: Path, address: str, rows: int, counts: list[int]) -> None:
    """Build the same rows in more and more shards: peak memory of the driver."""
    small = dict.fromkeys(DIMS, 8)
    source, table = make_vectors(folder / f"small-{rows}.parquet", rows, small, group=500), []
    for shards in counts:
        per_shard = rows // shards
        on_ray = ("--engine", "ray", "--address", address, "--actors", 2, "--shard-rows", per_shard)
        found = build(source, folder / "home", f"shards-{shards}", "--limit", rows, *on_ray)
        table.append([f"{shards:,}", f"{per_shard:,}", f"{found['peak']:.0f}", f"{found['wall']:.1f}"])
    local = build(source, folder / "home", "shards-local", "--limit", rows)
    table.append(["local", f"{rows:,}", f"{local['peak']:.0f}", f"{local['wall']:.1f}"])
    print(f"\nDriver: {rows:,} pairs in more and more shards\n")
    show(["shards", "rows in each", "driver, peak MB", "seconds"], table)
    sys.stdout.flush()


def measure_search(opened: AnchorSet, queries: int, k: int) -> None:
    """Find the nearest anchors by 1, 2 and 7 actors, and here."""
    random = np.random.default_rng(1).standard_normal((queries, opened.dims["image"])).astype(np.float32)
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    blocks, rows = opened.blocks("image"), []
    topk_similarity(random[:1], blocks, k)
    for batch in (1, 64):
        here, expected = time_search(lambda some: topk_similarity(some, blocks, k), random, batch)
        rows.append([str(batch), "local", f"{1000 * here:.1f}", "", ""])
        for count in (1, 2, 7):
            workers = SearchWorkers(ClusterOptions(count))
            sharded = ShardedAnchorSet(opened, workers).blocks("image")
            started = time.perf_counter()
            topk_similarity(random[:1], sharded, k)
            first = time.perf_counter() - started
            there, found = time_search(lambda some, sharded=sharded: topk_similarity(some, sharded, k), random, batch)
            equal = all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
            rows.append(
                [str(batch), f"{count} shards", f"{1000 * there:.1f}", "yes" if equal else "NO", f"{first:.1f}"]
            )
            workers.close()
    print(f"\nThe {k} nearest of {opened.count:,} anchors, {opened.dims['image']} dimensions, float16\n")
    show(["queries", "engine", "ms a call", "all bits equal", "start of the actors, s"], rows)
    sys.stdout.flush()


def time_search(search: Any, queries: Any, batch: int) -> tuple[float, list[Any]]:
    """Return the median seconds of a call, and what all calls found."""
    found, seconds = [], []
    for start in range(0, len(queries), batch):
        started = time.perf_counter()
        one = search(queries[start : start + batch])
        seconds.append(time.perf_counter() - started)
        found += [one.indices, one.scores]
    return float(np.median(seconds)), found


def measure_start() -> None:
    """Print what it takes to start Ray and an actor in new processes."""
    code = (
        "import time; started = time.perf_counter();"
        "from asif.cluster.ray_ import RayPool; from asif.cluster.pool import ClusterOptions, WorkerSpec, call_all;"
        "pool = RayPool(lambda count: [WorkerSpec(dict)], ClusterOptions(1)); up = time.perf_counter();"
        "call_all(pool, 'copy', [()]); done = time.perf_counter(); pool.close();"
        "print(up - started, done - up, time.perf_counter() - done)"
    )
    runs = [subprocess.check_output([sys.executable, "-c", code], text=True).split() for _ in range(3)]
    start, actor, stop = np.median(np.array(runs, float), axis=0)
    print("\nStart, median of three new processes\n")
    show(["what", "seconds"], [["Ray", f"{start:.1f}"], ["an empty actor", f"{actor:.1f}"], ["stop", f"{stop:.1f}"]])
    sys.stdout.flush()


PARTS = ("start", "pairs", "vectors", "memory", "search")


def main() -> None:
    """Measure all parts, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=PARTS)
    parser.add_argument("--pairs", type=int, default=6000, help="photographs")
    parser.add_argument("--shards", type=int, nargs="+", default=[10, 1000, 10_000])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of made-up vectors")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "results" / "scale")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    print(machine(), flush=True)
    if "start" in given.parts:
        measure_start()
    if set(given.parts) <= {"start"}:
        return
    with run_ray() as address:
        if "pairs" in given.parts:
            measure_builds(given.folder, realdata() / "flickr8k" / "train.parquet", given.pairs, address, "flickr8k")
        if {"vectors", "search"} & set(given.parts):
            source = make_vectors(given.folder / f"vectors-{given.rows}.parquet", given.rows)
        if "vectors" in given.parts:
            measure_builds(given.folder, source, given.rows // 2, address, "vectors")
        if "memory" in given.parts:
            measure_memory(given.folder, address, 20_000, given.shards)
        if "search" in given.parts:
            build(source, given.folder / "home", "all")
            with Store(given.folder / "home").open("all") as opened:
                measure_search(opened, 256, 100)


if __name__ == "__main__":
    main()
