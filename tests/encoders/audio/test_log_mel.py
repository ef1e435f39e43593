"""Statistics of a log-mel spectrogram."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny_sounds import RATE, make_tone, write_sound

from asif.encoders.audio.log_mel import LogMelEncoder
from asif.vectors import Embeddings

ENCODER = LogMelEncoder()


def encode(samples: np.ndarray, form: str = "WAV", subtype: str = "DOUBLE") -> np.ndarray:
    vector = ENCODER.forward([ENCODER.prepare(write_sound(samples, form=form, subtype=subtype))])
    return Embeddings.from_raw(vector).values[0]


def test_the_loudest_band_is_that_of_the_tone() -> None:
    bands = [int(encode(make_tone(hertz))[:64].argmax()) for hertz in (200, 1000, 4000)]
    centres = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([50, 8000]) / 700)), 66) / 2595) - 1)[1:-1]
    assert np.allclose(centres[bands], [200, 1000, 4000], rtol=0.05)


def test_gain_changes_nothing() -> None:
    tone = make_tone(440, level=0.2)
    assert encode(tone) @ encode(2 * tone) == pytest.approx(1, abs=1e-6)


def test_thirds_hear_the_order() -> None:
    low, high = make_tone(200, 1.0), make_tone(3000, 1.0)
    rising, falling = encode(np.concatenate([low, high])), encode(np.concatenate([high, low]))
    assert rising @ falling < 0.7
    assert rising @ encode(np.concatenate([low, high]) * 0.5) > 0.99


def test_shorter_than_a_frame() -> None:
    assert np.isfinite(encode(make_tone(440, 3 / RATE))).all()
    assert np.isfinite(encode(make_tone(440, 500 / RATE))).all()


def test_a_hundred_times_the_same_bits() -> None:
    content = write_sound(make_tone(440, 0.3))
    first = ENCODER.forward([ENCODER.prepare(content)])
    assert all(np.array_equal(ENCODER.forward([ENCODER.prepare(content)]), first) for _ in range(99))
