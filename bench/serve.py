"""`asif serve`: what it adds to the engine, swaps under load, many swaps, and more clients than it can answer.

Parts: overhead, swaps, soak, overload; all by default. The clients are one process on the same cores as the server, and
compete with it: the processor time of both is shown. The photographs are made, or those of `--photos`. The home,
`bench/results/serve` or what `--home` names, keeps photographs, anchors and the gallery between runs. Ends with exit
code 1 if a call failed or an answer was not that of the anchors that it names.
"""

from __future__ import annotations

import argparse
import json
import select
import statistics
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, machine, show
from serve_client import Load
from serve_data import (
    ANCHORS,
    GALLERY,
    LABELS,
    VERSIONS,
    Server,
    find_expected,
    make_photos,
    prepare_home,
    read_tally,
    run_clients,
    run_server,
    start_clients,
)

from asif import Engine, Gallery
from asif.engine.search.encode import encode_queries
from asif.engine.search.query import Query
from asif.engine.search.results import SearchOptions
from asif.vectors import Embeddings

PARTS = ("overhead", "swaps", "soak", "overload")
CLIENTS = (1, 8, 64)
MANY = 8
EVERY = 0.1  # seconds between swaps
QUEUE = 16  # items that may wait, in the overload part
PATIENCE = 1.0  # seconds that a refused client waits, as Retry-After says
WORDS = tuple(f"{colour} {thing}" for colour in ("a red", "a blue", "a green") for thing in ("kite", "boat", "house"))


