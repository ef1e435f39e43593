"""Another backend of the same encoder answers after a probe; every other encoder is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.build_fakes import FakeImages, FakeTexts, build_set, list_source, some_rows

from asif.anchorset import AnchorSet
from asif.encoders import Backend
from asif.encoders.backends.probe import INPUTS, VerdictCache
from asif.encoders.joined import JoinedTextEncoder
from asif.engine import Engine
from asif.engine.encoder_check import check_encoder
from asif.errors import EncoderMismatch, MissingDependency
from asif.vectors import Fingerprint, Float32


@dataclass
class Texts(FakeTexts):
    """Encode texts on a backend; the first entry of unit vectors is off by `noise`."""

    backend: str = "torch"
    noise: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> Fingerprint:
        fields = {"library": "fake", "model": self.model, "dtype": "float32", "backend": self.backend}
        return Fingerprint({**fields, **self.more})

    def forward(self, texts: Sequence[str]) -> Float32:
        vectors = super().forward(texts)
        vectors[:, 0] += np.linalg.norm(vectors, axis=1) * np.float32(self.noise)
        return vectors


ONNX = {"backend_version": "1.23", "export_sha256": "ab"}


@pytest.fixture
def anchors(tmp_path: Path) -> AnchorSet:
    """Return 40 anchors whose text encoder ran on torch."""
    return build_set(list_source(*some_rows(40)), tmp_path / "home", text=Texts()).anchors


def open_once(encoder: Any) -> Callable[[Backend], Any]:
    """Return a function that opens the encoder of one backend, and remembers which ones it opened."""

    def open_on(backend: Backend) -> Any:
        open_on.opened.append(backend)  # type: ignore[attr-defined]
        return encoder

    open_on.opened = []  # type: ignore[attr-defined]
    return open_on


def test_another_backend_answers_after_one_probe(anchors: AnchorSet, tmp_path: Path) -> None:
    verdicts, mine, open_on = VerdictCache(tmp_path), Texts(backend="onnx", noise=3e-6, more=ONNX), open_once(Texts())
    check_encoder(anchors, "text", mine, verdicts, open_on)
    assert open_on.opened == ["torch"] and len(mine.seen) == INPUTS  # type: ignore[attr-defined]
    verdict = verdicts.find(anchors.fingerprint("text"), mine.fingerprint, INPUTS)
    assert verdict is not None and 1e-6 < verdict.largest_difference < 3e-6 and verdict.other_neighbours == 0
    check_encoder(anchors, "text", mine, verdicts, open_on)
    assert len(open_on.opened) == 1 and len(mine.seen) == INPUTS  # type: ignore[attr-defined]


def test_the_encoder_of_the_anchors_needs_no_probe(anchors: AnchorSet, tmp_path: Path) -> None:
    mine = Texts()
    check_encoder(anchors, "text", mine, VerdictCache(tmp_path), open_once(None))
    assert mine.seen == []


def test_a_backend_that_differs_too_much_is_refused(anchors: AnchorSet, tmp_path: Path) -> None:
    mine = Texts(backend="onnx", noise=1e-3, more=ONNX)
    for _ in range(2):  # the verdict is kept
        with pytest.raises(EncoderMismatch, match=r"onnx 1\.23 gives other vectors than torch") as caught:
            check_encoder(anchors, "text", mine, VerdictCache(tmp_path), open_once(Texts()))
        assert "the largest difference is" in caught.value.came and "of 64 inputs" in caught.value.came
        assert caught.value.fix.startswith("pass --backend torch, or build the anchors again")
    assert len(mine.seen) == INPUTS


def test_other_nearest_anchors_are_refused(anchors: AnchorSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors within the limit have the same neighbours but for ties, unless the anchors lie very close."""
    monkeypatch.setattr("asif.encoders.backends.probe.LARGEST_DIFFERENCE", 0.05)
    mine = Texts(backend="onnx", noise=0.04, more=ONNX)
    monkeypatch.setattr("asif.engine.encoder_check.count_other_neighbours", lambda *_: 3)
    with pytest.raises(EncoderMismatch, match="the ten nearest vectors differ for 3 of 64 inputs"):
        check_encoder(anchors, "text", mine, VerdictCache(tmp_path), open_once(Texts()))


@pytest.mark.parametrize(
    ("mine", "named"),
    [
        (Texts(model="other"), "model: 'fake' in the set, 'other' here"),
        (Texts(backend="onnx", more={**ONNX, "dtype": "bfloat16"}), "dtype: 'float32' in the set, 'bfloat16' here"),
    ],
)
def test_another_model_or_precision_is_refused_without_a_probe(
    anchors: AnchorSet, tmp_path: Path, mine: Texts, named: str
) -> None:
    with pytest.raises(EncoderMismatch) as caught:
        check_encoder(anchors, "text", mine, VerdictCache(tmp_path), open_once(None))
    assert named in caught.value.came and mine.seen == []
    assert caught.value.exit_code == 4


