"""The measurement of backends: rows, agreement with torch, and the ranking that `auto` uses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.build_fakes import FakeTexts
from support.running import Cli

from asif.encoders.backends.choose import choose_backend
from asif.encoders.backends.ranking import RankingCache
from asif.encoders.backends.torch_export import NotExportableError
from asif.errors import MissingDependency, UsageError
from asif.evaluate import backend_speed
from asif.evaluate.backend_speed import ROUNDS, STEPS, compare_vectors, make_captions, make_images, measure_backends
from asif.vectors import Embeddings, Fingerprint, Float32

SPEC = "sentence-transformers:fake"


@dataclass
class Clock:
    """Tell the time, which passes only in encoders."""

    now: float = 0.0
    order: list[str] = field(default_factory=list)

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class TimedTexts(FakeTexts):
    """Encode texts on a backend, each in `pause` seconds, with vectors `off` the right ones."""

    clock: Clock = field(default_factory=Clock)
    backend: str = "torch"
    pause: float = 1.0
    off: float = 0.0
    failure: str | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint({"library": "fake", "backend": self.backend})

    def forward(self, texts: Any) -> Float32:
        self.clock.order.append(self.backend)
        self.clock.now += self.pause * len(texts)
        vectors = super().forward(texts)
        vectors[:, 0] += self.off * np.linalg.norm(vectors, axis=1)
        return vectors

    def write_export(self, folder: Path) -> dict[str, Any]:
        if self.failure:
            raise NotExportableError(self.failure)
        self.clock.now += 7
        return {}


Loaders = dict[str, Callable[[], TimedTexts]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(backend_speed, "time", clock)
    monkeypatch.setattr(backend_speed, "check_backend", lambda name: None)
    monkeypatch.delenv("ASIF_BACKEND", raising=False)
    monkeypatch.setattr("asif.encoders.backends.choose.list_runtimes", lambda: ["openvino", "onnx"])
    monkeypatch.setattr("asif.encoders.backends.choose.is_cuda_present", lambda: False)
    return clock


@pytest.fixture
def loaders(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Loaders:
    """Return what loads each backend; loading takes as many seconds as the name of the backend has letters."""
    loaders: Loaders = {
        "torch": lambda: TimedTexts(clock=clock),
        "openvino": lambda: TimedTexts(clock=clock, backend="openvino", pause=0.5),
        "onnx": lambda: TimedTexts(clock=clock, backend="onnx", pause=0.25),
    }

    def load(spec: str, device: str, backend: str, cache: Path) -> TimedTexts:
        assert (spec, device) == (SPEC, "cpu")
        clock.now += len(backend)
        return loaders[backend]()

    monkeypatch.setattr(backend_speed, "load_text_encoder", load)
    return loaders


def test_rows_and_the_ranking(loaders: Loaders, clock: Clock, tmp_path: Path) -> None:
    steps: list[int] = []
    rows = measure_backends(SPEC, "text", tmp_path, 1, steps.append)
    assert [row.backend for row in rows] == ["torch", "openvino", "onnx"]
    assert [(row.inputs, row.median, len(row.rates)) for row in rows] == [(16, rate, ROUNDS) for rate in (1, 2, 4)]
    assert [row.load_seconds for row in rows] == [5, 8, 4]
    assert [row.export_seconds for row in rows] == [None, 7, 7]
    assert all(row.agreement is not None and row.agreement.passed and row.reason is None for row in rows)
    assert sum(steps) == STEPS
    # a warm-up when it is loaded, then rounds that begin with each backend in turn
    assert clock.order[:6] == ["torch", "openvino", "onnx"] * 2
    assert clock.order[6:9] == ["openvino", "onnx", "torch"]
    choice = choose_backend("auto", "cpu", spec=SPEC, cache=tmp_path)
    assert (choice.backend, choice.reason.partition(": ")[2].split(" inputs")[0]) == (
        "onnx",
        "onnx 4.0, openvino 2.0, torch 1.0",
    )


def test_a_backend_with_other_vectors_is_measured_and_never_chosen(
    loaders: Loaders, clock: Clock, tmp_path: Path
) -> None:
    loaders["onnx"] = lambda: TimedTexts(clock=clock, backend="onnx", pause=0.01, off=1e-3)
    row = measure_backends(SPEC, "text", tmp_path, 1)[2]
    assert row.median == pytest.approx(100)
    assert row.agreement is not None and not row.agreement.passed
    assert 1e-4 < row.agreement.largest_difference < 2e-3
    assert choose_backend("auto", "cpu", spec=SPEC, cache=tmp_path).backend == "openvino"


def test_torch_is_chosen_where_it_is_the_fastest(loaders: Loaders, clock: Clock, tmp_path: Path) -> None:
    loaders["torch"] = lambda: TimedTexts(clock=clock, pause=0.1)
    measure_backends(SPEC, "text", tmp_path, 1)
    choice = choose_backend("auto", "cpu", spec=SPEC, cache=tmp_path)
    assert choice.runtime is None and choice.reason.startswith("the fastest one measured here: torch 10.0")


def test_what_cannot_run_is_a_row_with_the_reason(
    loaders: Loaders, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(name: str) -> None:
        if name == "openvino":
            raise MissingDependency("the backend is openvino", "the package openvino", "pip install x, or leave out")

    def fall_back() -> TimedTexts:
        logging.getLogger("asif.encoders.backends.choose").warning("torch runs it, not onnx: an operator is missing")
        return TimedTexts(clock=clock)

    monkeypatch.setattr(backend_speed, "check_backend", check)
    loaders["onnx"] = fall_back
    steps: list[int] = []
    rows = measure_backends(SPEC, "text", tmp_path, 1, steps.append)
    assert [row.reason for row in rows] == [
        None,
        "the package openvino is not installed: pip install x",
        "torch runs it, not onnx: an operator is missing",
    ]
    assert sum(steps) == STEPS
    assert rows[2].to_json()["median"] is None and rows[2].to_json()["agrees"] is None
    found = RankingCache(tmp_path / "rankings").find(SPEC)
    assert found is not None and found.rates == {"torch": 1.0}


def test_a_model_that_cannot_be_exported_is_loaded_on_torch_alone(
    loaders: Loaders, clock: Clock, tmp_path: Path
) -> None:
    loaders["torch"] = lambda: TimedTexts(clock=clock, failure="a loop over its inputs")
    loaders["onnx"] = loaders["openvino"] = lambda: pytest.fail("it was loaded")
    rows = measure_backends(SPEC, "text", tmp_path, 1)
    assert [row.reason for row in rows] == [None, *["a loop over its inputs"] * 2]


def test_neighbours_that_differ_are_counted() -> None:
    rows = np.eye(12, dtype=np.float32) + np.linspace(0, 1, 144, dtype=np.float32).reshape(12, 12)
    ones = Embeddings.from_raw(rows).values
    assert compare_vectors(ones, ones).passed
    others = compare_vectors(ones, Embeddings.from_raw(rows[::-1].copy()).values)
    assert others.other_neighbours > 0 and not others.passed


def test_inputs_are_fixed_and_different() -> None:
    captions = make_captions(4160)
    assert len(set(captions)) == 4160 and make_captions(70) == captions[:70]
    assert {len(text.split()) for text in captions} >= set(range(5, 25))
    images = make_images(3)
    assert images == make_images(4)[:3] and len(set(images)) == 3
    assert all(image.startswith(b"\x89PNG") for image in images)


def test_a_wrong_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the image encoder is 'fake:x'"):
        measure_backends("fake:x", "image", tmp_path)


def test_each_part_of_a_joined_encoder_is_measured(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "asif.evaluate.backend_speed.measure_backends", lambda spec, side, *_: measured.append((side, spec)) or []
    )
    ran = cli("encoders", "bench", "--image-encoder", "embedded:efficientnet-lite0+2", "--json")
    lite, text = "embedded:efficientnet-lite", "embedded:all-minilm-l6-v2"
    assert ran.code == 0 and measured == [("image", f"{lite}0"), ("image", f"{lite}2"), ("text", text)]
    assert ran.err.count("auto: ") == 3


def test_a_join_has_no_backend_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a joined encoder") as caught:
        measure_backends("timm:a+timm:b", "image", tmp_path)
    assert caught.value.fix == "measure each of its parts"


@pytest.mark.slow
def test_the_embedded_encoders_in_every_backend(cli: Cli, home: Path) -> None:
    ran = cli("encoders", "bench", "--images", "2", "--json")
    assert ran.code == 0, ran.err
    lines = ran.lines
    assert [(line["side"], line["backend"]) for line in lines] == [
        (side, backend) for side in ("image", "text") for backend in ("torch", "openvino", "onnx")
    ]
    for line in lines:
        if line["reason"] is None:
            assert line["agrees"] and line["largest_difference"] <= 1e-5 and line["other_neighbours"] == 0
            assert 0 < line["min"] <= line["median"] <= line["max"] and line["load_seconds"] > 0
            assert (line["export_seconds"] is None) == (line["backend"] == "torch")
        else:
            assert "is not installed" in line["reason"]
    assert lines[0]["reason"] is None and lines[0]["inputs"] == 2 and lines[3]["inputs"] == 32
    assert ran.err.count("auto: ") == 2
    assert len(list((home / "cache" / "rankings").iterdir())) == 2
