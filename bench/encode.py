"""Encoding by every backend: inputs a second, whole builds, cold `asif classify`, accuracy; peak memory of each.

The backends take turns, each in a process of its own, with equal threads. Parts can be run alone: --rates, --build,
--classify, --accuracy; without any of them, all run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, classnames, labelled, machine, realdata, show
from encode_contender import PLAIN

from asif.classify import Labels
from asif.encoders import encode_images
from asif.encoders.backends.runtime import find_version, list_runtimes
from asif.engine import Engine
from asif.evaluate.backend_speed import compare_vectors

BACKENDS = ["torch", *list_runtimes()]
LABELS = "cat,dog,car,tree,person,coffee,rocket,page of text"
TEMPLATES = ("{}", "a photo of a {}.")
CAPTIONS_PER_IMAGE = 8  # many, for each backend fills its passes with captions of one length


def environment(home: Path, threads: int | None = None) -> dict[str, str]:
    """Return the environment of a process with a home and, if it is given, a number of threads."""
    limits = {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)} if threads else {}
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **limits, "ASIF_HOME": str(home), "PYTHONPATH": paths}


@dataclass
class Process:
    """Hold the output, the seconds and the peak memory of a process that has ended."""

    output: str
    seconds: float
    peak_mib: float


def run_process(command: list[str], home: Path) -> Process:
    """Run a command to its end; exit if it fails."""
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            sys.exit(f"{' '.join(command)}:\n{errors.read().decode()}")
    return Process(output.decode(), time.perf_counter() - started, usage.ru_maxrss / 1024)


def run_asif(home: Path, *arguments: object) -> Process:
    return run_process([sys.executable, "-m", "asif", *map(str, arguments)], home)


# ---- inputs a second


@dataclass
class Contender:
    """Run one contender in a process that waits between its turns."""

    process: subprocess.Popen[str]
    inputs: int
    vectors: Path
    rates: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    @classmethod
    def start(cls, side: str, name: str, inputs: int, threads: int, home: Path) -> Contender:
        vectors = home / f"{side}-{name}-{threads}.npy"
        command = [sys.executable, str(ROOT / "bench" / "encode_contender.py"), side, name]
        process = subprocess.Popen(
            [*command, str(inputs), str(threads), str(vectors)],
            env=environment(home, threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        found = cls(process, inputs, vectors)
        found.read()
        return found

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args!r} ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def take_turn(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.rates.append(self.inputs / self.read()["seconds"])

    def finish(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.peak_mib = self.read()["peak_mib"]
        self.process.wait()


def measure_rates(home: Path, inputs: dict[str, int], threads: list[int], rounds: int) -> None:
    """Print images and captions a second of every contender: the median and the range of the rounds."""
    for side, count in inputs.items():
        rows = []
        for number in threads:
            with ExitStack() as stack:
                running: dict[str, Contender] = {}
                for name in (PLAIN[side], *BACKENDS):
                    running[name] = Contender.start(side, name, count, number, home)
                    stack.callback(running[name].process.kill)
                take_turns(list(running.values()), rounds)
            rows += describe_rates(running, number)
        what = "images" if side == "image" else "captions"
        print(f"\n{count:,} {what} a round, {rounds} rounds; images are decoded before.\n")
        show(["contender", "threads", f"{what} a second", "range", "x plain", "x asif on torch", *_AGREEMENT], rows)


_AGREEMENT = ("largest difference from plain", "same ten neighbours", "peak memory")


def take_turns(contenders: list[Contender], rounds: int) -> None:
    """Let each contender run once a round; in each, another one is the first."""
    for turn in range(rounds):
        for at in range(len(contenders)):
            contenders[(turn + at) % len(contenders)].take_turn()
    for contender in contenders:
        contender.finish()


def describe_rates(contenders: dict[str, Contender], threads: int) -> list[list[str]]:
    medians = {name: statistics.median(each.rates) for name, each in contenders.items()}
    plain = next(iter(contenders))
    vectors = {name: np.load(each.vectors) for name, each in contenders.items()}
    rows = []
    for name, each in contenders.items():
        agreement = compare_vectors(vectors[name], vectors[plain])
        rows.append(
            [
                name if name == plain else f"asif, {name}",
                str(threads),
                f"{medians[name]:.1f}",
                f"{min(each.rates):.1f} to {max(each.rates):.1f}",
                f"{medians[name] / medians[plain]:.2f}",
                f"{medians[name] / medians['torch']:.2f}",
                f"{agreement.largest_difference:.1e}",
                f"{each.inputs - agreement.other_neighbours} of {each.inputs}",
                f"{each.peak_mib:.0f} MiB",
            ]
        )
    return rows


# ---- whole builds


def measure_builds(home: Path, limit: int | None, rounds: int) -> None:
    """Print the seconds of `asif build-anchors` on Flickr8k train by backend, and the share of each stage."""
    source = realdata() / "flickr8k" / "train.parquet"
    some = [] if limit is None else ["--limit", limit]
    for backend in BACKENDS:  # exports are made before
        run_asif(home, "build-anchors", source, "--name", f"first-{backend}", "--backend", backend, "--limit", 8)
    runs: dict[str, list[tuple[Process, dict[str, Any]]]] = {backend: [] for backend in BACKENDS}
    for turn in range(rounds):
        for at in range(len(BACKENDS)):
            backend = BACKENDS[(turn + at) % len(BACKENDS)]
            options = ["--name", f"built-{backend}-{turn}", "--backend", backend, "--json"]
            process = run_asif(home, "build-anchors", source, *options, *some)
            runs[backend].append((process, json.loads(process.output)))
    rows, torch = [], statistics.median(built["seconds"] for _, built in runs["torch"])
    for backend, found in runs.items():
        seconds = [built["seconds"] for _, built in found]
        _, built = found[0]
        shares = {**built.get("stages", {}), "encoders": built["encoder_share"]}
        rows.append(
            [
                backend,
                f"{statistics.median(process.seconds for process, _ in found):.1f} s",
                f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})",
                f"{torch / statistics.median(seconds):.2f}",
                f"{built['rows_in'] / statistics.median(seconds):.0f}",
                ", ".join(f"{stage.replace('_', ' ')} {share:.1%}" for stage, share in shares.items()),
                f"{max(process.peak_mib for process, _ in found):.0f} MiB",
            ]
        )
    print(f"\nasif build-anchors, {rows_of(runs):,} rows with five captions each, {rounds} runs of each backend.\n")
    header = ["backend", "whole process", "build, encoders loaded", "x torch", "images a second", "busy", "peak memory"]
    show(header, rows)


def rows_of(runs: dict[str, list[tuple[Process, dict[str, Any]]]]) -> int:
    rows: int = runs["torch"][0][1]["rows_in"]
    return rows


# ---- cold commands


def measure_classify(home: Path, rounds: int) -> None:
    """Print the seconds of `asif classify` as a process by backend, and those of `import torch` in the same run."""
    photo = home / "photo.jpg"
    photo.write_bytes(labelled("caltech101")[0][0])
    found: dict[str, list[Process]] = {}
    for backend in BACKENDS:
        ran = run_asif(home / backend, "classify", photo, "--labels", LABELS, "--backend", backend)
        found[f"{backend}: first one on a fresh machine (exports, builds imagenet-head)"] = [ran]
    for turn in range(rounds):
        import_torch = run_process([sys.executable, "-c", "import torch"], home)
        found.setdefault('`python -c "import torch"`', []).append(import_torch)
        for backend in BACKENDS:
            for what, labels in (("labels cached", LABELS), ("new labels", f"{LABELS},new{turn}")):
                ran = run_asif(home / backend, "classify", photo, "--labels", labels, "--backend", backend)
                found.setdefault(f"{backend}: one photo, {what}", []).append(ran)
    unit = statistics.median(process.seconds for process in found['`python -c "import torch"`'])
    rows = []
    for what, processes in found.items():
        seconds = [process.seconds for process in processes]
        rows.append(
            [
                what,
                f"{statistics.median(seconds):.2f} s",
                f"{min(seconds):.2f} to {max(seconds):.2f}",
                f"{statistics.median(seconds) / unit:.2f}",
                f"{max(process.peak_mib for process in processes):.0f} MiB",
            ]
        )
    print(f"\nWhole processes, {rounds} runs in turn.\n")
    show(["what", "median", "range", "x import torch", "peak memory"], rows)


# ---- accuracy


def measure_accuracy(home: Path, limit: int | None) -> None:
    """Print top-1 of every backend with its own `imagenet-head` anchors, by template and class names."""
    data = {name: tuple(part[:limit] for part in labelled(name)) for name in ("caltech101", "cifar10")}
    rows = []
    for backend in BACKENDS:
        engine = Engine(home=home / backend, backend=backend)
        embedded = {
            name: encode_images(engine.image_encoder(engine.anchors), images) for name, (images, _) in data.items()
        }
        cells = []
        for name, corrected in (("caltech101", False), ("caltech101", True), ("cifar10", False)):
            known = tuple(sorted(set(labelled(name)[1])))
            names = classnames(name) if corrected else {}
            for templates in ((TEMPLATES[0],), TEMPLATES):
                labels = Labels(known, templates, "mean", tuple(names.get(label, (label,)) for label in known))
                results = engine.classify_vectors(embedded[name], labels, top=1)
                pairs = zip(results, data[name][1], strict=True)
                cells.append(f"{100 * np.mean([one.predictions[0].label == label for one, label in pairs]):.1f}")
        rows.append([backend, *cells])
    sets = ("Caltech-101", "Caltech-101, names corrected", "CIFAR-10")
    print(f"\nTop-1 of {', '.join(f'{len(part[0]):,} images of {name}' for name, part in data.items())}.\n")
    show(["backend", *(f"{name}: {what}" for name in sets for what in ("{}", "both"))], rows)


def main() -> None:
    """Run the parts that were named."""
    parser = argparse.ArgumentParser(description=__doc__)
    for part in ("rates", "build", "classify", "accuracy"):
        parser.add_argument(f"--{part}", action="store_true")
    parser.add_argument("--images", type=int, help="of each round (256), and of each labelled set (all)")
    parser.add_argument("--limit", type=int, help="rows of a build (all)")
    parser.add_argument("--threads", default="1,2", help="numbers of threads for --rates (1,2)")
    parser.add_argument("--rounds", type=int, default=5, help="of --rates and --classify (5)")
    parser.add_argument("--builds", type=int, default=1, help="of each backend (1)")
    chosen = parser.parse_args()
    everything = not (chosen.rates or chosen.build or chosen.classify or chosen.accuracy)
    versions = ", ".join(f"{name} {find_version(name)}" for name in list_runtimes())
    print(f"{machine()}; {versions or 'no runtime but torch'}")
    images = chosen.images or 256
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if everything or chosen.rates:
            threads = [int(number) for number in chosen.threads.split(",")]
            counts = {"image": images, "text": CAPTIONS_PER_IMAGE * images}
            measure_rates(home, counts, threads, chosen.rounds)
        if everything or chosen.build:
            measure_builds(home, chosen.limit, chosen.builds)
        if everything or chosen.classify:
            measure_classify(home, chosen.rounds)
        if everything or chosen.accuracy:
            measure_accuracy(home, chosen.images)


if __name__ == "__main__":
    main()
