"""A synthetic anchor set of 1.6M pairs, edited: open, swap, first answer, add, remove, verify, and the cost of edits.

The set is made once, in `bench/results/living` (8 GB while it is made, 3.9 GB after); `--rows` makes a smaller one.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import ROOT, machine, show
from tqdm import tqdm

from asif.aligners import make_aligner
from asif.anchorset import AnchorSet, EncoderInfo, Journal, Store, read_receipt
from asif.anchorset.format.atomic_io import hash_file
from asif.classify import Labels
from asif.engine import Engine
from asif.kernels import find_nearest, prepare_rows
from asif.kernels.quantised import QUANTISED_CACHE
from asif.pairs import PairRecord
from asif.vectors import SIDES, Embeddings, Fingerprint, Float32, Side
from asif.version import VERSION

DIMS: dict[Side, int] = {"image": 768, "text": 384}
ENCODERS = {
    side: EncoderInfo("precomputed", Fingerprint({"library": "precomputed", "dim": DIMS[side]})) for side in SIDES
}
LICENCES = ("CC-BY-4.0", "CC0-1.0", "CC-BY-NC-4.0", None)
SEGMENT = 8192


def records(start: int, stop: int) -> list[PairRecord]:
    """Make the records of pairs; ids are in the order of their numbers."""
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
        for row in tqdm(range(0, stop - start, SEGMENT), disable=stop - start <= SEGMENT):
            if row >= journal.next_row:
                first, last = start + row, min(start + row + SEGMENT, stop)
                some = vectors(first, last)
                journal.append(records(first, last), some["image"], some["text"], [], last - start)
        return finish(journal)


def seconds(action: Callable[[], object], runs: int = 1) -> float:
    """Return the median time of an action."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def resident() -> dict[str, int]:
    """Return the bytes of this process's private memory, and of the mapped files that it has read."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: 1024 * int(found[name].split()[0]) for name in ("RssAnon", "RssFile")}


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


def opening(store: Store) -> list[list[str]]:
    """Time opening the set, swapping between its versions, and queries."""
    store.open("big")  # imports
    before = resident()
    opened = store.open("big")
    after = resident()
    grown = {name: megabytes(after[name] - before[name]) for name in before}
    opened.close()
    first_version(store)
    first = store.open("big").exactly
    second = store.remove("big", [f"{number:09d}" for number in range(0, 1_000_000, 1000)], missing_ok=True).exactly
    rows = [
        ["open", f"{1000 * seconds(lambda: store.open('big'), 20):.1f} ms"],
        ["memory that opening takes: own, mapped", f"{grown['RssAnon']}, {grown['RssFile']}"],
    ]
    rng = np.random.default_rng(0)
    image = Embeddings.from_raw(rng.normal(size=(1, DIMS["image"])))
    texts = Embeddings.from_raw(rng.normal(size=(10, DIMS["text"])))
    labels = Labels(tuple(f"thing {n}" for n in range(10)))
    for name in ("asif", "cca"):
        engine = Engine(first, home=store.root, aligner=make_aligner(name))

        def answer(engine: Engine = engine) -> object:
            return engine.classify_vectors(image, labels, texts, top=1)

        answer()
        engine.swap(second)  # fits that take time are cached in the set's folder
        engine.swap(first)
        swap, after, gone = [], [], []
        for ref in [second, first] * 5:
            held = [engine.anchors]
            swap.append(seconds(lambda ref=ref, engine=engine: engine.swap(ref)))
            after.append(seconds(answer))
            gone.append(seconds(held.clear))
        rows += [
            [
                f"{name}: swap to another version, median, worst",
                f"{1000 * statistics.median(swap):.1f} ms, {1000 * max(swap):.1f} ms",
            ],
            [
                f"{name}: first answer after it, 1 image, 10 labels",
                f"{1000 * statistics.median(after):.0f} ms, {1000 * max(after):.0f} ms",
            ],
            [f"{name}: let the old mapping go", f"{1000 * statistics.median(gone):.1f} ms"],
            [f"{name}: another answer", f"{1000 * seconds(answer, 5):.0f} ms"],
        ]
    with store.open("big") as opened:
        return rows + labelling(opened, texts)


def labelling(opened: AnchorSet, texts: Embeddings) -> list[list[str]]:
    """Time one image after another with labels that are represented, in int8 and as anchors are stored."""
    fitted, rows = make_aligner("asif").fit(opened), []
    labels, limit, rng = prepare_rows(fitted.represent("text", texts)), QUANTISED_CACHE.limit, np.random.default_rng(2)

    def label() -> object:
        image = Embeddings.from_raw(rng.normal(size=(1, DIMS["image"])))
        return find_nearest(fitted.represent("image", image), labels, 1)

    for what, most in (("as they are stored", 0), ("in int8", limit)):
        QUANTISED_CACHE.limit = most
        first = seconds(label)
        seconds(label)  # quantises
        rows.append(
            [
                f"asif: one image with the same labels, anchors {what}: first, another",
                f"{1000 * first:.0f} ms, {1000 * seconds(label, 9):.0f} ms",
            ]
        )
    return rows


def editing(store: Store, rows: int) -> list[list[str]]:
    """Remove and add 1,000 pairs, each from the first version; then a hundred small edits one after another."""
    rng = np.random.default_rng(1)
    ids = [f"{number:09d}" for number in rng.permutation(rows)[:1000]]
    fresh = Store(store.root / "fresh")
    behind = make(fresh, "behind", rows, rows + 1000)
    between = make_between(fresh, "between", rows, 1000)
    changed = make_changed(fresh, "changed", rng.permutation(rows)[:1000])
    found = []
    receipt = store.root / "receipt.json"
    receipt.unlink(missing_ok=True)
    for what, action in (
        ("remove 1,000 pairs, anywhere", lambda: store.remove("big", ids)),
        ("remove 1,000 pairs, anywhere, with a receipt", lambda: store.remove("big", ids, receipt=receipt)),
        ("add 1,000 pairs, ids behind all others", lambda: store.put("big", behind, "add")),
        ("add 1,000 pairs, ids among the others", lambda: store.put("big", between, "add")),
        ("update 1,000 captions, anywhere", lambda: store.put("big", changed, "update")),
    ):
        first_version(store)
        before = store.size("big")
        took = seconds(action)
        found.append([what, f"{took:.2f} s, {megabytes(store.size('big') - before)} written"])
        if receipt.exists() and len(found) == 2:
            checked = seconds(lambda: store.check_receipts("big", [read_receipt(receipt)]))
            found.append(["check the receipt against the set", f"{checked:.2f} s, {megabytes(receipt.stat().st_size)}"])
    compacted = seconds(lambda: store.compact("big"))
    found.append(["compact after the last of them", f"{compacted:.1f} s"])
    return found + small_edits(store, fresh, rows)


def small_edits(store: Store, fresh: Store, rows: int) -> list[list[str]]:
    """Remove, append, insert and update 10 pairs each, 25 times."""
    first_version(store)
    before, rng, times = store.size("big"), np.random.default_rng(3), []
    whole = sum(entry.size + entry.pairs.size for entry in store.open("big").manifest.files)
    numbers = rng.permutation(rows)[:500].reshape(25, 20)
    for turn in range(25):
        some = [f"{number:09d}" for number in numbers[turn, :10]]
        behind = make(fresh, f"behind-{turn}", rows + 10 * turn, rows + 10 * turn + 10)
        between = make_between(fresh, f"between-{turn}", rows, 10, seed=100 + turn)
        changed = make_changed(fresh, f"changed-{turn}", numbers[turn, 10:])
        for action in (
            lambda some=some: store.remove("big", some),
            lambda behind=behind: store.put("big", behind, "add"),
            lambda between=between: store.put("big", between, "add"),
            lambda changed=changed: store.put("big", changed, "update"),
        ):
            times.append(seconds(action))
    grown = store.size("big") - before
    last = store.open("big")
    opened = seconds(lambda: store.open("big"), 20)
    rows_of = [
        ["100 edits of 10 pairs: median, worst", f"{statistics.median(times):.2f} s, {max(times):.2f} s"],
        ["what they take on disk", f"{megabytes(grown)}, {100 * grown / whole:.2f} % of the set"],
        ["the version after them", f"{len(last.manifest.blocks):,} pieces of {len(last.manifest.files):,} blocks"],
        ["open it", f"{1000 * opened:.1f} ms"],
    ]
    last.close()
    first_version(store)
    return rows_of


def first_version(store: Store) -> None:
    """Make the first version of the set current again."""
    store.rollback("big", store.log("big")[-1].version)
    store.gc("big", 1)


def make_changed(store: Store, name: str, numbers: Sequence[int]) -> AnchorSet:
    """Publish a set of the set's pairs with other captions."""
    some = [replace(records(number, number + 1)[0], captions=("changed",)) for number in sorted(map(int, numbers))]
    return publish(store, name, some, vectors(int(numbers[0]), int(numbers[0]) + len(some)))


