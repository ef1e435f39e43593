"""Encoders of timm: fingerprints, vectors that depend on nothing but the image, weights from folders and the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.build_images import random_png
from support.tiny_encoders import cosines, headless, tiny_model, unreachable

from asif.encoders import ImageEncoder, encode_images, load_head, load_image_encoder, timm_
from asif.encoders.embedded import EMBEDDED_WEIGHTS
from asif.encoders.images import decode_image
from asif.errors import AsifError, BadImage
from asif.vectors import Float32


def test_whatever_changes_vectors_changes_an_image_fingerprint() -> None:
    first = headless(tiny_model()).fingerprint
    assert headless(tiny_model()).fingerprint.digest == first.digest
    changed: dict[str, timm_.TimmEncoder] = {
        "model": headless(tiny_model(), "timm:other"),
        "preprocessing": headless(tiny_model(crop_pct=0.5)),
        "weights_sha256": headless(tiny_model()),
    }
    weights = next(changed["weights_sha256"]._model.parameters())
    weights.data[0, 0, 0, 0] += 1e-4
    changed["weights_sha256"] = timm_.TimmEncoder("timm:tiny", changed["weights_sha256"]._model, "cpu")
    for field, encoder in changed.items():
        assert list(first.differences(encoder.fingerprint)) == [field]
        assert encoder.fingerprint.digest != first.digest


def test_the_decoder_is_part_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    first = headless(tiny_model()).fingerprint
    monkeypatch.setattr(timm_, "DECODER_VERSION", "pillow-rgb-2")
    assert first.differences(headless(tiny_model()).fingerprint) == {"decoder": ("pillow-rgb-1", "pillow-rgb-2")}


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [random_png(seed, 20 + 7 * seed, 30 + 5 * seed) for seed in range(33)]


@pytest.fixture(scope="module")
def picture_vectors(image_encoder: ImageEncoder, pictures: list[bytes]) -> Float32:
    return encode_images(image_encoder, pictures).values


@pytest.mark.parametrize("rows", [[0], [32], [5, 6], [1, 2, 3], [9, 3, 3, 9], list(range(17)), list(range(32, -1, -1))])
def test_an_image_vector_does_not_depend_on_its_batch(
    image_encoder: ImageEncoder, pictures: list[bytes], picture_vectors: Float32, rows: list[int]
) -> None:
    found = encode_images(image_encoder, [pictures[row] for row in rows]).values
    assert np.array_equal(found, picture_vectors[rows])
    assert len({vector.tobytes() for vector in picture_vectors}) == len(pictures)


def test_image_vectors_are_those_of_timm(image_encoder: Any, pictures: list[bytes], picture_vectors: Float32) -> None:
    import timm
    import torch

    model = timm_.create_embedded_model(EMBEDDED_WEIGHTS["efficientnet-lite0"].find()).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        for row in range(0, 33, 4):
            features = model.forward_head(
                model.forward_features(transform(decode_image(pictures[row]))[None]), pre_logits=True
            )
            assert cosines(features.numpy(), picture_vectors[row : row + 1])[0] > 0.99999


def test_a_bad_image_among_good_ones(image_encoder: ImageEncoder, pictures: list[bytes]) -> None:
    with pytest.raises(BadImage, match="0 bytes"):
        encode_images(image_encoder, [pictures[0], b""])


def saved_model(folder: Path, name: str) -> tuple[str, Any]:
    """Save an untrained timm model the way timm does; return its name for us, and the model."""
    import timm
    import torch
    from timm.models import save_for_hf

    torch.manual_seed(5)
    model = timm.create_model(name, pretrained=False, num_classes=7).eval()
    save_for_hf(model, str(folder), safe_serialization=True)
    return f"timm:local-dir:{folder}", model


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "mobilenetv3_small_050", "lcnet_035"])
@pytest.mark.parametrize("folder", ["model", "at@home"])
def test_a_timm_model_from_a_folder(tmp_path: Path, name: str, folder: str) -> None:
    """The last two have another width before the head than after their features."""
    import torch

    spec, model = saved_model(tmp_path / folder, name)
    encoder = load_image_encoder(spec, "cpu")
    tensors = [encoder.prepare(random_png(seed, 64, 64)) for seed in range(3)]
    with torch.inference_mode():
        plain = model.forward_head(model.forward_features(torch.stack(tensors)), pre_logits=True).numpy()
    found = encoder.forward(tensors)
    assert found.shape == (3, encoder.dim) == plain.shape
    assert (cosines(found, plain) > 0.99999).all()
    assert encoder.fingerprint.fields["model"] == f"local-dir:{tmp_path / folder}"


def test_a_head_without_names(tmp_path: Path) -> None:
    spec, _ = saved_model(tmp_path / "model", "test_vit")
    with pytest.raises(AsifError, match="has 7 classes") as caught:
        load_head(spec, "cpu")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("resnet50", ("resnet50", None)),
        ("resnet50.a1_in1k@abc", ("resnet50.a1_in1k", "timm/resnet50.a1_in1k@abc")),
        ("hf-hub:org/model@abc", ("hf-hub:org/model@abc", None)),
    ],
)
def test_the_revision_reaches_timm(monkeypatch: pytest.MonkeyPatch, name: str, asked: tuple[str, str | None]) -> None:
    calls: list[tuple[str, Any, Any]] = []

    def create(model: str, *, pretrained: bool, pretrained_cfg_overlay: Any = None) -> Any:
        calls.append((model, pretrained, (pretrained_cfg_overlay or {}).get("hf_hub_id")))
        return "a model"

    monkeypatch.setattr("timm.create_model", create)
    assert timm_.create_timm_model(name) == "a model"
    assert calls == [(asked[0], True, asked[1])]


@pytest.mark.parametrize(
    "name", ["resnet18.a1_in1k", "resnet18.a1_in1k@abc", "hf-hub:org/model", "nonsense", "nonsense@1"]
)
def test_a_timm_model_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("timm.models._hub.download_from_hf", unreachable, raising=True)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", unreachable, raising=True)
    with pytest.raises(AsifError) as caught:
        load_image_encoder(f"timm:{name}", "cpu")
    assert caught.value.came.startswith(f"timm could not load {name!r}: ")
    assert "\n" not in caught.value.came
    assert "None" not in caught.value.came
    assert "in the local cache or on a hub that can be reached" in caught.value.expected
    assert "use embedded:efficientnet-lite0, which needs none" in caught.value.fix
