"""Anchors in bfloat16 and float16: built by option, answered in their own precision or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.build_fakes import write_parquet
from support.engine_sets import Fake, fake_image, fake_text, make_precomputed, make_set
from support.running import Cli

import asif
from asif.aligners import make_aligner
from asif.encoders.backends.probe import VerdictCache
from asif.engine import Engine
from asif.engine.encoder_check import check_encoder
from asif.errors import EncoderMismatch, UsageError

RUN = {"backend": "torch", "backend_version": "2.9", "device": "cuda", "images_per_pass": 64}
Calls = list[tuple[Any, ...]]


def in_precision(precision: str, **fields: Any) -> dict[str, Any]:
    """Return the fields of a fake encoder's fingerprint."""
    return {"dtype": precision, **({"backend": "torch"} if precision == "float32" else RUN), **fields}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Let builds and engines load fake encoders in the precision they name; note device, backend and precision."""
    noted: Calls = []

    def load_by(make: Callable[..., Fake]) -> Callable[..., Fake]:
        def load(spec: str, device: str, backend: str, cache: Path | None, precision: str = "float32") -> Fake:
            noted.append((device, backend, precision))
            return replace(make(**in_precision(precision)), spec=spec)

        return load

    for room in ("engine.build", "engine.encoder_pool", "evaluate.encoder_pairs.embed"):
        monkeypatch.setattr(f"asif.{room}.load_image_encoder", load_by(fake_image))
        monkeypatch.setattr(f"asif.{room}.load_text_encoder", load_by(fake_text))
    monkeypatch.delenv("ASIF_BACKEND", raising=False)
    monkeypatch.setattr(Fake, "is_english_only", True, raising=False)
    monkeypatch.setattr("asif.building.batch.count_cut_texts", lambda *_: 0)
    return noted


def write_pairs(folder: Path, count: int = 12) -> Path:
    images, captions = [b"image %d" % row for row in range(count)], [[f"caption {row}"] for row in range(count)]
    return write_parquet(folder / "pairs.parquet", images, captions)


def test_later_commands_take_the_precision_from_the_set(cli: Cli, home: Path, tmp_path: Path, calls: Calls) -> None:
    pairs = write_pairs(tmp_path)
    for precision in ("bfloat16", "float32"):
        assert cli("build-anchors", pairs, "--name", precision, "--precision", precision).code == 0
        assert calls == [("auto", "auto", precision)] * 2
        calls.clear()
    with asif.open_anchors("bfloat16", home=home) as anchors:
        assert {anchors.fingerprint(side).fields["dtype"] for side in ("image", "text")} == {"bfloat16"}
    engine = Engine("bfloat16", home=home, aligner=make_aligner("asif"))
    rough, exact = (list(engine.encode_images([b"x"], anchors=name)) for name in ("bfloat16", "float32"))
    assert calls == [("cuda", "torch", "bfloat16"), ("auto", "auto", "float32")]  # as recorded, and as the engine says
    assert (rough[0] != exact[0]).any()
    assert (rough[0] == next(iter(engine.encode_images([b"x"], anchors="bfloat16")))).all()
    assert len(calls) == 2  # both stay loaded
    engine.swap("float32")
    engine.swap("float32")
    assert {made_as for _, _, made_as in engine.encoders._loaded} == {"float32"}


def test_another_precision_is_another_build(home: Path, tmp_path: Path, calls: Calls) -> None:
    pairs = write_pairs(tmp_path)
    built = [asif.build_anchors(pairs, "toy", precision=precision) for precision in ("float32", "bfloat16", "bfloat16")]
    assert [each.already_built for each in built] == [False, False, True]
    assert built[0].anchors.digest != built[1].anchors.digest == built[2].anchors.digest


def test_encoders_are_compared_in_a_precision(cli: Cli, home: Path, tmp_path: Path, calls: Calls) -> None:
    ran = cli("encoders", "compare", write_pairs(tmp_path), "--precision", "bfloat16", "--k", "2", "--json")
    assert ran.code == 0 and calls == [("auto", "auto", "bfloat16")] * 2
    asif.build_anchors(write_pairs(tmp_path), "toy")
    ran = cli("encoders", "compare", "toy", "--precision", "bfloat16")
    assert ran.code == 2 and "--precision with anchor sets" in ran.err


def test_precomputed_vectors_have_no_precision(home: Path, tmp_path: Path, calls: Calls) -> None:
    make_precomputed(tmp_path / "vectors", home).close()
    with pytest.raises(UsageError, match="the precision bfloat16 with precomputed vectors"):
        asif.build_anchors(tmp_path / "vectors", "other", precision="bfloat16")
    with pytest.raises(UsageError, match="the precision is 'half'"):
        asif.build_anchors(tmp_path / "vectors", "other", precision="half")  # type: ignore[arg-type]
    assert calls == []


def never(*_: Any) -> Any:
    raise AssertionError("a backend was opened for a probe")


@pytest.mark.parametrize(
    ("set_fields", "encoder_fields", "parts", "advice"),
    [
        (
            in_precision("bfloat16"),
            in_precision("float32"),
            ["dtype: 'bfloat16' in the set, 'float32' here", "only in float32 may another backend"],
            "build the anchors again with this encoder: asif build-anchors PAIRS --name toy --image-encoder timm:fake",
        ),
        (
            in_precision("float32"),
            in_precision("bfloat16"),
            ["dtype: 'float32' in the set, 'bfloat16' here", "only in float32 may another backend"],
            "build the anchors again with this encoder: asif build-anchors PAIRS --name toy --image-encoder timm:fake "
            "--precision bfloat16",
        ),
        (
            in_precision("bfloat16"),
            in_precision("bfloat16", device="cpu", images_per_pass=4),
            ["device: 'cuda' in the set, 'cpu' here", "images_per_pass: 64 in the set, 4 here"],
            "pass --device cuda, or build the anchors again",
        ),
        (
            in_precision("bfloat16", backend="openvino", export_sha256="ab"),
            in_precision("bfloat16"),
            ["backend: 'openvino' in the set, 'torch' here"],
            "pass --backend openvino, or build the anchors again",
        ),
        (
            in_precision("bfloat16"),
            in_precision("bfloat16", backend_version="2.10"),
            ["backend_version: '2.9' in the set, '2.10' here"],
            "build the anchors again",
        ),
        (
            in_precision("bfloat16"),
            in_precision("bfloat16", weights_sha256="other"),
            ["weights_sha256: None in the set, 'other' here)"],
            "build the anchors again",
        ),
    ],
)
def test_what_did_not_make_the_anchors_is_refused(
    home: Path, set_fields: dict[str, Any], encoder_fields: dict[str, Any], parts: list[str], advice: str
) -> None:
    anchors = make_set(home, "toy", image=fake_image(**set_fields))
    encoder: Any = fake_image(**encoder_fields)
    with pytest.raises(EncoderMismatch) as caught:
        check_encoder(anchors, "image", encoder, VerdictCache(home / "probes"), never)
    assert all(part in caught.value.came for part in parts)
    assert caught.value.fix.startswith(advice)
    assert "toy@1" in caught.value.expected
    anchors.close()


def test_a_precision_that_cannot_be_had_here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of a CUDA device, opened where there is none."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    make_set(home, "toy", image=fake_image(**in_precision("float16"))).close()
    with pytest.raises(EncoderMismatch) as caught:
        list(Engine("toy", home=home).encode_images([b"x"]))
    assert caught.value.came == (
        "image encoder timm:fake in float16 (the device is cuda, but torch sees no CUDA device)"
    )
    assert "toy@1" in caught.value.expected
    assert caught.value.fix.endswith("asif build-anchors PAIRS --name toy --image-encoder timm:fake")


def test_a_backend_that_lacks_the_precision_of_a_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    make_set(home, "toy", image=fake_image(**in_precision("bfloat16"))).close()
    with pytest.raises(EncoderMismatch, match="the precision is bfloat16, in which onnx") as caught:
        list(Engine("toy", home=home, backend="onnx").encode_images([b"x"]))
    assert caught.value.fix.startswith("pass --backend torch, or build the anchors again")


def test_an_unknown_precision_of_a_set_names_the_field(home: Path, calls: Calls) -> None:
    make_set(home, "toy", image=fake_image(**in_precision("int4"))).close()
    with pytest.raises(EncoderMismatch, match="dtype: 'int4' in the set, 'float32' here"):
        list(Engine("toy", home=home).encode_images([b"x"]))
    assert calls == [("auto", "auto", "float32")]
