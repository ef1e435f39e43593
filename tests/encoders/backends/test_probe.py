"""The probe: its inputs, what counts as the same model, and which differences of neighbours count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asif.encoders.backends import probe
from asif.encoders.backends.probe import (
    ProbeVerdict,
    VerdictCache,
    count_other_neighbours,
    is_same_model,
    make_probe_images,
    make_probe_texts,
)
from asif.vectors import Fingerprint

TORCH = Fingerprint({"model": "m", "dtype": "float32", "backend": "torch"})
ONNX = Fingerprint({**TORCH.fields, "backend": "onnx", "backend_version": "1.23", "export_sha256": "ab"})


def test_inputs_are_64_different_ones_and_always_the_same() -> None:
    texts, images = make_probe_texts(), make_probe_images()
    assert len(set(texts)) == len(images) == 64 == len({image.tobytes() for image in images})
    assert {len(text.split()) for text in texts} >= set(range(4, 11))
    assert all(40 <= side < 600 for image in images for side in image.size)
    assert [image.tobytes() for image in make_probe_images(8)] == [image.tobytes() for image in images[:8]]


def test_the_same_model_differs_in_what_runs_it_alone() -> None:
    assert is_same_model(TORCH, ONNX) and is_same_model(ONNX, Fingerprint({**ONNX.fields, "backend_version": "1.24"}))
    assert not is_same_model(TORCH, Fingerprint({**ONNX.fields, "model": "n"}))
    for field in ("dtype", "weights_sha256"):
        assert not is_same_model(TORCH, Fingerprint({**ONNX.fields, field: "bfloat16"}))
    both = Fingerprint({**TORCH.fields, "dtype": "bfloat16"}), Fingerprint({**ONNX.fields, "dtype": "bfloat16"})
    assert not is_same_model(*both)


@pytest.mark.parametrize(("largest", "others", "passed"), [(1e-5, 0, True), (1.1e-5, 0, False), (0.0, 1, False)])
def test_what_passes(largest: float, others: int, passed: bool) -> None:
    assert ProbeVerdict(largest, others).passed == passed


def test_verdicts_are_kept_by_both_fingerprints_inputs_and_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts, verdict = VerdictCache(tmp_path / "probes"), ProbeVerdict(3e-7, 0)
    assert verdicts.find(TORCH, ONNX, 64) is None
    verdicts.add(TORCH, ONNX, 64, verdict)
    assert verdicts.find(TORCH, ONNX, 64) == verdict == verdicts.find(ONNX, TORCH, 64)
    assert verdicts.find(TORCH, ONNX, 8) is None and verdicts.find(TORCH, TORCH, 64) is None
    (file,) = (tmp_path / "probes").iterdir()
    file.write_bytes(file.read_bytes().replace(b"3e-07", b"3e-09"))
    assert verdicts.find(TORCH, ONNX, 64) is None
    verdicts.add(TORCH, ONNX, 64, verdict)
    monkeypatch.setattr(probe, "describe_machine", lambda: "another")
    assert verdicts.find(TORCH, ONNX, 64) is None


def test_neighbours_may_change_places_and_tie_at_the_last_one() -> None:
    scores = np.array([[0.9, 0.5, 0.4]], np.float32)
    rows = np.array([[3, 1, 2]])
    assert count_other_neighbours((scores, rows), (scores, rows[:, [1, 0, 2]])) == 0
    assert count_other_neighbours((scores, rows), (scores, np.array([[3, 1, 7]]))) == 0
    assert count_other_neighbours((scores, rows), (scores, np.array([[3, 7, 2]]))) == 1
    assert count_other_neighbours((scores, rows), (np.array([[0.9, 0.4, 0.4]]), np.array([[3, 7, 2]]))) == 1
