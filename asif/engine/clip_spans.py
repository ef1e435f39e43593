"""Time spans of clips behind a score: the window of an anchor's sound that is most like the input.

Anchors store one vector for each sound, no samples. So windows are encoded again, from the files that the anchors were
built from, where these are on this machine and unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asif.anchorset import OpenAnchors
from asif.encoders.audio.windows import SoundEncoder
from asif.engine.pair_thumbnails import PairFiles
from asif.pairs import Pair, PairRecord
from asif.vectors import Float32, Float64

_MOST_PLACES = 256
"""Files that are tried for one pair without an id: many sounds share a caption such as "rain"."""


@dataclass(frozen=True)
class ClipSpan:
    """Name a sound by its file, or by its id, and a part of it in seconds."""

    clip: str
    start: float
    stop: float

    def __str__(self) -> str:
        return f"{self.clip} {self.start:.1f}-{self.stop:.1f} s"


@dataclass(frozen=True)
class _Clip:
    """Hold the windows of a sound: seconds [w, 2], and vectors by their share of the sound's vector [w, d]."""

    name: str
    spans: tuple[tuple[float, float], ...]
    shares: Float64


class ClipSpans:
    """Find the parts of anchors' sounds that are most like an input; safe for threads."""

    def __init__(self, anchors: OpenAnchors, encoder: SoundEncoder, home: Path | None = None) -> None:
        self._encoder = encoder
        self._files: PairFiles[_Clip] = PairFiles(anchors, self._encode, home, _MOST_PLACES)

    def _encode(self, pair: Pair, content: bytes) -> _Clip:
        prepared = self._encoder.prepare(content)
        (windows,) = self._encoder.forward_windows([prepared])
        frames = np.array(prepared.frames, np.float64)
        name = pair.image.name if isinstance(pair.image, Path) else pair.id or f"row {pair.row}"
        return _Clip(name, prepared.spans, windows * (frames / frames.sum())[:, None])

    def find(self, records: Sequence[PairRecord], vector: Float32) -> tuple[ClipSpan | None, ...]:
        """Return for each pair the window that adds most to its similarity with a vector [d]; None without its file."""
        clips = self._files.read(records)
        return tuple(_choose_window(clips.get(record.image_sha256), vector) for record in records)


def _choose_window(clip: _Clip | None, vector: Float32) -> ClipSpan | None:
    if clip is None:
        return None
    best = int(np.argmax(clip.shares @ vector.astype(np.float64)))
    return ClipSpan(clip.name, *clip.spans[best])