def test_anchors_of_a_backend_that_is_not_here(tmp_path: Path) -> None:
    made_by = Texts(backend="openvino", more={**ONNX, "backend_version": "2026.4"})
    anchors = build_set(list_source(*some_rows(20)), tmp_path / "home", text=made_by).anchors

    def open_on(backend: Backend) -> Any:
        raise MissingDependency(f"{backend} is not installed", "it", "pip install 'asif-engine[openvino]'")

    with pytest.raises(EncoderMismatch, match="openvino is not here to compare it with") as caught:
        check_encoder(anchors, "text", Texts(), VerdictCache(tmp_path), open_on)
    assert caught.value.fix.startswith("pip install 'asif-engine[openvino]', or build the anchors again")


def test_another_version_of_the_same_backend_is_compared_with_torch(tmp_path: Path) -> None:
    made_by = Texts(backend="onnx", more=ONNX)
    anchors = build_set(list_source(*some_rows(20)), tmp_path / "home", text=made_by).anchors
    newer = Texts(backend="onnx", noise=2e-6, more={**ONNX, "backend_version": "1.24"})
    open_on = open_once(Texts())
    check_encoder(anchors, "text", newer, VerdictCache(tmp_path), open_on)
    assert open_on.opened == ["torch"]  # type: ignore[attr-defined]


def test_a_model_that_torch_no_longer_gives(anchors: AnchorSet, tmp_path: Path) -> None:
    """The weights on the hub have changed since the export was made."""
    with pytest.raises(EncoderMismatch, match="torch cannot run the same model here"):
        check_encoder(
            anchors, "text", Texts(backend="onnx", more=ONNX), VerdictCache(tmp_path), open_once(Texts(model="new"))
        )


def test_a_joined_encoder_is_probed_as_a_whole(tmp_path: Path) -> None:
    """The parts may run on several backends; the set names them all."""
    made_by = JoinedTextEncoder([Texts(), Texts(model="b", backend="onnx", more=ONNX)])
    anchors = build_set(list_source(*some_rows(40)), tmp_path / "home", text=made_by).anchors
    assert anchors.fingerprint("text").fields["backend"] == "torch+onnx"
    open_on, mine = open_once(made_by), JoinedTextEncoder([Texts(), Texts(model="b", noise=2e-6)])
    check_encoder(anchors, "text", mine, VerdictCache(tmp_path), open_on)
    assert open_on.opened == ["torch+onnx"]  # type: ignore[attr-defined]
    noisy = JoinedTextEncoder([Texts(noise=1e-3, more={"backend_version": "new"}), Texts(model="b")])
    with pytest.raises(EncoderMismatch, match=r"torch new gives other vectors than torch\+onnx 1\.23") as caught:
        check_encoder(anchors, "text", noisy, VerdictCache(tmp_path), open_once(made_by))
    spec = "sentence-transformers:fake+sentence-transformers:b"
    assert (
        caught.value.fix
        == f"build the anchors again with this encoder: asif build-anchors PAIRS --name toy --text-encoder {spec}"
    )
    other = JoinedTextEncoder([Texts(), Texts(model="c")])
    with pytest.raises(EncoderMismatch, match="part 2 model: 'b' in the set, 'c' here"):
        check_encoder(anchors, "text", other, VerdictCache(tmp_path), open_once(None))


@pytest.mark.parametrize(
    ("named", "set_backend", "installed", "expected"),
    [
        ("auto", "torch", ["openvino", "onnx"], "auto"),
        ("auto", "onnx", ["openvino", "onnx"], "onnx"),
        ("auto", "onnx", ["openvino"], "auto"),
        ("torch", "onnx", ["openvino", "onnx"], "torch"),
        ("openvino", "onnx", ["openvino", "onnx"], "openvino"),
        ("auto", "onnx+torch", ["openvino", "onnx"], "onnx+torch"),  # the parts of a joined encoder
        ("auto", "onnx+torch", ["openvino"], "auto"),
        ("auto", "torch+torch", ["openvino"], "auto"),
    ],
)
def test_auto_prefers_the_backend_of_the_anchors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: Backend,
    set_backend: str,
    installed: list[str],
    expected: str,
) -> None:
    home, made_by = tmp_path / "home", Texts(backend=set_backend, more={} if set_backend == "torch" else ONNX)
    build_set(list_source(*some_rows(20)), home, FakeImages(), made_by)
    monkeypatch.delenv("ASIF_BACKEND")
    for place in ("asif.encoders.backends.choose", "asif.engine.encoder_pool"):
        monkeypatch.setattr(f"{place}.list_runtimes", lambda: installed)
    monkeypatch.setattr("asif.encoders.backends.choose.is_cuda_present", lambda: False)
    opened: list[Any] = []

    def load(spec: str, device: str, backend: str, cache: Path) -> Texts:
        opened.append((backend, cache))
        return made_by

    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", load)
    engine = Engine("toy", home=home, backend=named)
    engine.text_encoder(engine.anchors)
    assert opened == [(expected, home / "cache")]
