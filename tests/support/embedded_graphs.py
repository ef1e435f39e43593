"""Write the graphs of the embedded encoders from their models on torch: `make graphs`."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from asif.encoders import load_head, load_image_encoder, load_text_encoder
from asif.encoders.backends.embedded_graphs import GRAPHS, WEIGHTS_FILE
from asif.encoders.backends.export_cache import MODEL_FILE, TOKENIZER_FILE
from asif.encoders.backends.probe import QUICK_INPUTS, encode_probe
from asif.encoders.embedded import EMBEDDED_WEIGHTS
from asif.vectors import Side

SMALLEST = 64  # bytes of a weight that is looked for in the file


def write_graphs(folder: Path = GRAPHS) -> None:
    folder.mkdir(exist_ok=True)
    for name in EMBEDDED_WEIGHTS:
        write_graph(name, "image" if name.startswith("efficientnet") else "text", folder)


def write_graph(name: str, side: Side, folder: Path) -> None:
    spec, path = f"embedded:{name}", EMBEDDED_WEIGHTS[name].find()
    weights = path.read_bytes()
    encoder: Any = (load_image_encoder if side == "image" else load_text_encoder)(spec, "cpu", "torch")
    with tempfile.TemporaryDirectory() as work:
        settings = encoder.write_export(Path(work), keep_weights=True)
        refer_to_weights(Path(work) / MODEL_FILE, weights, folder / f"{name}.onnx")
    described = {
        "side": side,
        "dim": encoder.dim,
        "fingerprint": dict(encoder.fingerprint.fields),
        "settings": settings,
    }
    if side == "image":
        described["head"] = find_head(load_head(spec, "cpu", "torch")[1].prototypes, weights)
    else:
        tokenizer = (path.parent / TOKENIZER_FILE).read_bytes()
        described["tokenizer_sha256"] = hashlib.sha256(tokenizer).hexdigest()
    text = json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    np.save(folder / f"{name}.npy", encode_probe(encoder, side, QUICK_INPUTS))


def find_head(prototypes: Any, weights: bytes) -> dict[str, Any]:
    at, axes = find_bytes(prototypes, weights)
    assert axes == (1, 0)
    return {"offset": at, "classes": len(prototypes)}


def refer_to_weights(model: Path, weights: bytes, out: Path) -> None:
    """Replace each weight of a model by its place in the weights file, transposed if it is stored so."""
    import onnx

    graph = onnx.load(model)
    transposes = []
    for tensor in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.nbytes < SMALLEST:
            continue
        at, axes = find_bytes(values, weights)
        if axes != tuple(range(values.ndim)):
            back = [int(axis) for axis in np.argsort(axes)]
            transposes.append(onnx.helper.make_node("Transpose", [f"{tensor.name}.stored"], [tensor.name], perm=back))
            tensor.name += ".stored"
            del tensor.dims[:]
            tensor.dims.extend(values.transpose(axes).shape)
        refer(tensor, at, values.nbytes)
    nodes = [*transposes, *graph.graph.node]
    for node in nodes:
        node.doc_string = ""
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    out.write_bytes(graph.SerializeToString())


def find_bytes(values: Any, weights: bytes) -> tuple[int, tuple[int, ...]]:
    """Return where an array is in the weights file, and the order of axes in which it is stored there."""
    for axes in itertools.permutations(range(values.ndim)):
        at = weights.find(np.ascontiguousarray(values.transpose(axes)).tobytes())
        if at >= 0:
            return at, axes
    raise ValueError(f"an array {values.shape} is not in the weights file")


def refer(tensor: Any, at: int, size: int) -> None:
    import onnx

    for field in ("raw_data", "float_data", "int64_data", "int32_data"):
        tensor.ClearField(field)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", WEIGHTS_FILE), ("offset", at), ("length", size)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


if __name__ == "__main__":
    write_graphs(*map(Path, sys.argv[1:]))
