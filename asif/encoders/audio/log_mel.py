"""Statistics of a log-mel spectrogram: an encoder of sounds that is not learned and needs no weights; a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from asif.encoders.audio.windows import SoundEncoder, Windows
from asif.vectors import Float32, Float64

_RATE = 16_000
_WINDOW_SECONDS = 10
_FRAME, _STEP, _FFT = 400, 160, 512
_BANDS = 64
_LOWEST, _HIGHEST = 50.0, 8000.0
_PARTS = 3
_FLOOR = 1e-6
"""The share of the loudest bin below which a band counts as silent: 60 dB."""
_LEAST = 1e-30
SPEC = "embedded:log-mel"


class LogMelEncoder(SoundEncoder):
    """Describe a window by its spectrum: 64 mel bands in decibels, less their mean, so that gain changes nothing.

    The vector has the mean of each band over the first, the middle and the last third of the frames, and the standard
    deviation of each band. Frames of 25 ms begin every 10 ms.
    """

    def __init__(self) -> None:
        self.spec = SPEC
        self.dim = (_PARTS + 1) * _BANDS
        self.windows = Windows(_RATE, _WINDOW_SECONDS * _RATE, _WINDOW_SECONDS * _RATE)
        self.fingerprint = self.make_fingerprint(
            library="asif",
            features={"frame": _FRAME, "step": _STEP, "bands": _BANDS, "parts": _PARTS, "version": 1},
            dtype="float64",
            backend="numpy",
        )

    @property
    def batch(self) -> int:
        return 16

    @cached_property
    def _filters(self) -> Float64:
        """The triangles of the mel bands [bins, bands]."""
        low, high = (2595 * np.log10(1 + each / 700) for each in (_LOWEST, _HIGHEST))
        edges = 700 * (10 ** (np.linspace(low, high, _BANDS + 2) / 2595) - 1)
        bins = np.fft.rfftfreq(_FFT, 1 / _RATE)[:, None]
        rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
        filters: Float64 = np.maximum(0, np.minimum(rising, falling))
        return filters

    def prepare_window(self, samples: Float32) -> tuple[Float64, int]:
        """Return the decibels of each band of each frame [frames, bands]."""
        wide = samples.astype(np.float64)
        if len(wide) < _FRAME:
            wide = np.pad(wide, (0, _FRAME - len(wide)))
        frames = np.lib.stride_tricks.sliding_window_view(wide, _FRAME)[::_STEP]
        power = np.abs(np.fft.rfft(frames * np.hanning(_FRAME), _FFT)) ** 2
        loudest = max(float(power.max()), _LEAST)
        decibels = 10 * np.log10(np.maximum(power @ self._filters / loudest, _FLOOR))
        return decibels, len(frames)

    def run_windows(self, inputs: Sequence[Float64], frames: Sequence[int]) -> Float64:
        """Return the statistics of each window [n, dim]."""
        return np.stack([_describe_window(decibels) for decibels in inputs])


def _describe_window(decibels: Float64) -> Float64:
    level = decibels - decibels.mean()
    thirds = [part.mean(axis=0) if len(part) else level.mean(axis=0) for part in np.array_split(level, _PARTS)]
    return np.concatenate([*thirds, decibels.std(axis=0)])


def load_log_mel() -> LogMelEncoder:
    """Return the encoder; there is nothing to load."""
    return LogMelEncoder()
