"""Estimate a build before any model is loaded, from the speeds of earlier builds on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asif.anchorset.format.own_store import close_to_others
from asif.building.clock import EncoderClock
from asif.encoders.embedded import ALL_WEIGHTS
from asif.encoders.spec import split_spec, unify_spec
from asif.pairs import PairSource
from asif.vectors import Side

_DEFAULT_RATES = {"image": 50.0, "text": 200.0}
"""Images and captions per second of a small encoder on two CPU cores, used until a build was measured here."""
UNKNOWN_DIM = 1024
_CAPTION_BYTES = 150
_THUMBNAIL_BYTES = 3000
_DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class BuildEstimate:
    """Hold the rows, seconds and bytes of a build; `measured` tells whether its speeds come from this machine."""

    rows: int
    seconds: float
    bytes: int
    measured: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-able."""
        return asdict(self)

    def as_text(self) -> str:
        """Return one line for the terminal."""
        how = "at speeds measured here" if self.measured else "at an assumed speed: no build has been measured here yet"
        return f"{self.rows:,} rows, about {self.seconds:,.0f} s ({how}), about {self.bytes / 1e6:,.1f} MB on disk"


def estimate_build(
    source: PairSource, image: str, text: str, dtype: str, limit: int | None, home: Path
) -> BuildEstimate:
    """Estimate a build with one caption per row; while it runs, it takes twice the bytes."""
    rows = source.rows if limit is None else min(limit, source.rows)
    if source.dims:
        dims, seconds, measured = sum(source.dims), rows / 20_000, True
    else:
        rates, (image, text) = read_encoder_rates(home), map(unify_spec, (image, text))
        seconds = rows * (_estimate_seconds(image, "image", rates) + _estimate_seconds(text, "text", rates))
        dims, measured = _find_dim(image) + _find_dim(text), image in rates and text in rates
    return BuildEstimate(rows, round(seconds, 1), rows * (dims * _DTYPE_BYTES[dtype] + 32 + _CAPTION_BYTES), measured)


def estimate_gallery(
    source: PairSource, side: Side, spec: str, dtype: str, limit: int | None, thumbnails: bool, home: Path
) -> BuildEstimate:
    """Estimate the build of a gallery with new content alone; while it runs, it takes twice the bytes."""
    rows = source.rows if limit is None else min(limit, source.rows)
    if source.dims:
        dim, seconds, measured = source.dims[0], rows / 20_000, True
    else:
        rates, spec = read_encoder_rates(home), unify_spec(spec)
        seconds = rows * _estimate_seconds(spec, side, rates)
        dim, measured = _find_dim(spec), spec in rates
    item = dim * _DTYPE_BYTES[dtype] + 32 + _CAPTION_BYTES + (_THUMBNAIL_BYTES if thumbnails else 0)
    return BuildEstimate(rows, round(seconds, 1), rows * item, measured)


def _estimate_seconds(spec: str, side: Side, rates: Mapping[str, float]) -> float:
    """Return the seconds that an encoder takes for one input: those measured, or those of its parts."""
    by_part = [spec] if spec in rates else split_spec(spec)
    return sum(1 / rates.get(part, _DEFAULT_RATES[side]) for part in by_part)


def _find_dim(spec: str) -> int:
    """Return an encoder's dimension without loading it, or a typical one; that of a join is the sum of its parts."""
    embedded = {f"embedded:{name}": weights.dim for name, weights in ALL_WEIGHTS.items()}
    return sum(embedded.get(part, UNKNOWN_DIM) for part in split_spec(spec))


def read_encoder_rates(home: Path) -> dict[str, float]:
    """Read measured speeds: {encoder: inputs per second}; empty if there is no readable file."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        found = json.loads((home / "cache" / "rates.json").read_text())
        return {str(spec): float(rate) for spec, rate in found.items() if float(rate) > 0}
    return {}


def update_encoder_rates(home: Path, image: str, text: str, clock: EncoderClock) -> None:
    """Save the encoders' speeds in a build; does nothing if the home folder cannot be written."""
    rates = read_encoder_rates(home)
    if clock.images >= 32:
        rates[image] = clock.images / clock.image_seconds
    if clock.texts >= 32:
        rates[text] = clock.texts / clock.text_seconds
    with suppress(OSError):
        (home / "cache").mkdir(parents=True, exist_ok=True)
        (home / "cache" / "rates.json").write_text(json.dumps(rates))
        for path in (home / "cache", home / "cache" / "rates.json"):
            close_to_others(path)
