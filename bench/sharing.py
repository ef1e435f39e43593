"""Measure export and import of a synthetic set: python bench/sharing.py [PAIRS]."""

from __future__ import annotations

import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from asif.anchorset import EncoderInfo, Store
from asif.anchorset.sharing.archive import Archive, put_archive
from asif.pairs.pair import PairRecord
from asif.vectors import Fingerprint

SEGMENT = 8192
DIMS = (768, 384)


def make(store: Store, count: int) -> None:
    """Make a set of random unit vectors, and captions of ten words."""
    rng = np.random.default_rng(0)
    words = [hashlib.sha256(b"%d" % number).hexdigest()[:7] for number in range(5000)]
    with store.journal("big", {"dtype": "float16", "rows": count}) as journal:
        for start in range(0, count, SEGMENT):
            rows = range(start, min(start + SEGMENT, count))
            records = [
                PairRecord(
                    f"{row:08d}",
                    (" ".join(words[at] for at in rng.integers(0, 5000, 10)),),
                    hashlib.sha256(b"image %d" % row).hexdigest(),
                    "synthetic",
                    "CC0-1.0",
                )
                for row in rows
            ]
            image, text = (rng.standard_normal((len(rows), dim), np.float32) for dim in DIMS)
            journal.append(records, image / 28, text / 20, [], rows.stop)
        encoders = {side: EncoderInfo(f"timm:{side}", Fingerprint({"model": side})) for side in ("image", "text")}
        journal.publish(
            **encoders, dtype="float16", captions="mean", operation={"kind": "build"}, asif_version="0", dedup="keep"
        ).close()


def timed(what: str, size: Callable[[], int], work: Callable[[], object]) -> None:
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{what}: {size() / 1e6:.0f} MB in {seconds:.2f} s, {size() / 1e6 / seconds:.0f} MB/s; peak {peak:.0f} MiB so far"
    )


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        home, file, other = Store(Path(place) / "home"), Path(place) / "big.tar", Store(Path(place) / "other")
        make(home, count)

        def export() -> None:
            file.unlink(missing_ok=True)
            with home.packed("big", Path(place)) as parcel:
                put_archive(file, parcel, lambda done: None)

        def receive() -> None:
            with open(file, "rb") as opened:
                other.receive(Archive(opened, "big.tar"))

        timed("export", lambda: file.stat().st_size, export)
        timed("import", lambda: file.stat().st_size, receive)
        timed("verify", lambda: file.stat().st_size, lambda: other.verify("big").raise_if_bad())
        home.remove("big", [f"{row:08d}" for row in range(0, count, SEGMENT)])
        timed("export, each block with a deleted row", lambda: file.stat().st_size, export)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
