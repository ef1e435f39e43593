"""What many tests share: a store of one's own, the embedded encoders loaded once, the real data."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support.build_fakes import FakeImages, FakeTexts
from support.engine_sets import fake_image, fake_text
from support.kernels_cases import interpret
from support.paths import ROOT
from support.running import Cli, Ran

import asif
from asif.encoders import DEFAULT_ENCODERS, ImageEncoder, TextEncoder, load_image_encoder, load_text_encoder
from asif.kernels import cpu, native_binding, sparse

settings.register_profile("ci", derandomize=True)  # a verdict on a change, not on luck; elsewhere the search goes on
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty ASIF_HOME."""
    monkeypatch.setenv("ASIF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def image_encoder() -> ImageEncoder:
    return load_image_encoder(DEFAULT_ENCODERS["image"])


@pytest.fixture(scope="session")
def text_encoder() -> TextEncoder:
    return load_text_encoder(DEFAULT_ENCODERS["text"])


@pytest.fixture(scope="session")
def head_home(tmp_path_factory: pytest.TempPathFactory, text_encoder: TextEncoder) -> Path:
    """Return a store in which imagenet-head has been built; other sets may join it, this one must not change."""
    home = tmp_path_factory.mktemp("head")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asif.engine.build.load_text_encoder", lambda spec, device: text_encoder)
        asif.open_anchors(home=home).close()
    return home


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Choose an engine by its name.

    `cpu-avx2` is the compiled one with those instructions, `scipy` where none is, `interpreted` is `cuda` on the CPU.
    """
    name, _, instructions = request.param.partition("-")
    monkeypatch.setenv("ASIF_INSTRUCTIONS", instructions)
    if name == "scipy":
        monkeypatch.setattr(native_binding, "NATIVE_FOLDER", Path("nowhere"))
    if name == "interpreted":
        interpret(monkeypatch)
    native_binding.load_native.cache_clear()
    yield {"scipy": "torch", "interpreted": "cuda"}.get(name, name)
    native_binding.load_native.cache_clear()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Set how many threads the engines use, more than there are processors if need be."""
    import faiss
    import torch

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
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda spec, device: image_encoder)
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda spec, device: text_encoder)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeImages, FakeTexts]:
    """Let builds load fake encoders, whatever they are called."""
    image, text = FakeImages(), FakeTexts()
    monkeypatch.setattr("asif.engine.build.load_image_encoder", lambda spec, device: image)
    monkeypatch.setattr("asif.engine.build.load_text_encoder", lambda spec, device: text)
    return image, text


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let engines load encoders that hash what they are given."""
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda spec, device: fake_image())
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda spec, device: fake_text())


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
