"""Tokens: what models say of patches and words, in one pass with the vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.build_images import random_png

from asif.encoders import ImageEncoder, TextEncoder, sentence_transformers_, timm_
from asif.encoders.precomputed import PrecomputedEncoder
from asif.errors import UsageError
from asif.vectors import Tokens

SMALL: dict[str, dict[str, Any]] = {
    "test_vit": {},
    "vit_wee_patch16_reg1_gap_256": {"img_size": 64, "depth": 2},  # no class token, one register
    "vit_base_patch16_siglip_gap_224": {"img_size": 48, "embed_dim": 48, "depth": 2, "num_heads": 3},
    "test_resnet": {},
    "mobilenetv3_small_050": {},  # its head has more dimensions than its map
    "test_mambaout": {},
    "swin_tiny_patch4_window7_224": {
        "img_size": 64,
        "window_size": 2,
        "embed_dim": 24,
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 2, 3, 4),
    },
}
PATCHES = [(100, 64), (16, 256), (9, 48), (25, 96), (49, 288), (25, 64), (4, 192)]


def small(name: str, **options: Any) -> timm_.TimmEncoder:
    import timm
    import torch

    torch.manual_seed(5)
    model = timm.create_model(name, pretrained=False, **options)
    model.reset_classifier(0)
    return timm_.TimmEncoder(f"timm:{name}", model, "cpu")


def noise(encoder: timm_.TimmEncoder, size: int | None, count: int = 6) -> list[Any]:
    import torch

    drawn = torch.Generator().manual_seed(count)
    shape = (3, size, size) if size else encoder._config["input_size"]
    return [torch.randn(shape, generator=drawn) for _ in range(count)]


@pytest.mark.parametrize(("name", "shape"), list(zip(SMALL, PATCHES, strict=True)))
def test_patches_of_timm_models(name: str, shape: tuple[int, int]) -> None:
    """The patches are the map that timm makes of the last block, in reading order; the vectors are `forward`'s."""
    import torch

    encoder = small(name, **SMALL[name])
    images = noise(encoder, SMALL[name].get("img_size"))
    found = encoder.tokens(images)
    assert found.values.shape == (6, *shape) and found.mask.all() and found.values.dtype == np.float32
    assert np.array_equal(found.pooled, encoder.forward(images))
    with torch.inference_mode():
        last = encoder._model.forward_intermediates(torch.stack(images), indices=1, norm=True)[1][0]
    assert np.allclose(found.values, last.flatten(2).transpose(1, 2).numpy(), atol=1e-5)
    order = [4, 1, 1, 5, 0]
    assert np.array_equal(encoder.tokens([images[row] for row in order]).values, found.values[order])
    assert np.array_equal(encoder.tokens(images[2:3]).values[0], found.values[2])
    assert len({row.tobytes() for row in found.values}) == 6


def test_the_vector_of_a_vit_is_its_class_token() -> None:
    import torch

    encoder = small("test_vit")
    images = noise(encoder, None)
    found = encoder.tokens(images)
    with torch.inference_mode():
        every = encoder._model.forward_features(torch.stack(images)).numpy()
    assert np.allclose(found.pooled, every[:, 0], atol=1e-5)
    assert np.allclose(found.values, every[:, 1:], atol=1e-5)


def test_the_vector_of_a_vit_without_class_token_is_the_mean_of_its_patches() -> None:
    import torch

    encoder = small("vit_wee_patch16_reg1_gap_256", **SMALL["vit_wee_patch16_reg1_gap_256"])
    found = encoder.tokens(noise(encoder, 64))
    with torch.inference_mode():  # the register among its tokens is not averaged
        mean = encoder._model.fc_norm(torch.from_numpy(found.values.mean(axis=1))).numpy()
    assert np.allclose(found.pooled, mean, atol=1e-5)


def test_a_class_token_that_timm_does_not_count() -> None:
    features = np.arange(24.0).reshape(2, 4, 3)

    class Volo:
        cls_token = 1

    assert timm_.select_patches(Volo(), features, "timm:volo").tolist() == features[:, 1:].tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"), [("coat_tiny", "several tensors"), ("pit_ti_224", "(4, 1, 256), which hold no one patch each")]
)
def test_models_without_patches(name: str, said: str) -> None:
    encoder = small(name)
    with pytest.raises(UsageError) as caught:
        encoder.tokens(noise(encoder, None, 1))
    assert said in caught.value.came and f"timm:{name}" in caught.value.came