def make_between(store: Store, name: str, rows: int, count: int, seed: int = 2) -> AnchorSet:
    """Publish a set of pairs whose ids are between existing ones."""
    numbers = sorted(np.random.default_rng(seed).permutation(rows)[:count].tolist())
    some = [replace(records(number, number + 1)[0], id=f"{number:09d}-{seed}") for number in numbers]
    return publish(store, name, some, vectors(rows + seed, rows + seed + count))


def publish(store: Store, name: str, some: list[PairRecord], drawn: Mapping[Side, Float32]) -> AnchorSet:
    """Publish a small set."""
    with store.journal(name, {"dtype": "float16", "name": name}) as journal:
        journal.append(some, drawn["image"], drawn["text"], [], len(some))
        return finish(journal)


def finish(journal: Journal) -> AnchorSet:
    """Publish the rows of a journal."""
    return journal.publish(
        **ENCODERS,
        dtype="float16",
        captions="first",
        operation={"kind": "build", "source": "synthetic"},
        asif_version=VERSION,
        dedup="keep",
    )


def verifying(store: Store) -> list[list[str]]:
    """Time verification, and reading and hashing of the same files alone."""
    report = store.verify("big@1")
    took = seconds(lambda: store.verify("big@1").raise_if_bad())
    files = sorted((store.root / "anchors" / "big").glob("*/*"))
    read = seconds(lambda: [file.read_bytes() and None for file in files])
    hashed = seconds(lambda: [hash_file(file) for file in files])
    rate = report.bytes / took
    return [
        ["verify", f"{took:.1f} s, {megabytes(rate)}/s"],
        ["read the same files", f"{read:.1f} s"],
        ["sha256 of the same files, one core", f"{hashed:.1f} s"],
    ]


def main() -> None:
    """Make the set if it does not exist, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_600_000)
    parser.add_argument("--only", choices=["open", "edit", "verify"])
    given = parser.parse_args()
    home = ROOT / "bench" / "results" / "living" / str(given.rows)
    store = Store(home)
    if "big" not in {entry.name for entry in store.sets()}:
        make(store, "big", 0, given.rows)
    print(machine())
    rows: list[list[str]] = []
    if given.only in (None, "edit"):
        rows += editing(store, given.rows)
    if given.only in (None, "open"):
        rows += opening(store)
    if given.only in (None, "verify"):
        rows += verifying(store)
    show(["what", "found"], rows)


if __name__ == "__main__":
    main()
