"""How fast each backend runs an encoder on this machine, and whether its vectors are those of torch."""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.encoders import Backend, check_spec, load_image_encoder, load_text_encoder
from asif.encoders.backends.probe import ProbeVerdict, count_other_neighbours, make_probe_images, make_probe_texts
from asif.encoders.backends.ranking import Ranking, RankingCache
from asif.encoders.backends.runtime import RUNTIMES, check_backend, find_version
from asif.encoders.backends.torch_export import NotExportableError
from asif.encoders.images import encode_pixels
from asif.encoders.spec import split_spec
from asif.errors import MissingDependency, UsageError
from asif.kernels.native_binding import count_threads
from asif.vectors import Embeddings, Float32, Side

MEASURED: tuple[Backend, ...] = ("torch", *RUNTIMES)
ROUNDS = 5
STEPS = len(MEASURED) * (ROUNDS + 1)
"""Of the progress of `measure_backends`: for each backend its loading and its rounds."""
_CAPTIONS_PER_IMAGE = 16
"""Captions are faster; and every backend fills its passes with captions of one length, so few mean much padding."""
_NEAREST = 10
_REST = 0.05
"""Seconds before each run, in which the waiting threads of the backend before stop spinning."""


@dataclass(frozen=True)
class BackendSpeed:
    """Hold what was measured of one backend of an encoder; `reason` is why it cannot run it, and nothing else is known.

    `rates` are the inputs per second of each round, `agreement` is with torch, among the inputs. `export_seconds` were
    spent once, `load_seconds` are spent by every process: with its library imported and the export in the cache.
    """

    side: Side
    encoder: str
    backend: Backend
    version: str | None
    inputs: int
    threads: int
    rates: tuple[float, ...] = ()
    load_seconds: float | None = None
    export_seconds: float | None = None
    agreement: ProbeVerdict | None = None
    reason: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    def to_json(self) -> dict[str, Any]:
        """Return the figures for JSON, rates in inputs per second."""
        rates, found = self.rates, self.agreement
        return {
            "side": self.side,
            "encoder": self.encoder,
            "backend": self.backend,
            "version": self.version,
            "inputs": self.inputs,
            "threads": self.threads,
            "rounds": len(rates),
            "median": self.median if rates else None,
            "min": min(rates, default=None),
            "max": max(rates, default=None),
            "largest_difference": None if found is None else found.largest_difference,
            "other_neighbours": None if found is None else found.other_neighbours,
            "agrees": None if found is None else found.passed,
            "export_seconds": self.export_seconds,
            "load_seconds": self.load_seconds,
            "reason": self.reason,
        }


def measure_backends(
    spec: str, side: Side, cache: Path, images: int = 64, progress: Callable[[int], None] = lambda done: None
) -> list[BackendSpeed]:
    """Measure every backend of an encoder on the CPU, and keep the ranking in `cache` for `auto`.

    All have the same threads and inputs, `images` images or 16 times as many captions, and take turns in each round.
    Images are decoded before. `progress` is called with the number of steps done, of STEPS. Raises UsageError for a
    joined encoder: each of its parts has a backend of its own.
    """
    check_spec(spec, side)
    if len(split_spec(spec)) > 1:
        raise UsageError(f"the backends of {spec}, a joined encoder", "one encoder", "measure each of its parts")
    inputs = make_images(images) if side == "image" else make_captions(_CAPTIONS_PER_IMAGE * images)
    threads = count_threads()
    blank = BackendSpeed(side, spec, "torch", None, len(inputs), threads)
    with _equal_threads(threads):
        original = _load(spec, side, "torch", cache)
        export_seconds = _measure_export(original)
        rows: list[BackendSpeed] = []
        runs: dict[Backend, Callable[[], Float32]] = {}
        vectors: dict[Backend, Float32] = {}
        for backend in MEASURED:
            row = replace(blank, backend=backend, version=_find_version(backend))
            row, encoder = _open(row, original, export_seconds, cache)
            rows.append(row)
            progress(1 if row.reason is None else 1 + ROUNDS)
            if row.reason is None:
                runs[backend] = _prepare_run(encoder, side, inputs)
                vectors[backend] = Embeddings.from_raw(runs[backend]()).values  # warms up, too
        rates = _measure_rounds(runs, len(inputs), progress)
    measured = [_complete(row, rates, vectors) for row in rows]
    fair = {row.backend: row.median for row in measured if row.agreement is not None and row.agreement.passed}
    RankingCache(cache / "rankings").add(spec, Ranking(fair, threads))
    return measured


def make_images(count: int) -> list[bytes]:
    """Make images from coarse to fine and of 40 to 600 pixels, as PNG."""
    return [encode_pixels(np.asarray(image)) for image in make_probe_images(count)]


