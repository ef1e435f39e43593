"""Run `asif build-anchors` with fake encoders that take their time; run by test_build_faults.py.

`build_driver.py build ARGUMENTS...` is the command itself, `build_driver.py kills FOLDER PAIRS` kills it again and
again, `build_driver.py memory PAIRS HOME` tells how much memory it takes. DRIVER is a JSON object: `slow`
{phase: seconds}, `segment` rows, `mark` the file that appears when the slow phase begins, `log` the file to which the
encoded images are added.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet  # noqa: F401  loaded once, before forking
from support.build_fakes import FakeImages, FakeTexts, identity

import asif.anchorset.write.version
import asif.building.build
import asif.engine.build
from asif.anchorset import Store
from asif.cli import main
from asif.errors import AsifError
from asif.pairs import Pair, Reject, open_pairs
from asif.pairs.parquet import ParquetSource
from asif.vectors import Float32

SEGMENT = 16


class LoggedImages(FakeImages):
    """Add the contents that are encoded to a file, one a line."""

    log: Path | None = None

    def forward(self, prepared: Sequence[bytes]) -> Float32:
        if self.log is not None:
            with open(self.log, "ab", buffering=0) as file:
                file.write(b"".join(content + b"\n" for content in prepared))
        return super().forward(prepared)


class ForgetfulImages(FakeImages):
    """Keep no list of what was encoded."""

    def forward(self, prepared: Sequence[bytes]) -> Float32:
        found = super().forward(prepared)
        self.seen.clear()
        return found


def slowly(work: Callable[..., Any], seconds: float, mark: Path | None) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if mark is not None:
            mark.touch()
        time.sleep(seconds)
        return work(*args, **kwargs)

    return call


def prepare(slow: dict[str, float], segment: int = SEGMENT, mark: str | None = None, log: str | None = None) -> None:
    """Put fakes in the place of encoders, and pauses where they are asked for."""
    image, place = LoggedImages(), Path(mark) if mark else None
    image.log = Path(log) if log else None
    asif.engine.build.load_image_encoder = lambda *_: image
    text = FakeTexts()
    asif.engine.build.load_text_encoder = lambda *_: text
    asif.building.build.SEGMENT_ROWS = segment
    if seconds := slow.get("reading", slow.get("reading ids")):
        read, of_ids = ParquetSource.read, "reading ids" in slow
        pause = slowly(lambda item: item, seconds, place)

        def read_slowly(self: ParquetSource, start: int = 0) -> Iterator[Pair | Reject]:
            is_slow = (self.columns.image is None) == of_ids
            return map(pause, read(self, start)) if is_slow else read(self, start)

        ParquetSource.read = read_slowly  # type: ignore[method-assign]
    if "decoding" in slow:
        image.prepare = slowly(image.prepare, slow["decoding"], place)  # type: ignore[method-assign]
    if "encoding" in slow:
        image.forward = slowly(image.forward, slow["encoding"], place)  # type: ignore[method-assign]
    if "captions" in slow:
        text.forward = slowly(text.forward, slow["captions"], place)  # type: ignore[method-assign]
    if "publishing" in slow:
        put = asif.anchorset.write.version.write_content_file
        asif.anchorset.write.version.write_content_file = slowly(put, slow["publishing"], place)


def readable(root: Path) -> list[str]:
    """Return what a reader sees now: what was published and what verify finds, or why there is nothing."""
    try:
        with Store(root).open("toy") as opened:
            opened.records(range(opened.count))
            return [identity(opened), *map(str, Store(root).verify("toy").problems)]
    except AsifError as error:
        return [type(error).__name__]


def build_to_the_end(pairs: Path, root: Path) -> None:
    source = open_pairs(pairs)
    built = asif.engine.build.build_anchors(source, "toy", home=root)
    sys.stdout.write(json.dumps({"resumed_at": built.resumed_at, "seen": readable(root)}) + "\n")
    sys.stdout.flush()


def encoded(log: Path) -> list[bytes]:
    return log.read_bytes().splitlines() if log.exists() else []


def killed_after(images: int, seconds: float, pairs: Path, root: Path, slow: dict[str, float], log: Path) -> bool:
    """Build in a child that is killed once it has encoded so many images, and a while; return whether it was alive."""
    enough = len(encoded(log)) + images
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            prepare(slow, log=str(log))
            asif.engine.build.build_anchors(open_pairs(pairs), "toy", home=root)
        os._exit(0)
    ended = 0
    while len(encoded(log)) < enough and not ended:
        time.sleep(0.001)
        ended, _ = os.waitpid(child, os.WNOHANG)
    if ended:
        return False
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def kills(folder: Path, pairs: Path) -> None:
    """Kill builds at seeded times, twice each, and let a third run finish; print what was seen, three lines for each.

    Odd ones die while they encode, even ones later and later while they publish.
    """
    rng = random.Random(11)
    for trial in range(6):
        root, log, killed, seen = folder / str(trial), folder / f"{trial}.log", [], []
        for _ in range(2):
            if trial % 2:
                killed.append(
                    killed_after(rng.randrange(75), rng.uniform(0, 0.02), pairs, root, {"encoding": 0.002}, log)
                )
            else:
                left = open_pairs(pairs).rows - len(set(encoded(log)))
                pause = 0.06 * trial + rng.uniform(0, 0.05)
                killed.append(killed_after(left, pause, pairs, root, {"publishing": 0.1}, log))
            seen.append(readable(root))
        before = len(encoded(log))
        prepare({}, log=str(log))
        sys.stdout.write(json.dumps({"killed": killed, "before": before, "seen": seen}) + "\n")
        build_to_the_end(pairs, root)
        sys.stdout.write(json.dumps({"encoded": len(encoded(log)), "images": len(set(encoded(log)))}) + "\n")


def memory(pairs: Path, root: Path) -> None:
    """Build, and print the number of anchors and the peak of memory in kB; the parent's peak is not in VmHWM."""
    prepare({}, asif.building.build.SEGMENT_ROWS)
    asif.engine.build.load_image_encoder = lambda *_: ForgetfulImages()
    count = asif.engine.build.build_anchors(pairs, "toy", home=root).anchors.count
    peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    sys.stdout.write(f"{count} {peak}\n")


if __name__ == "__main__":
    if sys.argv[1] in ("kills", "memory"):
        {"kills": kills, "memory": memory}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        prepare(**json.loads(os.environ.get("DRIVER", '{"slow": {}}')))
        sys.argv[:2] = ["asif", "build-anchors"]
        main()
