"""A synthetic anchor set of 1.6M pairs, edited: open, swap, first answer, add, remove, verify, and what edits cost.

The set is made once, in `bench/results/living` (8 GB while it is made, 3.9 GB after); `--rows` makes a smaller one.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil

import numpy as np
from common import ROOT, machine
from tqdm import tqdm

from asif.anchorset import AnchorSet, EncoderInfo, Store
from asif.pairs import PairRecord
from asif.vectors import SIDES, Fingerprint, Float32, Side
from asif.version import VERSION

DIMS: dict[Side, int] = {"image": 768, "text": 384}
ENCODERS = {
    side: EncoderInfo("precomputed", Fingerprint({"library": "precomputed", "dim": DIMS[side]})) for side in SIDES
}
LICENCES = ("CC-BY-4.0", "CC0-1.0", "CC-BY-NC-4.0", None)
SEGMENT = 8192


def records(start: int, stop: int) -> list[PairRecord]:
    """Make pairs; ids follow the numbers."""
    return [
        PairRecord(
            f"{number:09d}",
            (f"a photo of thing {number * 7919 % 100_003} beside thing {number * 104_729 % 99_991}",),
            hashlib.sha256(b"%d" % number).hexdigest(),
            f"source {number % 8}",
            LICENCES[number % 4],
            f"https://example.org/{number}.jpg",
        )
        for number in range(start, stop)
    ]


def vectors(start: int, stop: int) -> dict[Side, Float32]:
    """Make unit vectors in clusters, the same pair of clusters on both sides."""
    rng = np.random.default_rng(start)
    cluster = rng.integers(1000, size=stop - start)
    found: dict[Side, Float32] = {}
    for at, side in enumerate(SIDES):
        centres = np.random.default_rng(at).standard_normal((1000, DIMS[side]), np.float32)
        rows = centres[cluster] + rng.standard_normal((stop - start, DIMS[side]), np.float32)
        found[side] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def make(store: Store, name: str, start: int, stop: int) -> AnchorSet:
    """Publish the pairs from `start` up to `stop`."""
    plan = {"dtype": "float16", "from": start, "to": stop}
    with store.journal(name, plan) as journal:
        for row in tqdm(range(0, stop - start, SEGMENT)):
            if row >= journal.next_row:
                first, last = start + row, min(start + row + SEGMENT, stop)
                some = vectors(first, last)
                journal.append(records(first, last), some["image"], some["text"], [], last - start)
        return journal.publish(
            **ENCODERS,
            dtype="float16",
            captions="first",
            operation={"kind": "build", "source": "synthetic"},
            asif_version=VERSION,
            dedup="keep",
        )


def main() -> None:
    """Make the set where it is missing, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_600_000)
    parser.add_argument("--fresh", action="store_true")
    given = parser.parse_args()
    home = ROOT / "bench" / "results" / "living" / str(given.rows)
    if given.fresh:
        shutil.rmtree(home, ignore_errors=True)
    store = Store(home)
    if "big" not in {entry.name for entry in store.sets()}:
        make(store, "big", 0, given.rows)
    print(machine())


if __name__ == "__main__":
    main()
