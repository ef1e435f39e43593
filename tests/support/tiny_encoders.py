"""A tiny timm encoder with random weights, texts of a given length, cosines of vectors, and a hub out of reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from asif.encoders import timm_
from asif.vectors import Float32

WORDS = (
    "a",
    "the",
    "dog",
    "cat",
    "runs",
    "over",
    "green",
    "hill",
    "under",
    "blue",
    "suns",
    "while",
    "reading",
    "books",
)


def tiny_model(**config: Any) -> Any:
    import timm
    import torch

    torch.manual_seed(3)
    return timm.create_model("test_efficientnet", pretrained=False, pretrained_cfg_overlay=config)


def headless(model: Any, spec: str = "timm:tiny") -> timm_.TimmEncoder:
    model.reset_classifier(0)
    return timm_.TimmEncoder(spec, model, "cpu")


def texts_of(lengths: list[int]) -> list[str]:
    rng = np.random.default_rng(len(lengths))
    return [" ".join(rng.choice(WORDS, size=length)) for length in lengths]


def cosines(a: Float32, b: Float32) -> Any:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def unreachable(*_: Any, **__: Any) -> Any:
    raise OSError("We couldn't connect to the hub\nand more lines")


def save_text_model(folder: Path, pooling: str = "mean", **pooling_options: Any) -> Path:
    """Save an untrained BERT over single letters, with pooling, a dense layer and unit vectors."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(6)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=40,
    )
    BertModel(config).eval().save_pretrained(folder / "bert")
    transformer = modules.Transformer(str(folder / "bert"), max_seq_length=32)
    parts = [transformer, modules.Pooling(16, pooling, **pooling_options), modules.Dense(16, 12), modules.Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder / "model"))
    return folder / "model"
