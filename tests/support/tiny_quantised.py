"""A package with a small model of int8 weights, as `QUANTISED_WEIGHTS` names one, and what it gives by definition."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asif.encoders.backends import quantised
from asif.encoders.embedded import QUANTISED_WEIGHTS, EmbeddedWeights

NAME = "bge-small-en"
DIM = 24
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
_RNG = np.random.default_rng(12)
STATES = _RNG.normal(size=(len(SPECIAL) + len(LETTERS), DIM)).astype(np.float32)
"""What the model has of each token: one entry of each row is large, so that the scale depends on which tokens come."""
STATES[np.arange(len(STATES)), np.arange(len(STATES)) % DIM] = np.linspace(2, 9, len(STATES))
WEIGHTS = _RNG.integers(-64, 65, (DIM, DIM)).astype(np.int8)
WEIGHT_SCALE = np.float32(0.01)


def define_states(ids: Any) -> Any:
    """Return the token states [t, d] of one text by the definitions of DynamicQuantizeLinear and MatMulInteger."""
    states = STATES[np.asarray(ids)]
    low, high = min(states.min(), np.float32(0)), max(states.max(), np.float32(0))
    scale = np.float32(high - low) / np.float32(255)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    rounded = np.clip(np.rint(states / scale) + zero, 0, 255).astype(np.int64)
    products = (rounded - int(zero)) @ WEIGHTS.astype(np.int64)
    return products.astype(np.float32) * (scale * WEIGHT_SCALE)


def write_model(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    names = ("input_ids", "attention_mask", "token_type_ids")
    shape = ["batch", "tokens"]
    constants = {
        "embedding": STATES,
        "weights": WEIGHTS,
        "weight_zero": np.int8(0),
        "weight_scale": WEIGHT_SCALE,
    }
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["states"]),
        helper.make_node("DynamicQuantizeLinear", ["states"], ["rounded", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["rounded", "weights", "zero", "weight_zero"], ["products"]),
        helper.make_node("Cast", ["products"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scale", "weight_scale"], ["both"]),
        helper.make_node("Mul", ["real", "both"], ["last_hidden_state"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in names],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, DIM])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def make_tokenizer() -> str:
    """Return a tokenizer.json that reads each letter as a token."""
    cls, sep = SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")
    vocabulary = {token: at for at, token in enumerate([*SPECIAL, *LETTERS])}
    template = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]  # fmt: skip
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": [],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
            "post_processor": {
                "type": "TemplateProcessing", "single": template, "pair": template,
                "special_tokens": {name: {"id": name, "ids": [at], "tokens": [name]}
                                   for name, at in (("[CLS]", cls), ("[SEP]", sep))},
            },
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
        }
    )  # fmt: skip


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedWeights:
    """Write a package, whose code fails, to a folder on the path, and let the encoder's weights be its files."""
    known = QUANTISED_WEIGHTS[NAME]
    model = folder / "tiny_quantised" / known.file
    model.parent.mkdir(parents=True)
    (folder / "tiny_quantised" / "__init__.py").write_text("raise RuntimeError('the code of the package was run')")
    write_model(model)
    (model.parent / "tokenizer.json").write_text(make_tokenizer(), encoding="utf-8")
    found = EmbeddedWeights(
        "tiny_quantised", "tiny-quantised", known.file, _hash(model), DIM, known.extra, "tiny-quantised==1.0"
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setitem(QUANTISED_WEIGHTS, NAME, found)
    monkeypatch.setattr(quantised, "_TOKENIZER_SHA256", _hash(model.parent / "tokenizer.json"))
    return found


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