@pytest.mark.slow
def test_patches_of_the_embedded_encoder(image_encoder: ImageEncoder) -> None:
    images = [image_encoder.prepare(random_png(seed, 40 + seed, 60)) for seed in range(7)]
    found = image_encoder.tokens(images)
    assert found.values.shape == (7, 49, 1280) and found.mask.all()
    assert np.array_equal(found.pooled, image_encoder.forward(images))
    assert np.allclose(found.values.mean(axis=1), found.pooled, atol=1e-5)  # it averages its map
    for row in range(7):
        alone = image_encoder.tokens(images[row : row + 1])
        assert np.array_equal(alone.values[0], found.values[row])
        assert np.array_equal(alone.pooled[0], found.pooled[row])


SENTENCES = ["a dog", "", "two dogs run over a green hill", "a cat", "ein Bär 🦊", "word " * 300, "a dog"]


def test_words_of_the_embedded_encoder(text_encoder: Any) -> None:
    found = text_encoder.tokens(SENTENCES)
    assert np.array_equal(found.pooled, text_encoder.forward(SENTENCES))
    counts = [
        len(ids) for ids in text_encoder._model.tokenizer(SENTENCES, truncation=True, max_length=256)["input_ids"]
    ]
    assert found.mask.sum(axis=1).tolist() == counts and found.values.shape == (7, 256, 384)
    assert not found.values[~found.mask].any()
    assert (np.sort(~found.mask, axis=1) == ~found.mask).all()  # an input's own tokens come first
    mean = found.values.sum(axis=1) / found.mask.sum(axis=1, keepdims=True)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    pooled = found.pooled / np.linalg.norm(found.pooled, axis=1, keepdims=True)
    assert np.abs(mean - pooled).max() < 1e-6


def test_words_do_not_depend_on_the_batch(text_encoder: TextEncoder) -> None:
    every = text_encoder.tokens(SENTENCES)
    for rows in ([0], [1], [4, 3], [2, 2, 0], [6, 5, 4, 3, 2, 1, 0]):
        some = text_encoder.tokens([SENTENCES[row] for row in rows])
        for at, row in enumerate(rows):
            assert np.array_equal(some.values[at][some.mask[at]], every.values[row][every.mask[row]])
    assert np.array_equal(every.values[0], every.values[6])


@pytest.mark.slow
def test_words_are_those_of_sentence_transformers(text_encoder: Any) -> None:
    found = text_encoder.tokens(SENTENCES)
    plain = text_encoder._model.encode(SENTENCES, output_value="token_embeddings", show_progress_bar=False)
    for row, tokens in enumerate(plain):
        assert np.allclose(found.values[row][found.mask[row]], tokens.cpu().numpy(), atol=1e-5)


def test_a_text_model_without_tokens(text_encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = text_encoder._model
    encoder = sentence_transformers_.SentenceTransformersEncoder("sentence-transformers:static", model, "cpu")
    given = [{"sentence_embedding": None}] * 500
    monkeypatch.setattr(model, "encode", lambda *_, **__: given)
    with pytest.raises(UsageError, match="static gives no token features, only sentence_embedding"):
        encoder.tokens(["a dog"])


def test_no_tokens_of_nothing(image_encoder: ImageEncoder, text_encoder: TextEncoder) -> None:
    for encoder in (image_encoder, text_encoder):
        found = encoder.tokens([])
        assert (len(found), found.pooled.shape, found.values.size) == (0, (0, encoder.dim), 0)


def test_precomputed_vectors_have_no_tokens() -> None:
    with pytest.raises(UsageError, match="a text to encode, with an anchor set of precomputed vectors"):
        PrecomputedEncoder("text", 4).tokens(["a dog"])


def test_tokens_of_other_shapes_are_a_bug() -> None:
    with pytest.raises(TypeError, match=r"\(2, 3, 4\), \(2, 2\), \(2, 1\)"):
        Tokens(np.zeros((2, 3, 4), np.float32), np.ones((2, 2), bool), np.zeros((2, 1), np.float32))
