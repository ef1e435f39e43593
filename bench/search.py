"""Search: quality on Flickr8k dev, speed over made-up galleries, what an update costs, exact peers, a first use.

Parts: quality, speed, update, peers, walk; all by default. The home, `bench/results/search` or what `--home` names,
keeps the anchors (6,000 pairs of Flickr8k), galleries and rows between runs; a million rows take about 20 GB there.
Peers that are not installed are left out: pip install lancedb qdrant-client.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import search_quality
import search_speed
import search_walk
from common import ROOT, machine
from search_data import prepare_home

PARTS = ("quality", "speed", "update", "peers", "walk")
SIZES = "10000,100000,1000000"


def main() -> None:
    """Run the parts that were named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)} (all)")
    parser.add_argument("--home", type=Path, default=ROOT / "bench" / "results" / "search")
    parser.add_argument("--captions", type=int, help="of the quality part (5,000)")
    parser.add_argument("--rows", default=SIZES, help=f"sizes of galleries ({SIZES})")
    parser.add_argument("--aligners", help="of quality (auto,cca,asif,procrustes), of speed and update (cca,asif)")
    parser.add_argument("--peers", default=",".join(search_speed.PEERS), help="%(default)s")
    parser.add_argument("--spaces", default=",".join(search_speed.SPACES), help="of the peers part (%(default)s)")
    parser.add_argument("--runs", type=int, default=20, help="of a warm query (20)")
    given = parser.parse_args()
    unknown = {*given.parts} - {*PARTS} | {*given.peers.split(",")} - {*search_speed.PEERS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    parts, sizes = given.parts or PARTS, [int(size) for size in given.rows.split(",")]
    timed = (given.aligners or "cca,asif").split(",")
    os.environ.setdefault("OMP_NUM_THREADS", str(search_speed.THREADS))
    print(f"{machine()}; {', '.join(map(describe_library, ('faiss-cpu', 'lancedb', 'qdrant-client')))}", flush=True)
    if "walk" in parts:
        given.home.mkdir(parents=True, exist_ok=True)
        search_walk.measure_walk(given.home, min(given.runs, 5))
    if parts == ["walk"]:
        return
    prepare_home(given.home)
    if "quality" in parts:
        tested = tuple((given.aligners or ",".join(search_quality.ALIGNERS)).split(","))
        search_quality.measure_quality(given.home, given.captions, tested)
    if "speed" in parts:
        search_speed.measure_speed(given.home, sizes, timed, given.runs)
    if "update" in parts:
        search_speed.prepare_queries(given.home)
        search_speed.measure_update(given.home, sizes, timed)
    if "peers" in parts:
        search_speed.measure_peers(given.home, sizes, given.runs, given.peers.split(","), given.spaces.split(","))
    sys.stdout.flush()


def describe_library(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


if __name__ == "__main__":
    main()
