"""Device and precision of models on torch: what the fingerprint says, what is refused, which settings hold."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.build_images import random_png
from support.tiny_encoders import tiny_model

from asif.encoders.timm_ import TimmEncoder
from asif.encoders.torch_placement import TorchPlacement, check_placement, choose_placement
from asif.errors import OutOfSpace, UsageError
from asif.vectors import normalise_rows

PICTURES = [random_png(seed, 24 + seed, 30) for seed in range(9)]


def make_encoder(precision: Any) -> TimmEncoder:
    model = tiny_model()
    model.reset_classifier(0)
    return TimmEncoder("timm:tiny", model, "cpu", precision)


def test_the_fingerprint_of_float32_names_neither_device_nor_passes() -> None:
    assert TorchPlacement("cuda").describe(images_per_pass=64) == {"dtype": "float32", "backend": "torch"}
    assert set(make_encoder("float32").fingerprint.fields) == {
        *("library", "model", "weights_sha256", "preprocessing", "decoder", "pooling", "dtype", "backend")
    }


def test_below_float32_the_fingerprint_names_all_that_changes_vectors() -> None:
    exact, rough = make_encoder("float32").fingerprint, make_encoder("bfloat16").fingerprint
    differing = exact.differences(rough)
    assert sorted(differing) == ["backend_version", "device", "dtype", "images_per_pass"]
    assert differing["dtype"] == ("float32", "bfloat16")
    assert (differing["device"][1], differing["images_per_pass"][1]) == ("cpu", 4)


def test_bfloat16_on_the_cpu() -> None:
    """Vectors are near those of float32 but not equal, and do not depend on the other images of a call."""
    encoders = [make_encoder(precision) for precision in ("float32", "bfloat16")]
    prepared = [encoders[0].prepare(picture) for picture in PICTURES]
    exact, rough = (encoder.forward(prepared) for encoder in encoders)
    distances = np.abs(normalise_rows(exact) - normalise_rows(rough)).max(axis=1)
    assert (distances > 1e-5).all() and (distances < 0.05).all()
    assert np.array_equal(encoders[1].forward(prepared[5:]), rough[5:])
    assert np.array_equal(encoders[1].tokens(prepared).pooled, rough)
    assert next(encoders[1]._model.parameters()).dtype.itemsize == 4  # weights stay float32


def test_below_float32_passes_are_not_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their size is a field of the fingerprint."""
    import torch

    encoder = make_encoder("bfloat16")
    seen: list[int] = []

    def fail(batch: Any) -> Any:
        seen.append(len(batch))
        raise torch.OutOfMemoryError("CUDA out of memory")

    prepared = [encoder.prepare(PICTURES[0])]
    monkeypatch.setattr(encoder, "_model", fail)
    with pytest.raises(OutOfSpace, match="with 4 inputs in a pass"):
        encoder.forward(prepared)
    assert seen == [4]


def test_precisions_that_a_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    for precision, came, fix in (
        ("float16", "the precision is float16 on the CPU", "pass --precision bfloat16"),
        ("fp16", "the precision is 'fp16'", "leave it out"),
    ):
        with pytest.raises(UsageError) as caught:
            choose_placement("cpu", precision)  # type: ignore[arg-type]
        assert caught.value.came == came and fix in caught.value.fix
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "Old Card")
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: including_emulation)
    for precision in ("float32", "float16"):
        check_placement(TorchPlacement("cuda", precision))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="bfloat16 on Old Card, which does not compute in it") as caught:
        check_placement(TorchPlacement("cuda", "bfloat16"))
    assert caught.value.fix == "leave --precision out, or pass --precision float16"
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    check_placement(TorchPlacement("cuda", "bfloat16"))


def test_emulated_bfloat16_is_remarked_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for instructions, precision, remarks in (
        ("AVX2", "bfloat16", 1),
        ("AVX2", "float32", 0),
        ("AVX512", "bfloat16", 0),
    ):
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda found=instructions: found)
        caplog.clear()
        assert choose_placement("cpu", precision) == TorchPlacement("cpu", precision)  # type: ignore[arg-type]
        assert [record.levelname for record in caplog.records] == ["WARNING"] * remarks


@pytest.mark.parametrize(("gib", "side", "expected"), [(80, 224, 128), (16, 224, 64), (8, 224, 32), (80, 448, 64),
                                                       (2, 224, 8), (1, 1024, 8)])  # fmt: skip
def test_passes_follow_the_memory_of_the_card(
    monkeypatch: pytest.MonkeyPatch, gib: int, side: int, expected: int
) -> None:
    monkeypatch.setattr(
        "torch.cuda.get_device_properties", lambda device: SimpleNamespace(total_memory=gib << 30), raising=True
    )
    assert TorchPlacement("cuda").choose_images_per_pass(side * side) == expected
    assert TorchPlacement("cuda", "float16").choose_images_per_pass(side * side) == 64  # a field of the fingerprint
    assert TorchPlacement("cpu").choose_images_per_pass(side * side) == 4


def read_settings() -> list[Any]:
    import torch

    backends: Any = torch.backends
    places = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul)
    return [*(place.fp32_precision for place in places), backends.cudnn.benchmark, backends.cudnn.deterministic]


def test_a_program_that_allows_tf32_has_it_back_after_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("torch before 2.9")
    encoder, found = make_encoder("float32"), []
    prepared, model = [encoder.prepare(PICTURES[0])], encoder._model

    def watch(batch: Any) -> Any:
        found.append(read_settings())
        return model(batch)

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(encoder, "_model", watch)
    try:
        theirs = read_settings()
        encoder.forward(prepared)
        assert read_settings() == theirs == ["tf32", "tf32", "bf16", True, False]
        monkeypatch.setattr(encoder, "_model", None)
        with pytest.raises(TypeError):
            encoder.forward(prepared)
        assert read_settings() == theirs
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert found == [["ieee", "ieee", "ieee", False, True]]