def make_captions(count: int) -> list[str]:
    """Make captions of 4 to 40 words, the first 4,160 of them different.

    >>> make_captions(65)[-1]
    'a dog in a forest, and two children in a forest'
    """
    texts = make_probe_texts()
    pairs = (
        f"{one}, and {texts[(at + step + 1) % len(texts)]}" for step in range(count) for at, one in enumerate(texts)
    )
    return [*texts, *islice(pairs, count)][:count]


def _open(row: BackendSpeed, original: Any, export_seconds: float | str, cache: Path) -> tuple[BackendSpeed, Any]:
    """Load the encoder on the backend of a row: the row with the seconds, or with the reason why it cannot run it."""
    try:
        check_backend(row.backend)
    except MissingDependency as error:
        return replace(row, reason=f"{error.expected} is not installed: {error.fix.partition(', or')[0]}"), None
    if row.backend != "torch":
        if isinstance(export_seconds, str):
            return replace(row, reason=export_seconds), None
        row = replace(row, export_seconds=export_seconds)
        with _collected_remarks() as remarks:
            original = _load(row.encoder, row.side, row.backend, cache)
        if original.fingerprint.fields.get("backend") != row.backend:
            return replace(row, export_seconds=None, reason="; ".join(remarks) or "torch runs it instead"), None
    started = time.perf_counter()
    encoder = _load(row.encoder, row.side, row.backend, cache)
    return replace(row, load_seconds=time.perf_counter() - started), encoder


def _load(spec: str, side: Side, backend: Backend, cache: Path) -> Any:
    load: Callable[..., Any] = load_image_encoder if side == "image" else load_text_encoder
    return load(spec, "cpu", backend, cache)


def _measure_export(original: Any) -> float | str:
    """Return the seconds in which a model on torch is exported, or the reason why it cannot be."""
    if not hasattr(original, "write_export"):
        return "models of its library are not exported"
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            original.write_export(Path(folder))
        except NotExportableError as error:
            return str(error)
        return time.perf_counter() - started


def _prepare_run(encoder: Any, side: Side, inputs: Sequence[Any]) -> Callable[[], Float32]:
    """Return a function that runs the model over the inputs, of which images are decoded now."""
    prepared = [encoder.prepare(source) for source in inputs] if side == "image" else inputs

    def run() -> Float32:
        vectors: Float32 = encoder.forward(prepared)
        return vectors

    return run


def _measure_rounds(
    runs: dict[Backend, Callable[[], Float32]], inputs: int, progress: Callable[[int], None]
) -> dict[Backend, list[float]]:
    """Return the inputs per second of each round; in each, another backend is the first."""
    rates: dict[Backend, list[float]] = {backend: [] for backend in runs}
    order = list(runs)
    for turn in range(ROUNDS):
        for at in range(len(order)):
            backend = order[(turn + at) % len(order)]
            time.sleep(_REST)
            started = time.perf_counter()
            runs[backend]()
            rates[backend].append(inputs / (time.perf_counter() - started))
            progress(1)
    return rates


def _complete(row: BackendSpeed, rates: dict[Backend, list[float]], vectors: dict[Backend, Float32]) -> BackendSpeed:
    if row.reason is not None:
        return row
    agreement = compare_vectors(vectors[row.backend], vectors["torch"])
    return replace(row, rates=tuple(rates[row.backend]), agreement=agreement)


def compare_vectors(ones: Float32, others: Float32) -> ProbeVerdict:
    """Compare unit vectors of the same inputs [n, d]: the largest difference, and on how many neighbours differ.

    >>> compare_vectors(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))
    ProbeVerdict(largest_difference=0.0, other_neighbours=0)
    """
    differing = count_other_neighbours(_find_neighbours(ones), _find_neighbours(others))
    return ProbeVerdict(float(np.abs(ones - others).max()), differing)


def _find_neighbours(vectors: Float32) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ten nearest other inputs of each: (scores, rows) [n, k], best first."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    rows = np.argsort(-scores, axis=1, kind="stable")[:, : min(_NEAREST, len(vectors) - 1)]
    return np.take_along_axis(scores, rows, axis=1), rows


def _find_version(backend: Backend) -> str | None:
    return metadata.version("torch") if backend == "torch" else find_version(backend)  # type: ignore[arg-type]


@contextmanager
def _equal_threads(threads: int) -> Iterator[None]:
    """Let torch use as many threads as the other backends."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _collected_remarks() -> Iterator[list[str]]:
    """Collect the warnings of the encoders, which say why a backend does not run one."""
    remarks: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: remarks.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("asif.encoders")
    logger.addHandler(handler)
    try:
        yield remarks
    finally:
        logger.removeHandler(handler)
