"""Audio models of transformers, tiny and of random weights: windows, frames, fingerprints, no randomness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from support.tiny_sounds import (
    RATE,
    make_tone,
    save_tiny_ast,
    save_tiny_clap,
    save_tiny_hubert,
    save_tiny_whisper,
    write_sound,
)

from asif.encoders.audio.load import load_audio_encoder
from asif.encoders.audio.transformers_ import TransformersSoundEncoder
from asif.errors import AsifError, UsageError

pytestmark = pytest.mark.slow  # torch and transformers are imported

MODELS: dict[str, tuple[str, Callable[..., Path], dict[str, bool]]] = {
    "clap": ("clap", save_tiny_clap, {}),
    "clap fused": ("clap", save_tiny_clap, {"fused": True}),
    "clap audio model": ("clap", save_tiny_clap, {"audio_only": True}),
    "whisper": ("whisper", save_tiny_whisper, {}),
    "hubert": ("hf-audio", save_tiny_hubert, {}),
    "hubert with mask": ("hf-audio", save_tiny_hubert, {"masked": True}),
    "ast": ("hf-audio", save_tiny_ast, {}),
}
SOUNDS = [write_sound(make_tone(hertz, seconds)) for hertz, seconds in ((200, 0.3), (300, 2.0), (400, 5.1), (440, 11))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def load(name: str, folder: Path) -> TransformersSoundEncoder:
    library, save, how = MODELS[name]
    place = folder / name.replace(" ", "-")
    if not place.exists():
        save(place, **how)
    encoder = load_audio_encoder(f"{library}:{place}", "cpu")
    assert isinstance(encoder, TransformersSoundEncoder)
    return encoder


@pytest.mark.parametrize("name", MODELS)
def test_a_vector_is_the_same_alone_among_others_and_every_time(name: str, folder: Path) -> None:
    encoder = load(name, folder)
    prepared = [encoder.prepare(sound) for sound in SOUNDS]
    together = encoder.forward(prepared)
    assert together.shape == (4, encoder.dim) and np.isfinite(together).all()
    assert np.array_equal(together, np.concatenate([encoder.forward([one]) for one in prepared]))
    for _ in range(20):
        assert np.array_equal(encoder.forward([encoder.prepare(SOUNDS[2])])[0], together[2])


@pytest.mark.parametrize("name", MODELS)
def test_a_fingerprint_is_that_of_the_files(name: str, folder: Path) -> None:
    encoder, again = load(name, folder), load(name, folder)
    assert encoder.fingerprint == again.fingerprint
    fields = encoder.fingerprint.fields
    assert fields["modality"] == "audio" and fields["window"] == fields["hop"] == encoder.windows.length
    assert fields["preprocessing"]["sampling_rate"] == RATE and len(fields["weights_sha256"]) == 64


def test_frames_of_the_padding_do_not_count(folder: Path) -> None:
    encoder = load("whisper", folder)
    (sound,) = (encoder.prepare(SOUNDS[0]),)
    assert sound.frames == (15,)  # 0.3 s: 4,800 samples by steps of 320
    (hidden,) = encoder.run_model(sound.inputs[0][None]).detach().numpy()
    assert np.allclose(encoder.forward([sound])[0], hidden[:15].astype(np.float64).mean(axis=0), atol=1e-6)


def test_windows_are_weighted_by_their_frames(folder: Path) -> None:
    encoder = load("whisper", folder)
    sound = encoder.prepare(SOUNDS[2])  # windows of 2, 2 and 1.1 s
    assert sound.frames == (100, 100, 55)
    (windows,) = encoder.forward_windows([sound])
    expected = np.average(windows, axis=0, weights=sound.frames)
    assert np.allclose(encoder.forward([sound])[0], expected, atol=1e-7)


def test_hubert_counts_the_frames_that_its_convolutions_give(folder: Path) -> None:
    sound = load("hubert", folder).prepare(SOUNDS[0])
    first = (4800 - 400) // 160 + 1
    assert sound.frames == ((first - 4) // 2 + 1,)


def test_clap_neither_crops_at_random_nor_picks_a_longer_one(folder: Path) -> None:
    encoder, long = load("clap fused", folder), make_tone(440, 5.1)
    seen = {encoder.forward([encoder.prepare(write_sound(long))]).tobytes() for _ in range(5)}
    assert len(seen) == 1
    crops = {encoder._extractor(long, sampling_rate=RATE)["input_features"][0].tobytes() for _ in range(5)}
    assert len(crops) > 1  # what its users get


def test_the_projection_is_used_where_there_is_one(folder: Path) -> None:
    assert (load("clap", folder).dim, load("clap audio model", folder).dim) == (12, 16)


def test_threads_prepare_the_same(folder: Path) -> None:
    encoder, found = load("whisper", folder), []
    thread = Thread(target=lambda: found.append(encoder.prepare(SOUNDS[1])))
    thread.start()
    thread.join()
    assert np.array_equal(found[0].inputs[0], encoder.prepare(SOUNDS[1]).inputs[0])


def test_missing_weights_are_refused_and_not_made_up(folder: Path) -> None:
    load("clap audio model", folder)
    place = folder / "clap-audio-model"
    with pytest.raises(AsifError, match=r"lacks .* weights of HubertModel|could not load"):
        load_audio_encoder(f"hf-audio:{_copy_as_hubert(place, folder)}", "cpu")


def _copy_as_hubert(clap: Path, folder: Path) -> Path:
    """Return a HuBERT's configuration with the weights of another model."""
    target = save_tiny_hubert(folder / "mixed")
    (target / "model.safetensors").write_bytes((clap / "model.safetensors").read_bytes())
    return target


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(AsifError, match="transformers could not load clap:/nowhere/at/all"):
        load_audio_encoder("clap:/nowhere/at/all", "cpu")


def test_noise_of_an_extractor_is_switched_off(folder: Path) -> None:
    from transformers import WhisperFeatureExtractor

    place = save_tiny_whisper(folder / "dithered")
    WhisperFeatureExtractor(feature_size=16, chunk_length=2, dither=0.1).save_pretrained(place)
    encoder = load_audio_encoder(f"whisper:{place}", "cpu")
    seen = {encoder.forward([encoder.prepare(SOUNDS[0])]).tobytes() for _ in range(3)}
    assert len(seen) == 1 and encoder.fingerprint.fields["preprocessing"]["dither"] == 0.0


def test_a_model_without_a_pooler_is_refused(folder: Path) -> None:
    class Frames:
        def __call__(self, inputs: Any) -> Any:
            return type("Output", (), {"last_hidden_state": inputs})()

    encoder = load("ast", folder)
    model, encoder._model = encoder._model, Frames()
    with pytest.raises(UsageError, match="frames that cannot be told from padding"):
        encoder.forward([encoder.prepare(SOUNDS[0])])
    encoder._model = model
