"""Inputs on which two backends of one encoder must agree before one may answer for the other."""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.encoders.backends.export_cache import make_key
from asif.encoders.backends.sealed_files import MeasurementCache
from asif.encoders.images import convert_pixels
from asif.encoders.protocol import ImageEncoder, TextEncoder
from asif.vectors import Embeddings, Fingerprint, Float32, Side

LARGEST_DIFFERENCE = 1e-5
"""Of any entry of two unit vectors of one input."""
INPUTS = 64
QUICK_INPUTS = 4
"""The first probe inputs, on which each export is checked before it is used."""
_BACKEND_FIELDS = {"backend", "backend_version", "export_sha256"}
RUN_FIELDS = {
    *("dtype", "backend", "backend_version", "export_sha256", "device"),
    *("images_per_pass", "tokens_per_pass", "inputs_per_pass"),
}
"""The fields of a fingerprint that say how a model is run, not which."""
_PLACES = (
    "in a forest",
    "on a red carpet beside a window in the evening light",
    "seen from above",
    "at night, in the rain",
)
_THINGS = (
    "a dog", "two children", "an old bicycle", "the market square", "a bowl of fruit", "a sailing boat", "a surgeon",
    "an empty street", "the moon", "a printed circuit board", "a wheat field", "a football match", "ripe tomatoes",
    "a wooden door with an iron handle", "someone who reads a book", "traffic",
)  # fmt: skip


def make_probe_texts() -> list[str]:
    """Make 64 texts of 4 to 20 words."""
    return [f"{thing} {place}" for place, thing in product(_PLACES, _THINGS)]


def make_probe_images(count: int = INPUTS) -> list[Any]:
    """Make the first images of 64, from coarse to fine and of 40 to 600 pixels: RGB, opened by Pillow."""
    random = np.random.RandomState(64)  # its stream is frozen for good
    return [convert_pixels(_make_pixels(random, index)) for index in range(count)]


def _make_pixels(random: np.random.RandomState, index: int) -> NDArray[np.uint8]:
    """Make squares of random colours that grow darker to the right: [h, w, 3]."""
    height, width = random.randint(40, 600, 2)
    squares = 2 ** (index % 6 + 1)
    colours = random.randint(0, 256, (squares, squares, 3))
    rows, columns = np.arange(height) * squares // height, np.arange(width) * squares // width
    shade = 1 - np.linspace(0, 0.5, width)[None, :, None]
    return np.asarray(colours[rows][:, columns] * shade, np.uint8)


def encode_probe(encoder: ImageEncoder | TextEncoder, side: Side, inputs: int = INPUTS) -> Float32:
    """Encode the probe inputs, or the first ones, to unit rows."""
    encode: Any = encoder.forward
    if side == "image":
        prepare = encoder.prepare  # type: ignore[union-attr]
        return Embeddings.from_raw(encode([prepare(image) for image in make_probe_images(inputs)])).values
    return Embeddings.from_raw(encode(make_probe_texts()[:inputs])).values


def is_same_model(one: Fingerprint, other: Fingerprint) -> bool:
    """Tell whether two fingerprints are of one float32 model and differ in what runs it, at most."""
    both_float32 = one.fields.get("dtype") == other.fields.get("dtype") == "float32"
    return both_float32 and set(one.differences(other)) <= _BACKEND_FIELDS


@dataclass(frozen=True)
class ProbeVerdict:
    """Hold how far two backends are apart on the probe inputs, and on how many the ten nearest rows of a set differ."""

    largest_difference: float
    other_neighbours: int

    @property
    def passed(self) -> bool:
        return self.largest_difference <= LARGEST_DIFFERENCE and self.other_neighbours == 0

    def __str__(self) -> str:
        return (
            f"the largest difference is {self.largest_difference:.1e}, "
            f"the ten nearest vectors differ for {self.other_neighbours} of 64 inputs"
        )


class VerdictCache:
    """Keep verdicts in a folder, by both fingerprints and this machine."""

    def __init__(self, root: Path) -> None:
        self._kept = MeasurementCache(root, ProbeVerdict)

    def find(self, one: Fingerprint, other: Fingerprint, inputs: int) -> ProbeVerdict | None:
        """Return the verdict on the first `inputs` probe inputs."""
        return self._kept.find(_make_key(one, other, inputs))

    def add(self, one: Fingerprint, other: Fingerprint, inputs: int, verdict: ProbeVerdict) -> None:
        """Keep a verdict; does nothing if the folder cannot be written."""
        self._kept.add(_make_key(one, other, inputs), verdict)


def _make_key(one: Fingerprint, other: Fingerprint, inputs: int) -> str:
    return make_key({"probe": sorted([one.digest, other.digest]), "inputs": inputs, "machine": describe_machine()})


@cache
def describe_machine() -> str:
    """Return a hash of the processor's name and its instructions, on which the last bits of sums depend."""
    described = [platform.machine()]
    with suppress(OSError):  # not `platform.processor`, which starts a process
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        described += sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return hashlib.sha256("\n".join(described).encode()).hexdigest()


def count_other_neighbours(ones: tuple[NDArray[Any], NDArray[Any]], others: tuple[NDArray[Any], NDArray[Any]]) -> int:
    """Count the queries whose nearest anchors differ: (scores, rows) [n, k] by two backends, best first.

    An anchor that one side alone has does not count if its score is the last one's, but for 1e-5.
    """
    differing = 0
    for scores, rows, other_scores, other_rows in zip(*ones, *others, strict=True):
        near = dict(zip(rows, scores, strict=True)), dict(zip(other_rows, other_scores, strict=True))
        alone = [
            mine[row] - min(mine.values()) for mine, theirs in (near, near[::-1]) for row in set(mine) - set(theirs)
        ]
        differing += any(gap > LARGEST_DIFFERENCE for gap in alone)
    return differing
