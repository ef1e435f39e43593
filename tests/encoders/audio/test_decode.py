"""Sounds are decoded to one channel at one rate, exactly and within limits, or refused with a reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.tiny_sounds import RATE, make_tone, write_sound

from asif.encoders.audio.decode import MAX_CHANNELS, MAX_SECONDS, decode_sound
from asif.errors import BadAudio, MissingDependency, UsageError

TONE = make_tone(440, 0.5)
WHOLE = np.round(TONE * 32767).astype(np.int16)


def decode(content: bytes, rate: int = RATE) -> np.ndarray:
    return decode_sound(content, rate).samples


def refuse(content: bytes, rate: int = RATE) -> str:
    with pytest.raises(BadAudio) as caught:
        decode_sound(content, rate)
    return caught.value.came


def test_a_wav_and_a_flac_of_it_are_equal_to_the_bit() -> None:
    as_wav, as_flac = (decode(write_sound(WHOLE, form=form), 11_025) for form in ("WAV", "FLAC"))
    assert np.array_equal(as_wav, as_flac)
    assert abs(len(as_wav) - len(TONE) * 11_025 / RATE) < 1


@pytest.mark.parametrize(
    ("subtype", "error"), [("PCM_U8", 1 / 127), ("PCM_24", 1e-6), ("PCM_32", 1e-7), ("FLOAT", 1e-7)]
)
def test_depths_are_scaled_to_one(subtype: str, error: float) -> None:
    found = decode(write_sound(TONE, subtype=subtype))
    assert np.abs(found - TONE.astype(np.float32)).max() <= error


@pytest.mark.parametrize(("form", "subtype"), [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_files_are_close(form: str, subtype: str) -> None:
    found = decode(write_sound(TONE, form=form, subtype=subtype))[1000:6000]
    spectrum, expected = (np.abs(np.fft.rfft(each)) for each in (found, TONE[1000:6000]))
    assert spectrum.argmax() == expected.argmax()


def test_channels_are_averaged() -> None:
    left, right = make_tone(300, 0.2), make_tone(700, 0.2)
    found = decode(write_sound(np.stack([left, right], axis=1), subtype="DOUBLE"))
    assert np.array_equal(found, ((left + right) / 2).astype(np.float32))


def test_resampling_is_that_of_soxr_in_its_best_quality_whatever_the_blocks() -> None:
    import soxr

    samples = make_tone(440, 20, 44_100)  # several blocks
    whole = np.round(samples * 32767).astype(np.int16)
    expected = soxr.resample((whole / 32768).astype(np.float32), 44_100, RATE, quality="VHQ")
    assert np.array_equal(decode(write_sound(whole, 44_100)), expected)


def test_a_path_and_its_bytes_are_one(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(write_sound(WHOLE))
    assert np.array_equal(decode_sound(file, RATE).samples, decode_sound(str(file), RATE).samples)
    assert decode_sound(file, RATE).seconds == 0.5


def patch(content: bytes, at: int, value: int) -> bytes:
    return content[:at] + value.to_bytes(4, "little") + content[at + 4 :]


WAV = write_sound(WHOLE)
LENGTH = WAV.index(b"data") + 4
SPOILT = np.where(np.arange(len(TONE)) == 7, np.nan, TONE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"no sound" * 40, "no WAV, FLAC, Ogg or MP3"),
        (write_sound(TONE[:0]), "without a sample"),
        (write_sound(TONE * 0), "silence"),
        (write_sound(np.stack([TONE, -TONE], axis=1), subtype="DOUBLE"), "silence"),
        (write_sound(SPOILT, subtype="FLOAT"), "not finite"),
        (write_sound(np.where(np.isnan(SPOILT), np.inf, TONE), subtype="DOUBLE"), "not finite"),
        (WAV[:-100], "cut off"),
        (patch(WAV, 4, 2**32 - 1), "written to a pipe"),
        (patch(WAV, 4, 0), "written to a pipe"),
        (patch(WAV, LENGTH, len(WAV)), "'data' has 16,000 bytes and says 16,044"),
        (patch(WAV, LENGTH, 2**32 - 1), "says 4,294,967,295"),
        (patch(WAV, LENGTH, 4000), "a wrong length"),
        (patch(WAV, LENGTH, 0), "a wrong length"),
        (write_sound(WHOLE, form="FLAC")[:-50], "cannot be decoded"),
        (write_sound(TONE, form="OGG", subtype="VORBIS")[:-50], "without its last page"),
        (write_sound(np.tile(TONE[:100, None], (1, 64))), "64 channels, more than 8"),
        (write_sound(TONE, form="AIFF"), "a file of format AIFF"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    assert reason in refuse(content)


def test_a_cut_mp3_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    whole = write_sound(make_tone(440, 2), form="MP3", subtype="MPEG_LAYER_III")
    assert "cut off" in refuse(whole[: len(whole) // 2])
    capfd.readouterr()  # mpg123 prints a warning of its own


def test_limits() -> None:
    assert len(decode(write_sound(np.tile(TONE[:400, None], (1, MAX_CHANNELS))))) == 400
    low = 1000  # samples a second, so that half an hour is small
    longest = np.tile([8192, -8192], MAX_SECONDS * low // 2).astype(np.int16)
    assert len(decode(write_sound(longest, low), low)) == MAX_SECONDS * low
    assert "30.0 minutes, more than 30" in refuse(write_sound(np.append(longest, 0).astype(np.int16), low), low)


def test_odd_parts_after_the_sound_are_allowed() -> None:
    tagged = patch(WAV + b"LIST" + (3).to_bytes(4, "little") + b"abc\0", 4, len(WAV) + 12 - 8)
    assert np.array_equal(decode(tagged), decode(WAV))


def test_other_things_than_files_are_refused() -> None:
    with pytest.raises(UsageError, match="a sound is of type ndarray"):
        decode_sound(TONE, RATE)  # type: ignore[arg-type]


def test_without_the_libraries_the_install_command_is_named() -> None:
    code = (
        "import sys; sys.modules['soundfile'] = None\n"
        "from asif.encoders.audio.decode import decode_sound\n"
        "try:\n    decode_sound(b'x', 1)\nexcept Exception as error:\n    print(type(error).__name__, error.fix)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == f"{MissingDependency.__name__} pip install 'asif-engine[audio]'"
