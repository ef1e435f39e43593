"""A tiny timm encoder with random weights, texts of a given length, cosines of vectors, and a hub out of reach."""

from __future__ import annotations

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
