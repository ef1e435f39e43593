"""Windows of a sound: of one length, at a fixed distance, the last one padded; nothing is chosen at random."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asif.encoders.audio.decode import DECODER, decode_sound
from asif.encoders.protocol import ImageSource
from asif.errors import UsageError
from asif.modality import FIELD
from asif.vectors import Fingerprint, Float32, Float64, Tokens


@dataclass(frozen=True)
class Windows:
    """Cut sounds of `rate` samples a second into windows of `length` samples that begin every `hop` samples."""

    rate: int
    length: int
    hop: int

    def list_spans(self, samples: int) -> list[tuple[int, int]]:
        """Return where the windows of a sound begin and end; together they cover it, the last one may be shorter.

        >>> Windows(rate=4, length=10, hop=8).list_spans(27)
        [(0, 10), (8, 18), (16, 26), (24, 27)]
        """
        count = 1 + max(0, -(-(samples - self.length) // self.hop))
        return [(at * self.hop, min(at * self.hop + self.length, samples)) for at in range(count)]

    def describe(self) -> dict[str, Any]:
        """Return the fields of a fingerprint."""
        return {"sampling_rate": self.rate, "window": self.length, "hop": self.hop}


@dataclass(frozen=True)
class PreparedSound:
    """Hold the windows of a sound, ready for the model: inputs, frames that are no padding, and seconds of each."""

    inputs: tuple[Any, ...]
    frames: tuple[int, ...]
    spans: tuple[tuple[float, float], ...]

    @property
    def nbytes(self) -> int:
        """Sum the bytes of the inputs."""
        return sum(int(each.nbytes) for each in self.inputs)


class SoundEncoder(ABC):
    """Encode sounds: a frozen model runs over windows, and a sound is the mean over all frames that are no padding.

    The steps are those of `ImageEncoder`, so that all that encodes images encodes sounds. Subclasses prepare a window
    and run the model over windows.
    """

    spec: str
    dim: int
    windows: Windows
    fingerprint: Fingerprint

    @property
    @abstractmethod
    def batch(self) -> int:
        """Return how many sounds suit one call of `forward`."""

    @abstractmethod
    def prepare_window(self, samples: Float32) -> tuple[Any, int]:
        """Return what the model reads of the samples of one window [n], and how many of its frames are no padding."""

    @abstractmethod
    def run_windows(self, inputs: Sequence[Any], frames: Sequence[int]) -> Float64:
        """Run the model over windows: the mean over the frames of each that are no padding [n, dim]."""

    def prepare(self, source: ImageSource) -> PreparedSound:
        """Decode one sound and cut it into windows; raises BadAudio. Safe to call from several threads."""
        samples = decode_sound(source, self.windows.rate).samples
        spans = self.windows.list_spans(len(samples))
        ready = [self.prepare_window(samples[start:stop]) for start, stop in spans]
        seconds = tuple((start / self.windows.rate, stop / self.windows.rate) for start, stop in spans)
        return PreparedSound(tuple(one for one, _ in ready), tuple(frames for _, frames in ready), seconds)

    def forward(self, prepared: Sequence[PreparedSound]) -> Float32:
        """Run the model over sounds: raw vectors [n, dim]."""
        vectors = np.empty((len(prepared), self.dim), np.float32)
        for row, (windows, sound) in enumerate(zip(self.forward_windows(prepared), prepared, strict=True)):
            frames = np.array(sound.frames, np.float64)
            vectors[row] = np.add.reduce(windows * frames[:, None]) / frames.sum()
        return vectors

    def forward_windows(self, prepared: Sequence[PreparedSound]) -> list[Float64]:
        """Run the model over sounds: the vectors of the windows of each [windows, dim], not normalised."""
        inputs = [one for sound in prepared for one in sound.inputs]
        frames = [count for sound in prepared for count in sound.frames]
        if not inputs:
            return []
        ends = np.cumsum([len(sound.inputs) for sound in prepared])[:-1]
        return list(np.split(self.run_windows(inputs, frames), ends))

    def tokens(self, prepared: Sequence[Any]) -> Tokens:
        """Raise UsageError: encoders of sounds give vectors only."""
        raise UsageError(
            f"the tokens of {self.spec}", "an encoder of timm or sentence-transformers", "use one of these encoders"
        )

    def make_fingerprint(self, **fields: Any) -> Fingerprint:
        """Return the fingerprint: what the subclass names, how sounds are decoded, cut and pooled."""
        model = self.spec.partition(":")[2]
        return Fingerprint(
            {FIELD: "audio", "model": model, **DECODER, **self.windows.describe(), "pooling": "frames", **fields}
        )
