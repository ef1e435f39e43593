"""Sharded builds on Ray with fake encoders that take their time, to be killed; and the processes of a Ray.

`python -m support.ray_builds PAIRS HOME LOG SECONDS ACTORS SHARD_ROWS` builds the set `toy` on a Ray of its own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from support.build_fakes import OPERATION, SIDES, FakeImages, FakeTexts, stored_rows
from support.paths import TESTS

from asif.anchorset import AnchorSet, Store
from asif.building import BuildOptions, BuildResult
from asif.building.bad_rows import Tolerance
from asif.building.sharded.build import build_sharded_anchor_set
from asif.building.sharded.work import ShardingOptions
from asif.cluster.pool import ClusterOptions
from asif.cluster.ray_ import RayPool
from asif.errors import AsifError
from asif.pairs import open_pairs
from asif.vectors import Float32

MARK = "ASIF_TEST_MARK"
"""A variable of the environment by which the processes of one test are found."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class LoggedImages(FakeImages):
    """Add the contents that are encoded to a file, one a line, and take `pause` seconds for each batch."""

    log: Path | None = None
    pause = 0.0
    deadly = b""

    def forward(self, prepared: Sequence[bytes]) -> Float32:
        if self.deadly in prepared:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.log is not None:
            with open(self.log, "ab", buffering=0) as file:
                file.write(b"".join(content + b"\n" for content in prepared))
        time.sleep(self.pause)
        return super().forward(prepared)


def make_logged(log: Path, pause: float, deadly: bytes = b"") -> tuple[FakeImages, FakeTexts]:
    image = LoggedImages()
    image.log, image.pause, image.deadly = log, pause, deadly
    return image, FakeTexts()


def build_on_ray(
    pairs: Path,
    home: Path,
    log: Path,
    *,
    pause: float = 0.0,
    actors: int = 2,
    shard_rows: int = 8,
    deadly: bytes = b"",
    progress: Callable[[int], None] = lambda rows: None,
    bad: int = 9,
) -> BuildResult:
    return build_sharded_anchor_set(
        open_pairs(pairs),
        Store(home),
        "toy",
        {"image": "fake", "text": "fake"},
        partial(make_logged, log, pause, deadly),
        BuildOptions(max_bad_rows=Tolerance(number=bad)),
        OPERATION,
        ShardingOptions(ClusterOptions(actors), shard_rows),
        RayPool,
        progress,
    )


def describe_set(opened: AnchorSet) -> str:
    """Name a set by its pairs and the bytes of its embeddings, whatever its blocks are."""
    content = hashlib.sha256()
    for side in SIDES:
        content.update(stored_rows(opened, side).tobytes())
    return f"{opened.digest} {content.hexdigest()}"


def describe(home: Path) -> str:
    """Return what a reader sees now: the content, and whether it is intact; or why there is none."""
    try:
        with Store(home).open("toy") as opened:
            opened.records(range(opened.count))
            problems = Store(home).verify("toy").problems
            return describe_set(opened) + "".join(map(str, problems))
    except AsifError as error:
        return type(error).__name__


# ---- processes


def list_marked(mark: str) -> dict[int, str]:
    """List the living processes of a test: {pid: command}."""
    found = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdecimal() and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def list_actors(pids: dict[int, str]) -> list[int]:
    return [pid for pid, command in pids.items() if command.startswith("ray::_Actor")]


def end_marked(mark: str) -> None:
    """Kill what is left of a test: agents of Ray outlive a driver that was killed."""
    for _ in range(50):
        left = list_marked(mark)
        left.pop(os.getpid(), None)
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


@contextmanager
def start_build(
    mark: str, temporary: Path, pairs: Path, home: Path, log: Path, pause: float, actors: int, shard_rows: int
) -> Iterator[subprocess.Popen[str]]:
    """Build in a child with a Ray of its own; all of its processes are ended with the block."""
    environment = {**os.environ, **QUIET, MARK: mark, "RAY_TMPDIR": str(temporary), "PYTHONPATH": _python_path()}
    command = [sys.executable, "-m", "support.ray_builds", *map(str, (pairs, home, log, pause, actors, shard_rows))]
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()
        end_marked(mark)


@contextmanager
def run_ray() -> Iterator[str]:
    """Run Ray for this process; its processes have a mark, which is yielded, and are ended with the block."""
    import ray

    mark, temporary = secrets.token_hex(8), tempfile.mkdtemp(prefix="ray-")
    os.environ.update({**QUIET, MARK: mark, "PYTHONPATH": _python_path()})
    try:
        ray.init(
            num_cpus=4,
            include_dashboard=False,
            object_store_memory=100 << 20,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=temporary,
        )
        yield mark
    finally:
        ray.shutdown()
        end_marked(mark)
        del os.environ[MARK]
        shutil.rmtree(temporary, ignore_errors=True)


def _python_path() -> str:
    return os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])


def wait_until(condition: Callable[[], Any], seconds: float = 90.0) -> Any:
    """Wait for a condition, and return what it gave; fail after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} seconds: {condition}")


def count_encoded(log: Path) -> int:
    return len(log.read_bytes().splitlines()) if log.exists() else 0


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pairs, home, log = map(Path, sys.argv[1:4])
    built = build_on_ray(
        pairs, home, log, pause=float(sys.argv[4]), actors=int(sys.argv[5]), shard_rows=int(sys.argv[6])
    )
    sys.stdout.write(json.dumps({"resumed_at": built.resumed_at, "seen": describe(home)}) + "\n")


if __name__ == "__main__":
    try:
        main()
    except AsifError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(error.exit_code)
