"""Encoders in onnxruntime and OpenVINO: the vectors of torch, independent of their neighbours; what falls back."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.build_images import random_png
from support.tiny_encoders import save_text_model, texts_of

from asif.encoders import encode_images, encode_texts, load_image_encoder, load_text_encoder
from asif.encoders.backends.exported import ExportedImageEncoder, ExportedTextEncoder
from asif.encoders.backends.runtime import check_backend, find_version
from asif.errors import MissingDependency, UsageError

TEXTS = [*texts_of([1, 2, 2, 3, 5, 5, 5, 9, 60]), "", " two  spaces ", "Größe 熊 🦊", "a" * 300]


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [random_png(seed, 20 + 17 * seed, 150 - 9 * seed) for seed in range(13)]


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for caches; each model is exported once."""
    return tmp_path_factory.mktemp("cache")


def test_image_vectors_are_those_of_torch(runtime: Any, image_spec: str, kept: Path, pictures: list[bytes]) -> None:
    plain, found = (
        load_image_encoder(image_spec, backend="torch"),
        load_image_encoder(image_spec, "auto", runtime, kept),
    )
    assert isinstance(found, ExportedImageEncoder) and (found.spec, found.dim) == (plain.spec, plain.dim)
    assert np.abs(encode_images(plain, pictures).values - encode_images(found, pictures).values).max() < 2e-6
    differences = plain.fingerprint.differences(found.fingerprint)
    assert differences == {
        "backend": ("torch", runtime),
        "backend_version": (None, find_version(runtime)),
        "export_sha256": (None, found.export.sha256),
    }


def test_text_vectors_and_tokens_are_those_of_torch(runtime: Any, text_spec: str, kept: Path) -> None:
    plain, found = load_text_encoder(text_spec, backend="torch"), load_text_encoder(text_spec, "auto", runtime, kept)
    assert isinstance(found, ExportedTextEncoder) and (found.spec, found.dim) == (plain.spec, plain.dim)
    assert found.tokenize(TEXTS) == plain.tokenize(TEXTS) and found.is_english_only == plain.is_english_only
    assert np.abs(encode_texts(plain, TEXTS).values - encode_texts(found, TEXTS).values).max() < 2e-6
    assert set(plain.fingerprint.differences(found.fingerprint)) == {"backend", "backend_version", "export_sha256"}


@pytest.mark.parametrize("rows", [[0], [12], [5, 6], [9, 3, 3, 9], list(range(12, -1, -1)), []])
def test_an_image_vector_does_not_depend_on_its_batch(
    runtime: Any, image_spec: str, kept: Path, pictures: list[bytes], rows: list[int]
) -> None:
    encoder = load_image_encoder(image_spec, "auto", runtime, kept)
    prepared = [encoder.prepare(picture) for picture in pictures]
    every = encoder.forward(prepared)
    assert np.array_equal(encoder.forward([prepared[row] for row in rows]), every[rows])


def test_a_text_vector_does_not_depend_on_its_batch(runtime: Any, text_spec: str, kept: Path) -> None:
    encoder = load_text_encoder(text_spec, "auto", runtime, kept)
    texts = texts_of([1, 2, 3, 5] * 12)
    every = encoder.forward(texts)
    assert encoder.forward([]).shape == (0, 12)
    for rows in ([0], [0, 1], [1, 0], [4, 3, 7], list(range(5, 12)), list(range(47, -1, -1))):
        assert np.array_equal(encoder.forward([texts[row] for row in rows]), every[rows])


def test_threads_share_an_encoder(runtime: Any, text_spec: str, kept: Path) -> None:
    encoder = load_text_encoder(text_spec, "auto", runtime, kept)
    expected = encoder.forward(TEXTS)
    wrong: list[int] = []

    def call() -> None:
        wrong.extend(row for row in range(20) if not np.array_equal(encoder.forward(TEXTS), expected))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_tokens_need_torch(runtime: Any, text_spec: str, kept: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)token features of sentence-transformers:.*--backend torch") as caught:
        load_text_encoder(text_spec, "auto", runtime, kept).tokens(["a"])
    assert caught.value.exit_code == 2


# ---- exporting


