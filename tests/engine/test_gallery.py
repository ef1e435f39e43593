"""Galleries on backends and in precisions: updates compute as the gallery was built, or prove that they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.engine_sets import Fake, fake_image, fake_text, make_precomputed, make_set
from support.galleries import some_files, stored_vectors, write_files

import asif
from asif.errors import EncoderMismatch, UsageError
from asif.vectors import Float32

RUN = {"backend": "torch", "backend_version": "2.9", "device": "cuda", "images_per_pass": 64}
ONNX = {"dtype": "float32", "backend": "onnx", "backend_version": "1.23", "export_sha256": "ab"}
TORCH = {"dtype": "float32", "backend": "torch"}
Calls = list[tuple[Any, ...]]


@dataclass
class Backed(Fake):
    """Give the vectors of torch with an entry that is off by `noise`, whatever runs the encoder."""

    noise: float = 0.0

    def forward(self, inputs: Any) -> Float32:
        vectors = replace(fake_image(**TORCH)).forward([np.asarray(each).tobytes() for each in inputs])
        vectors[:, 0] += np.linalg.norm(vectors, axis=1) * np.float32(self.noise)
        return vectors

    def prepare(self, source: Any) -> Any:
        return super().prepare(source) if isinstance(source, bytes | str | Path) else source


def make_backed(noise: float = 0.0, **fields: Any) -> Backed:
    made = fake_image(**fields)
    return Backed(made.dim, made.spec, made.fields, noise=noise)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ASIF_BACKEND", raising=False)
    write_files(tmp_path / "photos", some_files(12))
    return tmp_path / "photos"


def replace_loaders(monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any]) -> Calls:
    """Let builds and updates load what `make` returns for a backend and a precision; note those and the device."""
    noted: Calls = []

    def load(spec: str, device: str, backend: str, cache: Path, precision: str = "float32") -> Any:
        noted.append((device, backend, precision))
        return make(backend, precision)

    for room in ("gallery", "encoder_pool"):
        for side in ("image", "text"):
            monkeypatch.setattr(f"asif.engine.{room}.load_{side}_encoder", load)
    return noted


@pytest.mark.parametrize(("noise", "passes"), [(3e-6, True), (1e-3, False)])
def test_another_backend_encodes_for_a_gallery_after_a_probe(
    photos: Path, home: Path, monkeypatch: pytest.MonkeyPatch, noise: float, passes: bool
) -> None:
    def make(backend: str, precision: str) -> Any:
        return make_backed(noise, **ONNX) if backend == "onnx" else make_backed(**TORCH)

    calls = replace_loaders(monkeypatch, make)
    built = asif.build_gallery(photos, "g", home=home, backend="torch")
    write_files(photos, {"new.jpg": b"new"})
    if not passes:
        with pytest.raises(EncoderMismatch, match=r"onnx 1\.23 gives other vectors than torch") as caught:
            asif.update_gallery("g", home=home, backend="onnx")
        assert caught.value.fix == (
            "pass --backend torch, or build the gallery again with this encoder: "
            "asif gallery build SRC --name g --image-encoder timm:fake"
        )
        return
    changes = asif.update_gallery("g", home=home, backend="onnx")
    assert (changes.added, changes.encoded, changes.rows) == (1, 1, 13)
    assert [backend for _, backend, _ in calls] == ["torch", "onnx", "torch"]  # the last one to compare with
    assert changes.opened.fingerprint("image") == built.opened.fingerprint("image") == make_backed(**TORCH).fingerprint
    new = asif.build_gallery(photos, "h", home=home, backend="torch").opened
    assert changes.opened.digest == new.digest
    assert all(
        np.abs(vector - stored_vectors(new)[name]).max() < 1e-3
        for name, vector in stored_vectors(changes.opened).items()
    )
    write_files(photos, {"more.jpg": b"more"})
    asif.update_gallery("g", home=home, backend="onnx")
    assert len(calls) == 5  # the verdict is kept


def test_updates_take_the_precision_from_the_gallery(photos: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = replace_loaders(monkeypatch, lambda backend, precision: fake_image(dtype=precision, **RUN))
    for name, precision in (("rough", "bfloat16"), ("exact", None)):
        asif.build_gallery(photos, name, home=home, precision=precision)  # type: ignore[arg-type]
    assert calls == [("auto", "auto", "bfloat16"), ("auto", "auto", "float32")]
    calls.clear()
    write_files(photos, {"new.jpg": b"new"})
    for name in ("rough", "exact"):
        assert asif.update_gallery(name, home=home).encoded == 1
    assert calls == [("cuda", "torch", "bfloat16"), ("auto", "auto", "float32")]
    write_files(photos, {"newer.jpg": b"newer"})
    replace_loaders(monkeypatch, lambda backend, precision: fake_image(dtype=precision, **{**RUN, "device": "cpu"}))
    with pytest.raises(EncoderMismatch, match="device: 'cuda' in the set, 'cpu' here"):
        asif.update_gallery("rough", home=home)


def test_the_encoder_of_anchors_computes_as_it_did_for_them(
    photos: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by = fake_image(dtype="bfloat16", **RUN)
    make_set(home, "toy", image=made_by).close()
    calls = replace_loaders(monkeypatch, lambda backend, precision: made_by)
    built = asif.build_gallery(photos, "g", anchors="toy", home=home)
    assert calls == [("cuda", "torch", "bfloat16")] and built.opened.fingerprint("image") == made_by.fingerprint
    with pytest.raises(UsageError, match="the precision float32 and the anchor set toy"):
        asif.build_gallery(photos, "g", anchors="toy", precision="float32", home=home)


def test_texts_of_another_model_are_refused(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.building.gallery.encode.count_cut_texts", lambda *_: 0)
    texts = tmp_path / "texts.txt"
    texts.write_text("one\ntwo\n")
    replace_loaders(monkeypatch, lambda backend, precision: fake_text())
    asif.build_gallery(texts, "g", kind="text", home=home)
    texts.write_text("one\ntwo\nthree\n")
    replace_loaders(monkeypatch, lambda backend, precision: fake_text(model="other"))
    with pytest.raises(EncoderMismatch, match="model: 'fake' in the set, 'other' here") as caught:
        asif.update_gallery("g", home=home)
    assert caught.value.fix.endswith(
        "asif gallery build SRC --name g --kind text --text-encoder sentence-transformers:fake"
    )


def test_vectors_need_no_encoder_and_have_no_precision(
    tmp_path: Path, photos: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = replace_loaders(monkeypatch, lambda backend, precision: fake_image())
    make_precomputed(tmp_path / "vectors", home).close()
    built = asif.build_gallery(tmp_path / "vectors", "g", anchors="vectors", home=home)
    assert built.opened.count == 20 and calls == []
    with pytest.raises(UsageError, match="the precision bfloat16 with precomputed vectors"):
        asif.build_gallery(tmp_path / "vectors", "g", precision="bfloat16", home=home)
    with pytest.raises(UsageError, match="photos has no vectors"):
        asif.build_gallery(photos, "g", anchors="vectors", home=home)
    make_set(home, "toy").close()
    with pytest.raises(EncoderMismatch, match="library: None in the set, 'precomputed' here"):
        asif.build_gallery(tmp_path / "vectors", "g", anchors="toy", home=home)
