"""Decode sounds within limits: WAV, FLAC, Ogg and MP3, to one channel at the rate of an encoder.

The door to soundfile, which decodes, and to soxr, which resamples. What libsndfile reads of a damaged file without an
error is checked here: lengths in the headers of WAV, the last page of Ogg, the number of samples of all.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asif.encoders.protocol import ImageSource
from asif.errors import BadAudio, MissingDependency, UsageError
from asif.vectors import Float32

MAX_BYTES = 256 * 2**20
MAX_SECONDS = 1800
MAX_CHANNELS = 8
RESAMPLER_QUALITY = "VHQ"
DECODER: dict[str, str] = {
    "decoder": "libsndfile-1",
    "channels": "mean",
    "resampler": f"soxr-{RESAMPLER_QUALITY.lower()}",
}
"""Part of fingerprints; changes whenever the samples that `decode_sound` returns may change."""
_FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
_FRAMES_PER_BLOCK = 1 << 18
_UNKNOWN_LENGTH = 1 << 40
"""Samples of a file, at least, whose header does not say how many there are."""
_CHUNK_NAME = re.compile(rb"[ -~]{4}")
_LAST_PAGE = 4
"""The flag of the last page of an Ogg stream."""
_MAX_REASON = 200


@dataclass(frozen=True)
class Sound:
    """Hold one channel: `samples` [n] float32, `rate` a second."""

    samples: Float32
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def decode_sound(source: ImageSource, rate: int) -> Sound:
    """Decode a file to the mean of its channels, resampled to `rate`: equal for equal samples in any format.

    Raises BadAudio for anything but a complete file of a known format within the limits (256 MiB, 30 minutes,
    8 channels) that holds something to hear, MissingDependency without soundfile or soxr.
    """
    soundfile, soxr = _import_libraries()
    content = _read_content(source)
    _check_wav(content)
    _check_ogg(content)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            _check_file(file)
            samples = _resample(soxr, _read_mono(file), file.samplerate, rate)
    except (BadAudio, MemoryError):
        raise
    except soundfile.LibsndfileError as error:
        kind = "that are no WAV, FLAC, Ogg or MP3" if "not recognised" in str(error) else "that cannot be decoded"
        raise _bad_audio(f"{len(content):,} bytes {kind} ({str(error.error_string).strip()[:_MAX_REASON]})") from error
    if not len(samples):
        raise _bad_audio("a sound without a sample")
    return Sound(samples, rate)


def _read_content(source: ImageSource) -> bytes:
    """Return the bytes of a file; raises UsageError for pixels and for other things that are no file."""
    if not isinstance(source, bytes | str | Path):
        raise UsageError(
            f"a sound is of type {type(source).__name__}", "a path, bytes or a binary file object", "pass its file"
        )
    try:
        content = source if isinstance(source, bytes) else _read_file(Path(source))
    except (OSError, ValueError) as error:
        raise _bad_audio(f"a file that cannot be read ({str(error)[:_MAX_REASON]})") from error
    if not content:
        raise _bad_audio("0 bytes")
    if len(content) > MAX_BYTES:
        raise _bad_audio(f"more than {MAX_BYTES} bytes")
    return content


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _check_wav(content: bytes) -> None:
    """Raise BadAudio for a WAV whose header gives other lengths than its parts have."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return
    end, at = 8 + _read_length(content, 4), 12
    if not 20 <= end <= len(content) + 1:  # a writer may count a byte of padding that it left out
        raise _bad_audio(f"a WAV of {len(content):,} bytes whose header says {end:,}: cut off, or written to a pipe")
    while at + 8 <= end:
        name, size = content[at : at + 4], _read_length(content, at + 4)
        if not _CHUNK_NAME.fullmatch(name):
            raise _bad_audio(f"a WAV with bytes at {at:,} that belong to no part: its header has a wrong length")
        if at + 8 + size > end:
            raise _bad_audio(f"a WAV whose part {name.decode()!r} has {end - at - 8:,} bytes and says {size:,}")
        at += 8 + size + size % 2


def _read_length(content: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", content.ljust(at + 4, b"\0"), at)[0])


def _check_ogg(content: bytes) -> None:
    """Raise BadAudio for an Ogg file whose last page is not marked as the last, or not complete."""
    if content[:4] != b"OggS":
        return
    at = content.rfind(b"OggS")
    header = content[at : at + 27]
    sizes = content[at + 27 : at + 27 + header[26]] if len(header) == 27 else b""
    whole = len(header) == 27 and len(sizes) == header[26] and at + 27 + len(sizes) + sum(sizes) <= len(content)
    if not whole or not header[5] & _LAST_PAGE:
        raise _bad_audio("an Ogg file without its last page: cut off")


def _check_file(file: Any) -> None:
    """Refuse formats that are not known, and what would take too much memory or time."""
    if file.format not in _FORMATS:
        raise _bad_audio(f"a file of format {file.format}")
    if file.channels > MAX_CHANNELS:
        raise _bad_audio(f"{file.channels} channels, more than {MAX_CHANNELS}")
    if file.frames < _UNKNOWN_LENGTH and file.frames > MAX_SECONDS * file.samplerate:
        raise _bad_audio(f"{file.frames / file.samplerate / 60:.1f} minutes, more than {MAX_SECONDS // 60}")


def _read_mono(file: Any) -> Iterator[Float32]:
    """Yield the mean of the channels by block; raises BadAudio for what ends early, is not finite, or is silent."""
    read, low, high = 0, np.inf, -np.inf
    while len(block := file.read(_FRAMES_PER_BLOCK, dtype="float64", always_2d=True)):
        if not np.isfinite(block).all():
            raise _bad_audio("samples that are not finite")
        read += len(block)
        if read > MAX_SECONDS * file.samplerate:
            raise _bad_audio(f"more than {MAX_SECONDS // 60} minutes")
        mono: Float32 = block.mean(axis=1).astype(np.float32)
        low, high = min(low, float(mono.min())), max(high, float(mono.max()))
        yield mono
    if file.frames < _UNKNOWN_LENGTH and read != file.frames:
        raise _bad_audio(f"a sound that ends after {read:,} of {file.frames:,} samples: cut off")
    if read and low == high:
        raise _bad_audio("silence: all samples are equal, in the mean of the channels")


def _resample(soxr: Any, blocks: Iterator[Float32], source_rate: int, rate: int) -> Float32:
    """Resample blocks of one sound, which are joined: [n]."""
    if source_rate == rate:
        return np.concatenate([np.empty(0, np.float32), *blocks])
    stream = soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality=RESAMPLER_QUALITY)
    done = [stream.resample_chunk(block) for block in blocks]
    rest = stream.resample_chunk(np.empty(0, np.float32), last=True)
    return np.concatenate([np.empty(0, np.float32), *done, rest])


def describe_limits() -> str:
    """Say which files can be decoded."""
    return (
        f"WAV, FLAC, Ogg or MP3 of at most {MAX_SECONDS // 60} minutes, {MAX_CHANNELS} channels and "
        f"{MAX_BYTES >> 20} MiB"
    )


def _bad_audio(came: str) -> BadAudio:
    return BadAudio(came, describe_limits(), "write the file again, or leave this sound out")


def _import_libraries() -> tuple[Any, Any]:
    """Import soundfile and soxr, or raise MissingDependency."""
    try:
        import soundfile
        import soxr
    except (ImportError, OSError) as error:  # soundfile raises OSError without the library libsndfile
        raise MissingDependency(
            f"sounds cannot be decoded ({error})", "soundfile and soxr", "pip install 'asif-engine[audio]'"
        ) from error
    return soundfile, soxr
