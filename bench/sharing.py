"""Measure export and import of a synthetic set: python bench/sharing.py [PAIRS]."""

from __future__ import annotations

import hashlib
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from asif.anchorset import EncoderInfo, Store
from asif.anchorset.sharing.tar_archive import TarSource, write_archive_file
from asif.pairs.pair import PairRecord
from asif.vectors import Fingerprint

SEGMENT = 8192
DIMS = (768, 384)


def make(store: Store, count: int) -> None:
    """Make a set of random unit vectors, with captions of ten words."""
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


def export(place: Path) -> None:
    """Write the archive, replacing an earlier one."""
    (place / "big.tar").unlink(missing_ok=True)
    with Store(place / "home").pack("big", place) as bundle:
        write_archive_file(place / "big.tar", bundle, lambda done: None)


def receive(place: Path) -> None:
    """Import the archive."""
    with open(place / "big.tar", "rb") as file:
        Store(place / "other").receive(TarSource(file, "big.tar"))


def verify(place: Path) -> None:
    """Verify the imported set, as import does."""
    Store(place / "other").verify("big").raise_if_bad()


def timed(what: str, step: Callable[[Path], None], place: Path) -> None:
    """Run a step in a new process; print its time and its memory, libraries included."""
    start = time.perf_counter()
    step(place)
    seconds, size = time.perf_counter() - start, (place / "big.tar").stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what}: {size:.0f} MB in {seconds:.2f} s, {size / seconds:.0f} MB/s; peak {peak:.0f} MiB", flush=True)


def apart(work: Callable[..., None], *arguments: object) -> None:
    """Run a function in a new process."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0


def main(count: int) -> None:
    """Make, export, import, verify; then export with a deleted row in each block."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        home = Store(place / "home")
        make(home, count)
        for what, step in (("export", export), ("import", receive), ("verify", verify)):
            apart(timed, what, step, place)
        home.remove("big", [f"{row:08d}" for row in range(0, count, SEGMENT)])
        apart(timed, "export, a deleted row in each block", export, place)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
