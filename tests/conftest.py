"""What many tests share: a store of one's own, the embedded encoders loaded once, the real data.

Nothing here imports torch or a room of the package until a test needs it.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.doctest import DoctestModule
from hypothesis import settings
from support.paths import ROOT
from support.running import Cli, Ran

if TYPE_CHECKING:
    from support.build_fakes import FakeImages, FakeTexts

    from asif.encoders import ImageEncoder, TextEncoder

os.environ.setdefault("ASIF_BACKEND", "torch")  # tests of the other backends name them
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # tests use more threads than there are processors
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:  # each worker takes its share of the processors: more threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

settings.register_profile("default", deadline=None)  # speed is measured in bench/
settings.register_profile("ci", derandomize=True, deadline=None)  # a verdict on a change, not on luck
settings.register_profile("quick", max_examples=15, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")  # `--hypothesis-profile` names another one

REAL_ENCODERS = {"image_encoder", "text_encoder", "head_home", "preloaded"}
INTERPRETED = {"steered"}
"""Fixtures of tests that are slow: they load the embedded encoders, or run Triton's interpreter."""


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C interrupt tests and what they start, also where the runner was started in the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for doctests in the package only: a test file that cannot be imported is an error, not a skipped doctest."""
    found = yield
    return [collector for collector in found if not isinstance(collector, DoctestModule)]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what needs real encoders or Triton's interpreter, and as `realdata` what needs real pairs.

    Workers begin with what is slow, so that none of them waits for another at the end.
    """
    from support.machine import cuda_devices

    slow = REAL_ENCODERS if cuda_devices() else REAL_ENCODERS | INTERPRETED
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & slow:
            item.add_marker(pytest.mark.slow)
        if "realdata" in fixtures:
            item.add_marker(pytest.mark.realdata)
    if WORKERS > 1:
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty ASIF_HOME."""
    monkeypatch.setenv("ASIF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def image_encoder() -> ImageEncoder:
    from asif.encoders import DEFAULT_ENCODERS, load_image_encoder

    return load_image_encoder(DEFAULT_ENCODERS["image"])


@pytest.fixture(scope="session")
def text_encoder() -> TextEncoder:
    from asif.encoders import DEFAULT_ENCODERS, load_text_encoder

    return load_text_encoder(DEFAULT_ENCODERS["text"])


@pytest.fixture(scope="session")
def head_home(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Return a store in which imagenet-head has been built; other sets may join it, this one must not change.

    One worker builds it, and each gets a copy of its own.
    """
    from filelock import FileLock

    home = tmp_path_factory.mktemp("head") / "home"
    built = tmp_path_factory.getbasetemp() / "imagenet-head"
    if WORKERS > 1:
        built = tmp_path_factory.getbasetemp().parent / "imagenet-head"  # of all workers
    with FileLock(f"{built}.lock"):
        if not built.exists():
            _build_head(home, request.getfixturevalue("text_encoder"))
            shutil.copytree(home, f"{built}.part")
            os.replace(f"{built}.part", built)
        else:
            shutil.copytree(built, home)
    return home


def _build_head(home: Path, text_encoder: TextEncoder) -> None:
    import asif

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asif.engine.build.load_text_encoder", lambda *_: text_encoder)
        asif.open_anchors(home=home).close()


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Choose an engine by its name.

    `cpu-avx2` is the compiled one with those instructions, `tiles-avx2` searches few anchors like many, `scipy` where
    none is, `interpreted` is `cuda` on the CPU.
    """
    from support.kernels_cases import interpret

    from asif.kernels import cpu, native_binding

    name, _, instructions = request.param.partition("-")
    monkeypatch.setenv("ASIF_INSTRUCTIONS", instructions)
    if name == "scipy":
        monkeypatch.setattr(native_binding, "NATIVE_FOLDER", Path("nowhere"))
    if name == "interpreted":
        interpret(monkeypatch)
    if name == "tiles":
        monkeypatch.setattr(cpu, "SMALL_ANCHORS", 0)
    native_binding.load_native.cache_clear()
    yield {"scipy": "torch", "interpreted": "cuda", "tiles": "cpu"}.get(name, name)
    native_binding.load_native.cache_clear()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Set how many threads the engines use, more than there are processors if need be."""
    import faiss
    import torch

    from asif.kernels import cpu, sparse

    def use(count: int) -> None:
        for module in (cpu, sparse):
            monkeypatch.setattr(module, "count_threads", lambda: count)
        torch.set_num_threads(count)
        faiss.omp_set_num_threads(count)

    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    yield use
    torch.set_num_threads(before[0])
    faiss.omp_set_num_threads(before[1])


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Return the folder of real pairs, or skip."""
    place = Path(os.environ.get("ASIF_REALDATA") or ROOT.parent / "shared" / "data")
    if not place.is_dir():
        pytest.skip(f"no real data in {place}: set ASIF_REALDATA")
    return place


@pytest.fixture
def preloaded(monkeypatch: pytest.MonkeyPatch, image_encoder: ImageEncoder, text_encoder: TextEncoder) -> None:
    """Let engines use the encoders that are loaded already."""
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: image_encoder)
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: text_encoder)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeImages, FakeTexts]:
    """Let builds load fake encoders, whatever they are called."""
    from support.build_fakes import FakeImages, FakeTexts

    image, text = FakeImages(), FakeTexts()
    monkeypatch.setattr("asif.engine.build.load_image_encoder", lambda *_: image)
    monkeypatch.setattr("asif.engine.build.load_text_encoder", lambda *_: text)
    return image, text


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let engines load encoders that hash what they are given."""
    from support.engine_sets import fake_image, fake_text

    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: fake_image())
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: fake_text())


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `asif` in this process."""
    from asif.cli import main

    def run(*arguments: object, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "argv", ["asif", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture
def asif_build(cli: Cli, home: Path) -> Cli:
    """Run `asif build-anchors` in this process."""
    return partial(cli, "build-anchors")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the user's own store, under a umask of 022."""
    monkeypatch.delenv("ASIF_HOME", raising=False)
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "data" / name)
    before = os.umask(0o022)
    yield tmp_path / "data" / "asif"
    os.umask(before)


@pytest.fixture(scope="session")
def ray_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start Ray, once for all tests, or skip; return the mark by which its processes are found."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'asif-engine[ray]'")
    from support.ray_builds import run_ray

    with run_ray() as mark:
        yield mark


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Return a parquet of 500 pairs of precomputed vectors."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(5)
    columns = {
        "id": [f"id-{row:04}" for row in range(500)],
        "caption": [f"caption {row}" for row in range(500)],
        "image_embedding": list(rng.normal(size=(500, 12)).astype(np.float32)),
        "text_embedding": list(rng.normal(size=(500, 8)).astype(np.float32)),
    }
    pq.write_table(pa.table(columns), tmp_path / "vectors.parquet", row_group_size=64)
    return tmp_path / "vectors.parquet"
