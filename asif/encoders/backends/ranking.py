"""Which backend ran an encoder fastest on this machine, as `asif encoders bench` measured it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from asif.encoders.backends.export_cache import make_key
from asif.encoders.backends.probe import describe_machine
from asif.encoders.backends.runtime import BACKENDS, RUNTIMES, Backend, find_version
from asif.encoders.backends.sealed_files import MeasurementCache


@dataclass(frozen=True)
class Ranking:
    """Hold the inputs per second of the backends whose vectors agree with those of torch, with the number of threads.

    >>> str(Ranking({"torch": 28.2, "openvino": 50.4}, 2))
    'openvino 50.4, torch 28.2 inputs a second on 2 threads'
    """

    rates: Mapping[Backend, float]
    threads: int

    def __post_init__(self) -> None:
        known = set(self.rates) <= set(BACKENDS) - {"auto"}
        if not self.rates or not known or not all(0 < rate < math.inf for rate in self.rates.values()):
            raise ValueError(f"no ranking of backends: {dict(self.rates)!r}")

    @property
    def fastest(self) -> Backend:
        return max(self.rates, key=self.rates.__getitem__)

    def __str__(self) -> str:
        ordered = sorted(self.rates.items(), key=lambda item: -item[1])
        rates = ", ".join(f"{backend} {rate:,.1f}" for backend, rate in ordered)
        return f"{rates} inputs a second on {self.threads} threads"


class RankingCache:
    """Keep rankings in a folder, by encoder, machine and versions of the backends."""

    def __init__(self, root: Path) -> None:
        self._kept = MeasurementCache(root, Ranking)

    def find(self, spec: str) -> Ranking | None:
        """Return the ranking of an encoder on this machine, with the backends that are installed now."""
        return self._kept.find(_make_key(spec))

    def add(self, spec: str, ranking: Ranking) -> None:
        """Keep a ranking; does nothing if the folder cannot be written."""
        self._kept.add(_make_key(spec), ranking)


def _make_key(spec: str) -> str:
    versions = {"torch": metadata.version("torch")} | {runtime: find_version(runtime) for runtime in RUNTIMES}
    return make_key({"ranking": spec, "machine": describe_machine(), "versions": versions})
