"""Which backend `auto` uses after a measurement."""

from __future__ import annotations

from pathlib import Path

import pytest

from asif.encoders.backends import choose, ranking
from asif.encoders.backends.choose import choose_backend, choose_runtime
from asif.encoders.backends.ranking import Ranking, RankingCache
from asif.encoders.backends.runtime import Backend
from asif.encoders.backends.sealed_files import write_sealed

SPEC = "timm:resnet50"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install both runtimes on a machine without a GPU, where nothing names a backend."""
    monkeypatch.delenv("ASIF_BACKEND", raising=False)
    monkeypatch.setattr(choose, "list_runtimes", lambda: ["openvino", "onnx"])
    monkeypatch.setattr(choose, "is_cuda_present", lambda: False)
    monkeypatch.setattr(ranking, "find_version", lambda name: "1.0")


def keep(cache: Path, **rates: float) -> Path:
    RankingCache(cache / "rankings").add(SPEC, Ranking(rates, 2))  # type: ignore[arg-type]
    (kept,) = (cache / "rankings").iterdir()
    return kept


@pytest.mark.parametrize("fastest", ["torch", "onnx", "openvino"])
def test_auto_uses_the_fastest_one_measured(tmp_path: Path, fastest: Backend) -> None:
    rates = {"torch": 28.0, "onnx": 42.0, "openvino": 50.0, fastest: 61.5}
    keep(tmp_path, **rates)
    choice = choose_backend("auto", "auto", spec=SPEC, cache=tmp_path)
    assert choice.backend == fastest
    assert choice.runtime == (None if fastest == "torch" else fastest)
    assert choice.reason.startswith(f"the fastest one measured here: {fastest} 61.5, ")


def test_auto_without_a_measurement_uses_the_order_of_preference(tmp_path: Path) -> None:
    keep(tmp_path, onnx=2.0, openvino=1.0)
    assert choose_runtime("auto", "auto", spec=SPEC, cache=tmp_path) == "onnx"
    for spec, cache in ((SPEC, tmp_path / "other"), ("timm:resnet18", tmp_path), (SPEC, None), (None, tmp_path)):
        choice = choose_backend("auto", "auto", spec=spec, cache=cache)
        assert (choice.runtime, "not measured here" in choice.reason) == ("openvino", True)


def test_a_named_backend_and_a_gpu_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path, onnx=2.0, openvino=1.0)
    assert choose_runtime("torch", "auto", spec=SPEC, cache=tmp_path) is None
    assert choose_runtime("auto", "cuda", spec=SPEC, cache=tmp_path) is None
    monkeypatch.setattr(choose, "is_cuda_present", lambda: True)
    choice = choose_backend("auto", "auto", spec=SPEC, cache=tmp_path)
    assert (choice.backend, choice.reason) == ("torch", "it uses the CUDA device")
    assert choose_runtime("auto", "cpu", spec=SPEC, cache=tmp_path) == "onnx"
    monkeypatch.setenv("ASIF_BACKEND", "torch")
    choice = choose_backend("auto", "cpu", spec=SPEC, cache=tmp_path)
    assert (choice.backend, choice.reason) == ("torch", "ASIF_BACKEND is set")


@pytest.mark.parametrize("damage", ["changed", "truncated", "empty", "foreign"])
def test_a_damaged_ranking_counts_as_none(tmp_path: Path, damage: str) -> None:
    kept = keep(tmp_path, onnx=2.0, openvino=1.0)
    content = kept.read_bytes()
    changes = {
        "changed": content.replace(b'"onnx":2.0', b'"onnx":9.0'),
        "truncated": content[:-9],
        "empty": b"",
        "foreign": b"[1]",
    }
    assert changes[damage] != content
    kept.write_bytes(changes[damage])
    assert RankingCache(tmp_path / "rankings").find(SPEC) is None
    assert choose_runtime("auto", "auto", spec=SPEC, cache=tmp_path) == "openvino"
    keep(tmp_path, onnx=3.0, openvino=1.0)
    assert choose_runtime("auto", "auto", spec=SPEC, cache=tmp_path) == "onnx"


@pytest.mark.parametrize(
    ("rates", "threads"), [({}, 2), ({"auto": 1.0}, 2), ({"torch": 0.0}, 2), ({"torch": "fast"}, 2), (None, 2)]
)
def test_a_sealed_file_that_is_no_ranking_counts_as_none(tmp_path: Path, rates: object, threads: int) -> None:
    kept = keep(tmp_path, onnx=2.0)
    write_sealed(kept, {"rates": rates, "threads": threads})
    assert RankingCache(tmp_path / "rankings").find(SPEC) is None


def test_a_ranking_of_another_machine_or_version_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path, onnx=2.0, openvino=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(ranking, "describe_machine", lambda: "another one")
        assert choose_runtime("auto", "auto", spec=SPEC, cache=tmp_path) == "openvino"
    monkeypatch.setattr(ranking, "find_version", lambda name: "1.1")
    assert choose_runtime("auto", "auto", spec=SPEC, cache=tmp_path) == "openvino"


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "rankings").write_text("a file")
    RankingCache(tmp_path / "rankings").add(SPEC, Ranking({"torch": 1.0}, 2))
    assert RankingCache(tmp_path / "rankings").find(SPEC) is None