def test_an_export_is_made_once_and_again_when_damaged(
    runtime: Any, image_spec: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asif")
    first = load_image_encoder(image_spec, "auto", runtime, tmp_path)
    assert caplog.text.count("exporting") == 1
    assert load_image_encoder(image_spec, "auto", runtime, tmp_path).fingerprint == first.fingerprint
    assert caplog.text.count("exporting") == 1
    assert isinstance(first, ExportedImageEncoder)
    content = first.export.model.read_bytes()
    first.export.model.write_bytes(content[: len(content) // 2])
    again = load_image_encoder(image_spec, "auto", runtime, tmp_path)
    assert caplog.text.count("exporting") == 2 and "is damaged (model.onnx)" in caplog.text
    assert again.fingerprint == first.fingerprint  # an export of the same model is the same to the byte


def test_what_cannot_be_exported_runs_on_torch_and_is_said(
    runtime: Any, image_spec: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    tried = []

    def fail(*_: Any, **__: Any) -> None:
        tried.append(1)
        raise RuntimeError("Unsupported: aten::new_op\nat line 3")

    monkeypatch.setattr(torch.onnx, "export", fail)
    for _ in range(2):
        encoder = load_image_encoder(image_spec, "auto", runtime, tmp_path)
        assert encoder.fingerprint == load_image_encoder(image_spec, backend="torch").fingerprint
    assert caplog.text.count(f"not {runtime}: torch cannot export it: Unsupported: aten::new_op") == 2
    assert "line 3" not in caplog.text and len(tried) == 1  # the failure is kept
    monkeypatch.undo()
    monkeypatch.setattr("asif.encoders.backends.choose._EXPORTERS", ("torch",))  # as if a version had changed
    assert isinstance(load_image_encoder(image_spec, "auto", runtime, tmp_path), ExportedImageEncoder)


def test_an_operator_that_the_runtime_lacks(
    runtime: Any, image_spec: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("No operator ai.onnx.Magic(17)")

    monkeypatch.setattr("asif.encoders.backends.exported.open_session", refuse)
    encoder = load_image_encoder(image_spec, "auto", runtime, tmp_path)
    assert encoder.fingerprint.fields["backend"] == "torch"
    assert f"{runtime} cannot run its export: No operator ai.onnx.Magic(17)" in caplog.text


def test_an_export_with_other_vectors_is_not_used(
    runtime: Any, text_spec: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asif.encoders.backends import exported

    right = exported.run_in_passes
    monkeypatch.setattr(exported, "run_in_passes", lambda *args: right(*args) + np.float32(1e-3))
    encoder = load_text_encoder(text_spec, "auto", runtime, tmp_path)
    assert encoder.fingerprint.fields["backend"] == "torch"
    assert re.search(r"its vectors differ from those of torch by \d\.\de-0[34]", caplog.text)


@pytest.mark.parametrize(("pooling", "reason"), [("cls", None), ("max", None), ("mean", "leaves its prompt out")])
def test_pooling(
    runtime: Any, tmp_path: Path, pooling: str, reason: str | None, caplog: pytest.LogCaptureFixture
) -> None:

    spec = f"sentence-transformers:{save_text_model(tmp_path, pooling, include_prompt=reason is None)}"
    found = load_text_encoder(spec, "auto", runtime, tmp_path / "cache")
    assert (found.fingerprint.fields["backend"] == runtime) == (reason is None)
    assert reason is None or reason in caplog.text
    plain = load_text_encoder(spec, backend="torch")
    assert np.abs(encode_texts(plain, TEXTS).values - encode_texts(found, TEXTS).values).max() < 2e-6


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_cache_that_cannot_be_written(
    runtime: Any, image_spec: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "exports").write_text("a file where the folder should be")
    encoder = load_image_encoder(image_spec, "auto", runtime, tmp_path)
    assert encoder.fingerprint.fields["backend"] == "torch"
    assert "exported models cannot be kept in" in caplog.text and "torch runs" in caplog.text


KILLED = """
import os, sys
from pathlib import Path
from asif.encoders import load_image_encoder
from asif.encoders.backends import export_cache
def die(*_): os.kill(os.getpid(), 9)
export_cache._flush = die
load_image_encoder(sys.argv[1], "auto", sys.argv[2], Path(sys.argv[3]))
"""
TWICE = """
import sys
from pathlib import Path
from asif.encoders import load_image_encoder
encoder = load_image_encoder(sys.argv[1], "auto", sys.argv[2], Path(sys.argv[3]))
print(encoder.fingerprint.digest)
"""


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_that_is_used(runtime: Any, image_spec: str, tmp_path: Path) -> None:
    arguments = [image_spec, runtime, str(tmp_path)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True)
    assert killed.returncode == -9
    assert [path.name.startswith(".tmp-") for path in (tmp_path / "exports").iterdir()] == [True]
    assert isinstance(load_image_encoder(image_spec, "auto", runtime, tmp_path), ExportedImageEncoder)


@pytest.mark.slow
def test_two_processes_export_at_once(runtime: Any, image_spec: str, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", TWICE, image_spec, runtime, str(tmp_path)]
    processes = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = [process.communicate()[0].strip().splitlines()[-1] for process in processes]
    assert digests[0] == digests[1] == load_image_encoder(image_spec, "auto", runtime, tmp_path).fingerprint.digest
    assert len(list((tmp_path / "exports").iterdir())) == 1


# ---- names


def test_backends_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="the backend is 'tensorrt'"):
        check_backend("tensorrt")
    monkeypatch.setattr("asif.encoders.backends.runtime.find_version", lambda name: None)
    with pytest.raises(MissingDependency, match=r"onnxruntime is not installed") as caught:
        check_backend("onnx")
    assert "pip install 'asif-engine[onnx]'" in caught.value.fix
    check_backend("auto")


def test_auto_is_the_variable_else_the_first_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from asif.encoders.backends import choose

    monkeypatch.delenv("ASIF_BACKEND")
    monkeypatch.setattr(choose, "is_cuda_present", lambda: False)
    monkeypatch.setattr(choose, "list_runtimes", lambda: ["openvino", "onnx"])
    assert choose.choose_runtime("auto", "auto") == "openvino" == choose.choose_runtime("auto", "cpu")
    assert choose.choose_runtime("torch", "cpu") is None is choose.choose_runtime("auto", "cuda")
    monkeypatch.setattr(choose, "is_cuda_present", lambda: True)
    assert choose.choose_runtime("auto", "auto") is None
    monkeypatch.setattr(choose, "list_runtimes", list)
    assert choose.choose_runtime("auto", "cpu") is None
    monkeypatch.setenv("ASIF_BACKEND", "gpu")
    with pytest.raises(UsageError, match="'gpu'"):
        choose.choose_runtime("auto", "cpu")
