"""A device whose memory runs out while encoders run: half a batch, and on it goes (P28)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.build_fakes import build_set, list_source
from support.build_images import random_png
from support.late import Late
from support.tiny_encoders import headless, texts_of, tiny_model

from asif.encoders import TextEncoder
from asif.encoders.open_clip_ import OpenClipTower
from asif.encoders.sentence_transformers_ import SentenceTransformersEncoder
from asif.errors import OutOfSpace

if TYPE_CHECKING:
    import torch
else:
    torch = Late("torch")

PICTURES = [random_png(seed, 24 + seed, 30) for seed in range(9)]


def short_of_memory(run: Callable[..., Any], room: int, seen: list[int], good: int = 0) -> Callable[..., Any]:
    """Let every pass of more than `room` inputs fail as a device does, after the first few."""

    def call(batch: Any, **how: Any) -> Any:
        seen.append(len(batch))
        if len(batch) > room and len(seen) > good:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(batch, **how)

    return call


@pytest.mark.parametrize(("room", "sizes"), [(4, [4, 4, 4]), (3, [4, 2, 2, 2, 2, 2]), (1, [4, 2, *[1] * 9])])
def test_images_go_on_with_half_a_batch(monkeypatch: pytest.MonkeyPatch, room: int, sizes: list[int]) -> None:
    encoder, seen = headless(tiny_model()), []
    prepared = [encoder.prepare(picture) for picture in PICTURES]
    expected = encoder.forward(prepared)
    monkeypatch.setattr(encoder, "_model", short_of_memory(encoder._model, room, seen))
    np.testing.assert_allclose(encoder.forward(prepared), expected, rtol=0, atol=1e-5)
    assert seen == sizes and encoder.batch == sizes[-1]
    encoder.forward(prepared[:1])
    assert seen[len(sizes) :] == [sizes[-1]]  # it stays at what fits


def test_patches_go_on_with_half_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, seen = headless(tiny_model()), []
    prepared = [encoder.prepare(picture) for picture in PICTURES]
    expected, model = encoder.tokens(prepared), encoder._model
    parts = {"forward_features": short_of_memory(model.forward_features, 2, seen), "forward_head": model.forward_head}
    monkeypatch.setattr(encoder, "_model", SimpleNamespace(**parts))
    found = encoder.tokens(prepared)
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.pooled, expected.pooled, rtol=0, atol=1e-4)
    assert seen == [4, 2, 2, 2, 2, 2]


def test_texts_go_on_with_half_a_batch(monkeypatch: pytest.MonkeyPatch, text_encoder: Any) -> None:
    encoder, texts = SentenceTransformersEncoder(text_encoder.spec, text_encoder._model, "cpu"), texts_of([3] * 60)
    expected, seen = encoder.forward(texts), []
    ((length, passes),) = encoder._passes.items()
    full = passes.size
    with monkeypatch.context() as patch:
        patch.setattr(encoder._model, "encode", short_of_memory(encoder._model.encode, full // 2, seen))
        np.testing.assert_allclose(encoder.forward(texts), expected, rtol=0, atol=1e-5)
    assert seen[:2] == [full, full // 2] and set(seen[1:]) == {full // 2}
    assert encoder._passes[length].size == full // 2


def test_towers_go_on_with_half_a_batch() -> None:
    model, seen = torch.nn.Linear(5, 3), []
    tower = OpenClipTower("stand-in", model, 3, "cpu")
    inputs = list(torch.randn(7, 5, generator=torch.Generator().manual_seed(1)))
    expected = tower.run_model(model, inputs)
    np.testing.assert_allclose(tower.run_model(short_of_memory(model, 1, seen), inputs), expected, rtol=0, atol=1e-6)
    assert seen == [4, 2, *[1] * 7] and tower.batch == 1


def test_a_device_without_room_for_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = headless(tiny_model())
    prepared = [encoder.prepare(PICTURES[0])]
    monkeypatch.setattr(encoder, "_model", short_of_memory(encoder._model, 0, []))
    with pytest.raises(OutOfSpace, match="with 1 inputs in a pass") as caught:
        encoder.forward(prepared)
    assert caught.value.exit_code == 6 and "--device cpu" in caught.value.fix


def test_a_set_that_was_built_with_half_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_encoder: TextEncoder
) -> None:
    """Memory runs out at the second pass: the same digest, and embeddings that differ by rounding."""
    source = list_source(*[(f"{row}", picture, ("a dog",)) for row, picture in enumerate(PICTURES)])
    plain, short, seen = headless(tiny_model()), headless(tiny_model()), []
    monkeypatch.setattr(short, "_model", short_of_memory(short._model, 2, seen, good=1))
    sets = [
        build_set(source, tmp_path / name, each, text_encoder).anchors for name, each in (("a", plain), ("b", short))
    ]
    assert seen == [4, 4, 2, 2, 2]  # four at a time come from the build
    assert sets[0].digest == sets[1].digest
    one, two = (np.concatenate(each.blocks("image")).astype(np.float32) for each in sets)
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-3)
