"""Towers of open_clip: against the model itself, with a small random one; by a stand-in where it is not installed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from support.build_images import random_png
from support.running import Cli

from asif.encoders import check_spec, load_head, load_image_encoder, load_text_encoder
from asif.encoders.images import decode_image
from asif.errors import AsifError, BadImage, MissingDependency, UsageError
from asif.vectors import Side

if TYPE_CHECKING:
    import torch


TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
TEXTS = ["a dog", "a cat and a dog on a long, long walk", "", "a dog", "ein Bär", "seven"]


class Tokenizer:
    context_length = 16

    encoder: ClassVar = {"dog": 0, "cat": 1}

    def __call__(self, texts: list[str], context_length: int = 16) -> torch.Tensor:
        import torch

        ended = [text.encode()[: context_length - 1] + b"\1" for text in texts]
        rows = [list(row.ljust(context_length, b"\0")) for row in ended]
        return torch.tensor(rows)


def stand_in() -> Any:
    """Make a module that answers as open_clip does, where asif asks."""
    import torch
    from support.open_clip_standin import StandIn

    def create(name: str, pretrained: str, weights_only: bool) -> Any:
        assert weights_only
        model = StandIn()
        model.load_state_dict(torch.load(pretrained, weights_only=True))

        def transform(image: Any) -> torch.Tensor:
            return torch.tensor(np.asarray(image.resize((32, 32)), np.float32)).permute(2, 0, 1) / 255

        return model, transform

    return SimpleNamespace(
        create_model=lambda name: StandIn(),
        create_model_from_pretrained=create,
        get_model_config=lambda name: TINY,
        get_tokenizer=lambda name: Tokenizer(),
    )


@pytest.fixture(params=["stand-in", "open_clip"])
def library(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "stand-in":
        monkeypatch.setitem(sys.modules, "open_clip", stand_in())
        return sys.modules["open_clip"]
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not installed")
    import open_clip

    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "tiny.json")
    return open_clip


def weights(library: Any, path: Path, seed: int) -> str:
    """Write random weights; returns the name of the model with them."""
    import torch

    torch.manual_seed(seed)
    torch.save(library.create_model("tiny").state_dict(), path)
    return f"tiny/{path}"


@pytest.fixture
def name(library: Any, tmp_path: Path) -> str:
    return weights(library, tmp_path / "weights.pt", 0)


def test_the_vectors_are_the_models_own(library: Any, name: str) -> None:
    import torch

    model, transform = library.create_model_from_pretrained("tiny", name.partition("/")[2], weights_only=True)
    model.eval()
    images = [random_png(seed, 20 + seed, 30) for seed in range(6)]
    encoder, texts = load_image_encoder(f"open-clip:{name}", "cpu"), load_text_encoder(f"open-clip:{name}", "cpu")
    assert (encoder.dim, texts.dim, encoder.spec) == (8, 8, f"open-clip:{name}")
    with torch.inference_mode():
        image = model.encode_image(torch.stack([transform(decode_image(each)) for each in images])).numpy()
        text = model.encode_text(library.get_tokenizer("tiny")(TEXTS)).numpy()
    found = encoder.forward([encoder.prepare(each) for each in images])
    np.testing.assert_allclose(found, image, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(texts.forward(TEXTS), text, rtol=1e-4, atol=1e-5)
    assert np.ptp(found, axis=0).min() > 1e-3 and np.ptp(text, axis=0).min() > 1e-3


def test_texts_longer_than_the_context_are_cut(name: str) -> None:
    texts = load_text_encoder(f"open-clip:{name}", "cpu")
    long = "dog " * 14
    read = texts.tokenize(["a dog", long, long + "cat", "a cat"])
    assert [each.is_cut for each in read] == [False, True, True, False]
    assert read[1].ids == read[2].ids and read[0].ids != read[3].ids
    assert np.array_equal(*texts.forward([long, long + "cat"]))
    assert texts.is_english_only


def test_a_vector_does_not_depend_on_what_else_is_encoded(name: str) -> None:
    encoder, texts = load_image_encoder(f"open-clip:{name}", "cpu"), load_text_encoder(f"open-clip:{name}", "cpu")
    images = [encoder.prepare(random_png(seed)) for seed in range(6)]
    together, said = encoder.forward(images), texts.forward(TEXTS)
    for at in range(6):
        assert np.array_equal(encoder.forward([images[at]])[0], together[at])
        assert np.array_equal(texts.forward([TEXTS[at]])[0], said[at])
    assert encoder.forward([]).shape == texts.forward([]).shape == (0, 8)
    with pytest.raises(BadImage):
        encoder.prepare(b"no image")


def test_fingerprints_tell_weights_and_sides_apart(library: Any, name: str, tmp_path: Path) -> None:
    first = load_image_encoder(f"open-clip:{name}", "cpu").fingerprint
    assert load_image_encoder(f"open-clip:{name}", "cpu").fingerprint.digest == first.digest
    text = load_text_encoder(f"open-clip:{name}", "cpu").fingerprint
    weights(library, tmp_path / "weights.pt", 1)  # other weights by the same name
    other = load_image_encoder(f"open-clip:{name}", "cpu").fingerprint
    assert len({first.digest, text.digest, other.digest}) == 3
    assert {key for key in first.fields if first.fields[key] != other.fields[key]} == {"weights_sha256"}
    assert first.fields["preprocessing"]["size"] == [32, 32]
    assert text.fields["tokenizer"]["context"] == 16
    json.dumps([dict(first.fields), dict(text.fields)])


@pytest.mark.parametrize("side", ["image", "text"])
def test_names(side: Side) -> None:
    check_spec("open-clip:ViT-B-32/laion2b_s34b_b79k", side)
    for bad in ("open-clip:", "open-clip:ViT-B-32", "open-clip:ViT-B-32/", "open-clip:/openai"):
        with pytest.raises(UsageError, match=rf"the {side} encoder is .*open-clip") as caught:
            check_spec(bad, side)
        assert "open-clip:<model>/<pretrained>" in caught.value.expected


def test_what_cannot_be_loaded(library: Any) -> None:
    for load in (load_image_encoder, load_text_encoder):
        with pytest.raises(AsifError, match="open_clip could not load 'tiny/nowhere'"):
            load("open-clip:tiny/nowhere", "cpu")
    with pytest.raises(UsageError, match="the classifier is 'open-clip:tiny/nowhere', a tower without classes"):
        load_head("open-clip:tiny/nowhere", "cpu")


def test_without_open_clip_the_fix_is_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    for load in (load_image_encoder, load_text_encoder):
        with pytest.raises(MissingDependency) as caught:
            load("open-clip:ViT-B-32/openai", "cpu")
        assert caught.value.fix == "pip install 'asif-engine[open-clip]'"


def test_the_list_says_that_they_have_not_been_run(cli: Cli) -> None:
    listed = [line for line in cli("encoders", "list", "--json").lines if line["spec"].startswith("open-clip")]
    assert [line["side"] for line in listed] == ["image", "text"]
    assert all("published weights not run" in line["about"] for line in listed)