def main() -> None:
    """Run the parts that were named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)} (all)")
    parser.add_argument("--home", type=Path, default=ROOT / "bench" / "results" / "serve")
    parser.add_argument("--photos", type=Path, help="a folder of JPEG files, in place of made ones")
    parser.add_argument("--count", type=int, default=200, help="photographs (200)")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement (10)")
    parser.add_argument("--rounds", type=int, default=3, help="in which the contenders take turns (3)")
    parser.add_argument("--swaps", type=int, default=10_000, help="of the soak part (10,000)")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    given = parser.parse_args()
    if unknown := {*given.parts} - {*PARTS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    photos = sorted(given.photos.glob("*.jp*g"))[: given.count] if given.photos else []
    photos = photos or make_photos(given.home / "photos", given.count)
    prepare_home(given.home, photos)
    bench = Bench(given, photos)
    print(f"{machine()}; {len(photos)} photographs, {len(LABELS)} labels", flush=True)
    for part in given.parts or PARTS:
        getattr(bench, f"measure_{part}")()
        sys.stdout.flush()
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": machine(), **bench.figures}, indent=1))
    sys.exit(min(1, bench.failed))


class Bench:
    """Hold the options, the photographs, and the figures of the parts that have run."""

    def __init__(self, given: argparse.Namespace, photos: list[Path]) -> None:
        self.given, self.home, self.photos = given, given.home, photos
        self.figures: dict[str, Any] = {}
        self.failed = 0

    def make_load(self, server: Server, route: str = "/v1/classify", clients: int = MANY, **more: Any) -> Load:
        """Describe a load of photographs."""
        labels = LABELS if route == "/v1/classify" else ()
        given = {"photos": tuple(map(str, self.photos)), "labels": labels, "seconds": self.given.seconds, **more}
        return Load(server.url, route, clients, **given)

    def count_failures(self, tally: dict[str, Any], allowed: tuple[int, ...] = (200,)) -> int:
        """Count failed calls and wrong answers, and show the first ones."""
        failed = sum(len(ms) for status, ms in tally["ms"].items() if status not in allowed)
        for error in [*tally["errors"][:3], *tally["wrong"][:3]]:
            print(f"failed: {error}", file=sys.stderr)
        self.failed += failed + len(tally["errors"]) + len(tally["wrong"])
        return failed + len(tally["errors"])

    # ---- what the service adds

    def measure_overhead(self) -> None:
        """Print requests a second and latencies by number of clients, beside a bare loop over an engine."""
        kinds: dict[str, tuple[str, dict[str, Any]]] = {
            "classify": ("/v1/classify", {}),
            "search by a photo": ("/v1/search", {}),
            "search by words": ("/v1/search", {"photos": (), "words": WORDS}),
        }
        rows, found = [], {}
        with run_server(self.home) as server, BareLoop(self.home, self.photos, self.given.seconds) as bare:
            for name, (route, more) in kinds.items():
                for clients in CLIENTS:  # fits, labels and rows are there before anything is measured
                    run_clients(self.make_load(server, route, clients, **{**more, "seconds": 2.0}))
                turns: dict[str, list[dict[str, float]]] = {}
                for _ in range(self.given.rounds):
                    for label, loop in bare.loops(name).items():
                        turns.setdefault(label, []).append(bare.measure(loop))
                    for clients in CLIENTS:
                        measured = self.measure_service(server, self.make_load(server, route, clients, **more))
                        turns.setdefault(f"service, {clients} clients", []).append(measured)
                found[name] = {label: take_median(each) for label, each in turns.items()}
                rows += describe_overhead(name, found[name])
        self.figures["overhead"] = found
        print(
            f"\nOne photo or text a request; {self.given.rounds} rounds of {self.given.seconds:g} s in turn, medians; "
            f"the gallery has {len(self.photos)} photographs. Overhead: milliseconds a request more than the bare "
            f"loop, with several clients the one of {MANY} at once, in elapsed time and in processor time of the "
            "server; beside it as a share of the encoder's time for one photo, alone: the aim is 15 % with "
            f"{MANY} clients.\n"
        )
        show(
            ["what", "contender", "a second", "p50 ms", "p99 ms", "processor ms a request", "clients' processor ms",
             "overhead ms: elapsed, processor", "of the encoder's time"], rows,
        )  # fmt: skip

    def measure_service(self, server: Server, load: Load) -> dict[str, float]:
        """Return requests a second, latencies, and milliseconds of processors a request."""
        before = server.processor_seconds
        tally = run_clients(load)
        self.count_failures(tally)
        ms = tally["ms"].get(200, [])
        share = load.seconds / (load.seconds + load.warm)  # of the requests, those after the warm-up
        return {
            "rate": len(ms) / load.seconds,
            "p50": float(np.percentile(ms, 50)),
            "p99": float(np.percentile(ms, 99)),
            "processor_ms": 1000 * (server.processor_seconds - before) * share / len(ms),
            "client_ms": 1000 * tally["processor_seconds"] * share / len(ms),
        }

    # ---- swaps

    def measure_swaps(self) -> None:
        """Print latencies with and without a swap every 100 ms, in turn; every answer is checked."""
        expected = find_expected(self.home, self.photos)
        turns: dict[str, list[dict[str, Any]]] = {"without swaps": [], "with swaps": []}
        seconds: list[float] = []
        with run_server(self.home) as server:
            for ref in VERSIONS * 2:
                server.swap(ref)
                run_clients(self.make_load(server, seconds=2.0))
            for _ in range(self.given.rounds):
                load = self.make_load(server, expected=expected)
                turns["without swaps"].append(run_clients(load))
                with start_clients(load) as process:
                    while process.poll() is None and not has_output(process):
                        began = time.perf_counter()
                        seconds.append(server.swap(VERSIONS[len(seconds) % 2]))
                        time.sleep(max(0.0, EVERY - (time.perf_counter() - began)))
                    turns["with swaps"].append(read_tally(process))
        rows = [self.describe_swaps(name, tallies) for name, tallies in turns.items()]
        p99 = {name: find_p99(tallies) for name, tallies in turns.items()}
        ratio = p99["with swaps"] / p99["without swaps"]
        self.figures["swaps"] = {"p99_ms": p99, "ratio": ratio, "swaps": len(seconds), "rows": rows}
        print(
            f"\n{MANY} clients, a photo a request; {len(seconds):,} swaps between two versions, one every "
            f"{1000 * EVERY:.0f} ms or as fast as they are answered, in {1000 * statistics.median(seconds):.0f} ms "
            f"(median), {1000 * max(seconds):.0f} ms (slowest). p99 with swaps is {ratio:.2f} times that "
            "without; the aim is 1.1.\n"
        )
        show(["", "calls", "failed", "checked", "wrong", "a second", "p50 ms", "p99 ms"], rows)

    def describe_swaps(self, name: str, tallies: list[dict[str, Any]]) -> list[str]:
        ms = [each for tally in tallies for each in tally["ms"].get(200, [])]
        failed = sum(map(self.count_failures, tallies))
        checked, wrong = (sum(tally["checked"] for tally in tallies), sum(len(tally["wrong"]) for tally in tallies))
        rate = len(ms) / sum(tally["seconds"] for tally in tallies)
        latencies = [f"{np.percentile(ms, share):.0f}" for share in (50, 99)]
        return [name, f"{len(ms):,}", f"{failed:,}", f"{checked:,}", f"{wrong:,}", f"{rate:.1f}", *latencies]

    def measure_soak(self) -> None:
        """Print latency and memory over many swaps in a row, with a photo labelled after every tenth."""
        count, seconds, memory = self.given.swaps, [], []
        photo = make_json(self.photos[0])
        with run_server(self.home) as server:
            for number in range(-100, count):  # memory grows at first
                took = server.swap(VERSIONS[number % 2])
                if number % 10 == 0:
                    server.post("/v1/classify", photo)
                if number >= 0:
                    seconds.append(took)
                    memory.append(server.memory_mb)
        some = min(1000, max(1, count // 3))
        ends = {f"first {some:,}": seconds[:some], f"last {some:,}": seconds[-some:]}
        ms = {
            name: [1000 * float(np.percentile(each, share)) for share in (50, 99, 100)] for name, each in ends.items()
        }
        slope = 1000 * float(np.polyfit(np.arange(count), memory, 1)[0])
        self.figures["soak"] = {"swaps": count, "slope_kb": slope, "memory_mb": [memory[0], memory[-1]], "ms": ms}
        print(f"\n{count:,} swaps in a row, a photo labelled after every tenth.\n")
        rows = [[name, *(f"{value:.1f}" for value in each)] for name, each in ms.items()]
        show(["swaps", "p50 ms", "p99 ms", "slowest ms"], rows)
        print(f"\nResident memory {memory[0]:,.0f} to {memory[-1]:,.0f} MB, {slope:+.2f} kB a swap.")

    # ---- overload

    def measure_overload(self) -> None:
        """Print what ten times more clients than the queue takes get, beside as many as keep it busy."""
        with run_server(self.home, {"queue_items": QUEUE}) as server:
            run_clients(self.make_load(server, seconds=3.0))
            loads = {f"{clients} clients": clients for clients in (QUEUE, 10 * QUEUE)}
            turns: dict[str, list[dict[str, Any]]] = {}
            for _ in range(self.given.rounds):
                for name, clients in loads.items():
                    load = self.make_load(server, clients=clients, patience=PATIENCE)
                    turns.setdefault(name, []).append(run_clients(load))
            memory = server.memory_mb
        rows = [self.describe_overload(name, tallies) for name, tallies in turns.items()]
        rates = {name: count_rate(tallies, 200) for name, tallies in turns.items()}
        self.figures["overload"] = {"rates": rates, "rows": rows, "memory_mb": memory}
        print(
            f"\nThe queue takes {QUEUE} photographs; a refused client waits for {PATIENCE:g} s. "
            f"The server holds {memory:,.0f} MB at the end.\n"
        )
        show(["load", "answered a second", "p50 ms", "p99 ms", "refused a second", "p50 ms", "p99 ms", "others"], rows)

    def describe_overload(self, name: str, tallies: list[dict[str, Any]]) -> list[str]:
        row = [name]
        for status in (200, 429):
            ms = [each for tally in tallies for each in tally["ms"].get(status, [])] or [float("nan")]
            row += [f"{count_rate(tallies, status):.1f}", *(f"{np.percentile(ms, share):.0f}" for share in (50, 99))]
        return [*row, str(sum(self.count_failures(tally, (200, 429)) for tally in tallies))]


class BareLoop:
    """Do in a loop over an engine, in this process, what the service does for requests."""

    def __init__(self, home: Path, photos: list[Path], seconds: float) -> None:
        self.engine, self.gallery = Engine(ANCHORS, home=home), Gallery(GALLERY, home=home)
        self.photos, self.seconds, self.at = [photo.read_bytes() for photo in photos], seconds, 0

    def __enter__(self) -> BareLoop:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()

    def loops(self, kind: str) -> dict[str, tuple[Callable[[int], object], int]]:
        """Return the loops beside a kind of request: what one turn does, and for how many requests it stands."""
        if kind == "search by words":
            return {"bare loop": (self.search_words, 1)}
        answer = self.classify if kind == "classify" else self.search_photos
        encode = {"encoder alone": (self.encode, 1), f"encoder alone, {MANY} at once": (self.encode, MANY)}
        return {**encode, "bare loop": (answer, 1), f"bare loop, {MANY} at once": (answer, MANY)}

    def take(self, count: int) -> list[bytes]:
        self.at += count
        return [self.photos[number % len(self.photos)] for number in range(self.at - count, self.at)]

    def encode(self, count: int) -> Embeddings:
        return Embeddings(np.stack([np.asarray(each) for each in self.engine.encode_images(self.take(count))]))

    def classify(self, count: int) -> object:
        return self.engine.classify_vectors(self.encode(count), LABELS)

    def search_photos(self, count: int) -> object:
        return self.search([Query.of(images=[photo]) for photo in self.take(count)])

    def search_words(self, count: int) -> object:
        self.at += 1
        return self.search([Query.of([WORDS[self.at % len(WORDS)]])])

    def search(self, queries: list[Query]) -> object:
        engine = self.engine
        return engine.search_vectors(
            self.gallery, encode_queries(queries, self.gallery, engine.anchors, engine.encoders), SearchOptions()
        )

    def measure(self, loop: tuple[Callable[[int], object], int]) -> dict[str, float]:
        """Run a loop for a while; returns requests a second, latencies of turns, and processor time a request."""
        turn, count = loop
        turn(count)
        ms, used, stop = [], time.process_time(), time.perf_counter() + self.seconds
        began = time.perf_counter()
        while (now := time.perf_counter()) < stop:
            turn(count)
            ms.append(1000 * (time.perf_counter() - now))
        requests = count * len(ms)
        return {
            "rate": requests / (time.perf_counter() - began),
            "p50": float(np.percentile(ms, 50)),
            "p99": float(np.percentile(ms, 99)),
            "processor_ms": 1000 * (time.process_time() - used) / requests,
        }


def take_median(turns: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}


def describe_overhead(kind: str, found: dict[str, dict[str, float]]) -> list[list[str]]:
    """Return a row for each contender; what several clients take is compared with a bare loop over batches."""
    alone = found.get("encoder alone")
    rows = []
    for name, each in found.items():
        row = [kind, name, f"{each['rate']:.1f}", f"{each['p50']:.1f}", f"{each['p99']:.1f}"]
        row += [f"{each['processor_ms']:.1f}", f"{each['client_ms']:.1f}" if "client_ms" in each else ""]
        if "client_ms" in each:
            many = found.get(f"bare loop, {MANY} at once")
            bare = found["bare loop"] if many is None or name == "service, 1 clients" else many
            more = 1000 / each["rate"] - 1000 / bare["rate"], each["processor_ms"] - bare["processor_ms"]
            row.append(f"{more[0]:+.1f}, {more[1]:+.1f}")
            times = (1000 / alone["rate"], alone["processor_ms"]) if alone else ()
            row.append(", ".join(f"{one / whole:+.0%}" for one, whole in zip(more, times, strict=False)))
        else:
            row += ["", ""]
        rows.append(row)
    return rows


def has_output(process: Any) -> bool:
    """Tell whether clients have begun to print, so that they are done."""
    return bool(select.select([process.stdout], [], [], 0)[0])


def find_p99(tallies: list[dict[str, Any]]) -> float:
    return float(np.percentile([each for tally in tallies for each in tally["ms"].get(200, [])], 99))


def count_rate(tallies: list[dict[str, Any]], status: int) -> float:
    return sum(len(tally["ms"].get(status, [])) for tally in tallies) / sum(tally["seconds"] for tally in tallies)


def make_json(photo: Path) -> dict[str, Any]:
    """Return the body of a request that labels a photograph."""
    return {"images": [{"base64": b64encode(photo.read_bytes()).decode()}], "labels": LABELS}


if __name__ == "__main__":
    main()
