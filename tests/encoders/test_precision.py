"""Precisions of runtimes: what they refuse, what `auto` chooses, and what reaches OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from asif.encoders.backends import choose, openvino_
from asif.encoders.backends.choose import choose_runtime, load_exported
from asif.encoders.backends.exported import ExportedEncoder
from asif.encoders.precision import find_precision
from asif.errors import UsageError
from asif.vectors import Fingerprint

DTYPES = [("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16"), ("int8", "float32"),
          (None, "float32"), (["bfloat16"], "float32")]  # fmt: skip


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Let this processor be one with or without bfloat16, and both runtimes be installed."""
    monkeypatch.delenv("ASIF_BACKEND", raising=False)
    monkeypatch.setattr(openvino_, "supports_bfloat16", lambda: request.param)
    monkeypatch.setattr(choose, "list_runtimes", lambda: ["openvino", "onnx"])
    monkeypatch.setattr(choose, "check_backend", lambda name: None)
    monkeypatch.setattr(choose, "is_cuda_present", lambda: False)


with_bfloat16 = pytest.mark.parametrize("bfloat16", [True], indirect=True, ids=["with bfloat16"])
without_bfloat16 = pytest.mark.parametrize("bfloat16", [False], indirect=True, ids=["without bfloat16"])


@pytest.mark.parametrize(("dtype", "expected"), DTYPES)
def test_the_precision_of_anchors_is_that_of_their_fingerprint(dtype: Any, expected: str) -> None:
    assert find_precision(Fingerprint({} if dtype is None else {"dtype": dtype})) == expected


@with_bfloat16
@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", "openvino"), ("bfloat16", "openvino"), ("float16", None)]
)
def test_auto_where_there_is_bfloat16(bfloat16: None, precision: Any, expected: str | None) -> None:
    assert choose_runtime("auto", "cpu", precision) == expected
    assert choose_runtime("auto", "cuda", precision) is choose_runtime("torch", "cpu", precision) is None


@without_bfloat16
def test_auto_is_torch_where_there_is_no_bfloat16(bfloat16: None) -> None:
    assert choose_runtime("auto", "cpu", "float32") == "openvino"
    assert choose_runtime("auto", "cpu", "bfloat16") is None


@without_bfloat16
@pytest.mark.parametrize(
    ("backend", "precision", "came"),
    [
        ("onnx", "bfloat16", "the precision is bfloat16, in which onnxruntime does not compute"),
        ("onnx", "float16", "the precision is float16, in which onnxruntime does not compute"),
        ("openvino", "bfloat16", "the precision is bfloat16, in which openvino does not compute on this processor"),
        ("openvino", "float16", "the precision is float16, in which openvino does not compute"),
    ],
)
def test_what_a_runtime_refuses(bfloat16: None, backend: Any, precision: Any, came: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_runtime(backend, "cpu", precision)
    assert caught.value.came == came
    assert caught.value.expected == f"one of float32 with the backend {backend}"
    assert "pass --backend torch" in caught.value.fix


@with_bfloat16
def test_an_unknown_precision(bfloat16: None) -> None:
    assert choose_runtime("openvino", "cpu", "bfloat16") == "openvino"
    with pytest.raises(UsageError, match="the precision is 'int8'"):
        choose_runtime("auto", "cpu", "int8")  # type: ignore[arg-type]


@pytest.mark.parametrize(("capabilities", "expected"), [(["FP32", "BF16", "INT8"], True), (["FP32", "INT8"], False)])
def test_openvino_is_told_the_precision(
    monkeypatch: pytest.MonkeyPatch, capabilities: list[str], expected: bool
) -> None:
    openvino, told = pytest.importorskip("openvino"), []

    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
            return capabilities

        def compile_model(self, model: str, device: str, config: dict[str, Any]) -> Any:
            told.append(config["INFERENCE_PRECISION_HINT"])

    monkeypatch.setattr(openvino, "Core", Core)
    assert openvino_.supports_bfloat16() is expected
    for precision in ("float32", "bfloat16"):
        openvino_.open_session(Path("model.onnx"), 1, precision)  # type: ignore[arg-type]
    assert told == ["f32", "bf16"]


class Exported(ExportedEncoder):
    """Give the length of texts, in float32 or roughly."""

    inputs_per_pass: ClassVar[Mapping[str, int]] = {"texts_per_pass": 8}

    def forward(self, texts: Any) -> Any:
        return self._session(np.array([[len(text), 1] for text in texts]))


def open_rough_session(runtime: str, model: Path, precision: str = "float32") -> Any:
    if model.read_text() == "cannot be opened":
        raise RuntimeError("no such operator")
    error = 0 if precision == "float32" else 0.01
    return lambda inputs: inputs * [1, 1 + error]


@pytest.mark.parametrize("content", ["a model", "cannot be opened"])
def test_an_export_is_compared_in_float32_and_opened_in_the_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr("asif.encoders.backends.exported.open_session", open_rough_session)
    monkeypatch.setattr("asif.encoders.backends.exported.find_version", lambda runtime: "2026.0")
    loaded: list[str] = []

    def load_original(precision: str) -> Any:
        def write_export(folder: Path) -> dict[str, Any]:
            (folder / "model.onnx").write_text(content)
            return {}

        loaded.append(precision)
        fields = {"model": "toy", "dtype": precision, "backend": "torch"}
        return SimpleNamespace(
            spec="toy", dim=2, fingerprint=Fingerprint(fields), write_export=write_export,
            forward=lambda texts: np.array([[len(text), 1] for text in texts], np.float32),
        )  # fmt: skip

    kind: Any = Exported
    found: Any = load_exported(kind, "text", "openvino", tmp_path, None, load_original, "bfloat16")
    if content == "a model":
        assert loaded == ["float32"] and isinstance(found, Exported)
        assert found.fingerprint.fields == {
            "model": "toy", "dtype": "bfloat16", "backend": "openvino", "backend_version": "2026.0",
            "export_sha256": found.export.sha256, "texts_per_pass": 8,
        }  # fmt: skip
        assert found.forward(["ab"]).tolist() == [[2, 1.01]]
    else:
        assert loaded == ["float32", "bfloat16"]  # torch runs it, in the precision that was wanted
        assert found.fingerprint.fields["dtype"] == "bfloat16"
