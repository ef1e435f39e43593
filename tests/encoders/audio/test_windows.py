"""Windows cover a sound; vectors are means over its frames, whatever else is encoded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_sounds import RATE, make_tone, write_sound

from asif.encoders.audio.windows import SoundEncoder, Windows
from asif.errors import UsageError
from asif.vectors import Float32, Float64


class Levels(SoundEncoder):
    """Encode a window as the sums that a mean over its samples needs: [mean, 1]."""

    def __init__(self, hop: int = RATE) -> None:
        self.spec, self.dim, self.windows = "fake:levels", 2, Windows(RATE, RATE, hop)
        self.fingerprint = self.make_fingerprint(library="fake")

    batch = 4

    def prepare_window(self, samples: Float32) -> tuple[Float32, int]:
        return samples, len(samples)

    def run_windows(self, inputs: Sequence[Float32], frames: Sequence[int]) -> Float64:
        return np.array([[one.astype(np.float64).mean(), 1.0] for one in inputs])


@given(st.integers(1, 500), st.integers(1, 90), st.integers(1, 90))
def test_windows_cover_every_sample_and_only_the_last_is_shorter(samples: int, length: int, hop: int) -> None:
    spans = Windows(1, length, min(hop, length)).list_spans(samples)
    assert spans[0][0] == 0 and spans[-1][1] == samples
    assert all(stop - start == length for start, stop in spans[:-1])
    assert all(start < stop <= samples for start, stop in spans)
    assert all(later[0] <= earlier[1] for earlier, later in pairwise(spans))


def test_a_sound_is_the_mean_over_its_frames() -> None:
    samples = np.concatenate([np.full(RATE, 0.5), np.full(RATE // 4, -0.25)])
    (vector,) = Levels().forward([Levels().prepare(write_sound(samples, subtype="FLOAT"))])
    assert vector[0] == np.float32((0.5 * 4 - 0.25) / 5)  # a mean over windows would give 0.125
    assert vector[1] == 1


def test_spans_are_in_seconds() -> None:
    prepared = Levels(RATE // 2).prepare(write_sound(make_tone(200, 1.75)))
    assert prepared.spans == ((0.0, 1.0), (0.5, 1.5), (1.0, 1.75))
    assert prepared.nbytes == 4 * (RATE + RATE + RATE * 3 // 4)


def test_vectors_do_not_depend_on_what_is_encoded_with_them() -> None:
    encoder = Levels()
    prepared = [encoder.prepare(write_sound(make_tone(hertz, hertz / 200))) for hertz in (150, 200, 500)]
    together = encoder.forward(prepared)
    assert np.array_equal(together, np.concatenate([encoder.forward([one]) for one in prepared]))
    assert encoder.forward([]).shape == (0, 2) and encoder.forward_windows([]) == []


def test_the_fingerprint_has_all_that_decides_the_vectors() -> None:
    fields = Levels().fingerprint.fields
    assert fields["modality"] == "audio"
    assert (fields["sampling_rate"], fields["window"], fields["hop"]) == (RATE, RATE, RATE)
    assert (fields["decoder"], fields["channels"], fields["resampler"]) == ("libsndfile-1", "mean", "soxr-vhq")
    assert Levels(RATE // 2).fingerprint != Levels().fingerprint


def test_sounds_have_no_tokens() -> None:
    with pytest.raises(UsageError, match="the tokens of fake:levels"):
        Levels().tokens([])
