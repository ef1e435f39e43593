"""What a build would take, before any model is loaded; speeds are those of earlier builds on this machine."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asif.building.batch import Clock
from asif.encoders.embedded import EMBEDDED
from asif.pairs import PairSource

PRIOR = {"image": 50.0, "text": 200.0}
"""Images and captions per second of a small encoder on two CPU cores, until a build has been measured here."""
UNKNOWN_DIM = 1024
CAPTION_BYTES = 150
WIDTH = {"float16": 2, "bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Estimate:
    """Rows, seconds and bytes of a build; `measured` tells whether the speeds were measured on this machine."""

    rows: int
    seconds: float
    bytes: int
    measured: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-able."""
        return asdict(self)

    def as_text(self) -> str:
        """Say it in a line."""
        how = "at speeds measured here" if self.measured else "at an assumed speed: no build has been measured here yet"
        return f"{self.rows:,} rows, about {self.seconds:,.0f} s ({how}), about {self.bytes / 1e6:,.1f} MB on disk"


def estimate(source: PairSource, image: str, text: str, dtype: str, limit: int | None, home: Path) -> Estimate:
    """Estimate a build; one caption per row is assumed, disk doubles while it runs."""
    rows = source.rows if limit is None else min(limit, source.rows)
    if source.dims:
        dims, seconds, measured = sum(source.dims), rows / 20_000, True
    else:
        rates = read_rates(home)
        seconds = rows / rates.get(image, PRIOR["image"]) + rows / rates.get(text, PRIOR["text"])
        dims, measured = dim_of(image) + dim_of(text), image in rates and text in rates
    return Estimate(rows, round(seconds, 1), rows * (dims * WIDTH[dtype] + 32 + CAPTION_BYTES), measured)


def dim_of(spec: str) -> int:
    """Return an encoder's dimension without loading it, or a typical one."""
    library, _, name = spec.partition(":")
    return EMBEDDED[name].dim if library == "embedded" and name in EMBEDDED else UNKNOWN_DIM


def read_rates(home: Path) -> dict[str, float]:
    """Read measured speeds: {encoder: inputs per second}; none where there is no readable file."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        found = json.loads((home / "cache" / "rates.json").read_text())
        return {str(spec): float(rate) for spec, rate in found.items() if float(rate) > 0}
    return {}


def keep_rates(home: Path, image: str, text: str, clock: Clock) -> None:
    """Remember the speeds of a build; a home that cannot be written loses nothing but the next estimate."""
    rates = read_rates(home)
    if clock.images >= 32:
        rates[image] = clock.images / clock.image_seconds
    if clock.texts >= 32:
        rates[text] = clock.texts / clock.text_seconds
    with suppress(OSError):
        (home / "cache").mkdir(parents=True, exist_ok=True)
        (home / "cache" / "rates.json").write_text(json.dumps(rates))
