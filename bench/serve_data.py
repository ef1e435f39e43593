"""What the benchmark of `asif serve` needs: photographs, a home with two versions of the anchors, and the server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import ROOT
from encode import environment
from PIL import Image
from serve_client import Load

import asif
from asif.anchorset import Store
from asif.engine import Engine, build_gallery

ANCHORS, GALLERY = "imagenet-head", "photos"
VERSIONS = (f"{ANCHORS}@1", f"{ANCHORS}@2")
LABELS = ("a cat", "a dog", "a car", "a tree", "a person", "a hot drink", "a space launch", "a page of text")
_READY_SECONDS = 120


def make_photos(folder: Path, count: int) -> list[Path]:
    """Make photographs of 500 by 375 pixels: colours that run into each other, and noise."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            random = np.random.default_rng(number)
            few = Image.fromarray(random.integers(0, 255, (9, 12, 3), np.uint8))
            smooth = np.asarray(few.resize((500, 375), Image.Resampling.BICUBIC), np.float32)
            noisy = smooth + random.normal(0, 6, smooth.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=88)
    return paths


def prepare_home(home: Path, photos: list[Path]) -> None:
    """Build the default anchors, a version without half of them, and a gallery of the photographs."""
    if (home / "galleries" / GALLERY).exists():
        return
    with asif.open_anchors(home=home) as whole:
        ids = [record.id for record in whole.records(range(0, whole.count, 2))]
    Store(home).remove(ANCHORS, ids=ids).close()
    build_gallery([str(photo) for photo in photos], GALLERY, home=home).opened.close()


def find_expected(home: Path, photos: list[Path]) -> dict[str, list[tuple[str, float]]]:
    """Return, by digest of each version, the first label of each photograph and its score, from an engine."""
    found = {}
    for ref in VERSIONS:
        with Engine(ref, home=home) as engine:
            answers = engine.classify(list(map(str, photos)), LABELS)
            firsts = [answer.predictions[0] for answer in answers]
            found[engine.anchors.named.digest] = [(first.label, first.score) for first in firsts]
    if len({str(answers) for answers in found.values()}) < len(VERSIONS):
        sys.exit("both versions give the same answers, so that no answer tells which of them gave it")
    return found


@dataclass(frozen=True)
class Server:
    """A running service."""

    url: str
    process: psutil.Process

    def post(self, route: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """Send JSON; returns the answer and its seconds; raises for any error."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + route, data, {"Content-Type": "application/json"})
        began = time.perf_counter()
        with urllib.request.urlopen(request, timeout=120) as answer:
            content: dict[str, Any] = json.load(answer)
        return content, time.perf_counter() - began

    def swap(self, ref: str) -> float:
        """Serve another version; returns the seconds."""
        return self.post(f"/v1/anchors/{ANCHORS}/swap", {"ref": ref})[1]

    @property
    def memory_mb(self) -> float:
        return float(self.process.memory_info().rss) / 1e6

    @property
    def processor_seconds(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def run_server(home: Path, limits: dict[str, float] | None = None) -> Iterator[Server]:
    """Run `asif serve` in a process of its own until the end of the block."""
    config = home / "serve.toml"
    lines = [f"{name} = {value}" for name, value in (limits or {}).items()]
    config.write_text("\n".join(["[limits]", *lines, ""]))
    command = [sys.executable, "-m", "asif", "serve", "--config", str(config), "--port", "0"]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(
        [*command, "--anchors", ANCHORS, "--gallery", GALLERY], env=environment(home), stderr=log, cwd=ROOT
    ) as process:  # fmt: skip
        try:
            yield Server(wait_until_ready(process, log), psutil.Process(process.pid))
        finally:
            process.terminate()
            process.wait(60)


def wait_until_ready(process: subprocess.Popen[bytes], log: Any) -> str:
    """Return the address of the service once it is ready; exit if it never is."""
    stop = time.monotonic() + _READY_SECONDS
    while process.poll() is None and time.monotonic() < stop:
        log.seek(0)
        text = log.read()
        found = re.search(r"^http://\S+$", text, re.MULTILINE)
        if found and "ready: worker" in text:
            return found[0]
        time.sleep(0.1)
    sys.exit(f"the service did not start:\n{text}")


@contextmanager
def start_clients(load: Load) -> Iterator[subprocess.Popen[str]]:
    """Start clients; they end on their own."""
    command = [sys.executable, str(ROOT / "bench" / "serve_client.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(asdict(load)))
            process.stdin.close()
            yield process
        finally:
            process.kill()


def read_tally(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what clients saw, once they have ended."""
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.read())
    found["ms"] = {int(status): ms for status, ms in found["ms"].items()}
    return found


def run_clients(load: Load) -> dict[str, Any]:
    """Run clients to their end; returns what they saw."""
    with start_clients(load) as process:
        return read_tally(process)
