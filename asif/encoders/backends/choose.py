"""Choose what runs an encoder: torch, or a runtime with an export of its model, which is made on first use."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from asif.encoders.backends.embedded_graphs import EmbeddedGraph
from asif.encoders.backends.export_cache import Export, ExportCache, ExportRecord, make_key
from asif.encoders.backends.exported import ExportedEncoder
from asif.encoders.backends.probe import QUICK_INPUTS, ProbeVerdict, VerdictCache, encode_probe
from asif.encoders.backends.ranking import RankingCache
from asif.encoders.backends.runtime import (
    RUNTIMES,
    Backend,
    Runtime,
    can_compute,
    check_backend,
    check_runtime_precision,
    is_cuda_present,
    list_runtimes,
)
from asif.encoders.backends.torch_export import NotExportableError
from asif.encoders.precision import Precision, check_precision
from asif.encoders.torch_common import Device
from asif.vectors import Fingerprint, Side

Encoder = TypeVar("Encoder", bound=ExportedEncoder)
Original = TypeVar("Original", bound="ExportableEncoder")

_EXPORTERS = ("torch", "timm", "sentence-transformers", "transformers", "onnx")

_log = logging.getLogger(__name__)


class ExportableEncoder(Protocol):
    """An encoder on torch that can write its model as ONNX."""

    @property
    def spec(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def fingerprint(self) -> Fingerprint: ...
    def forward(self, inputs: Any) -> Any: ...
    def write_export(self, folder: Path) -> Mapping[str, Any]:
        """Write the files of an export; returns the settings with which they are read."""
        ...


@dataclass(frozen=True)
class Choice:
    """Hold the runtime that a backend stands for, None for torch, and why."""

    runtime: Runtime | None
    reason: str

    @property
    def backend(self) -> Backend:
        return self.runtime or "torch"


def choose_runtime(
    backend: Backend,
    device: Device,
    precision: Precision = "float32",
    spec: str | None = None,
    cache: Path | None = None,
) -> Runtime | None:
    """Return the runtime that a backend stands for on this machine; None for torch. See `choose_backend`."""
    return choose_backend(backend, device, precision, spec, cache).runtime


def choose_backend(
    backend: Backend,
    device: Device,
    precision: Precision = "float32",
    spec: str | None = None,
    cache: Path | None = None,
) -> Choice:
    """Choose what runs an encoder on this machine.

    `auto` is ASIF_BACKEND if that is set; else torch on a CUDA device. On the CPU it is, in float32, the backend that
    was the fastest one for the encoder `spec` by the measurement kept in `cache`; otherwise the first installed runtime
    that computes in the precision. Raises UsageError and MissingDependency as `check_backend` does, and UsageError for
    a precision in which a runtime that was named does not compute.
    """
    check_precision(precision)
    named = os.environ.get("ASIF_BACKEND") or "auto" if backend == "auto" else backend
    check_backend(named)
    if named != "auto":
        runtime: Runtime | None = None if named == "torch" else named  # type: ignore[assignment]
        if runtime is not None:
            check_runtime_precision(runtime, precision)
        return Choice(runtime, "it was named" if backend == named else "ASIF_BACKEND is set")
    runtimes = [runtime for runtime in list_runtimes() if can_compute(runtime, precision)]
    if not runtimes:
        precise = "" if precision == "float32" else f" that computes in {precision}"
        return Choice(None, f"neither OpenVINO nor onnxruntime is installed{precise}")
    if device == "cuda" or (device == "auto" and is_cuda_present()):
        return Choice(None, "it uses the CUDA device")
    ranking = None
    if spec is not None and cache is not None and precision == "float32":
        ranking = RankingCache(cache / "rankings").find(spec)
    if ranking is None:
        return Choice(runtimes[0], "the first installed one in the order of preference, not measured here")
    fastest = ranking.fastest
    return Choice(fastest if fastest in RUNTIMES else None, f"the fastest one measured here: {ranking}")


def load_exported(
    kind: type[Encoder],
    side: Side,
    runtime: Runtime,
    cache: Path,
    graph: EmbeddedGraph | None,
    load_original: Callable[[Precision], Original],
    precision: Precision = "float32",
) -> Encoder | Original:
    """Load an encoder that runs in a runtime; returns the original, on torch, and logs why, if that is impossible.

    With the `graph` of an embedded encoder no original is needed. Others are loaded, since their weights name the
    export, which is made in the folder `cache` if there is none. Exports are made from, and compared with, the original
    in float32.
    """
    exports, original = ExportCache(cache / "exports"), None
    find_export: Callable[[ExportCache], Export]
    if graph is None:
        original = load_original("float32")
        find_export = partial(_find_or_export, original, side)
    else:
        find_export = graph.find_or_add_export
    try:
        export: Export | None = find_export(exports)
    except OSError as error:
        _log.warning("exported models cannot be kept in %s: %s", exports.root, error.strerror or error)
        export = None
    try:
        if export is None:
            raise NotExportableError("its export cannot be kept")
        if export.record.failure is not None:
            raise NotExportableError(export.record.failure)
        return _open_export(kind, side, export, runtime, VerdictCache(cache / "probes"), precision)
    except NotExportableError as error:
        if original is None or precision != "float32":
            original = load_original(precision)
        _log.warning("torch runs %s, not %s: %s", original.spec, runtime, error)
        return original


def _open_export(
    kind: type[Encoder], side: Side, export: Export, runtime: Runtime, verdicts: VerdictCache, precision: Precision
) -> Encoder:
    """Open an export in a runtime, and compare it with torch if it runs on this machine for the first time.

    They are compared in float32, whichever the precision.
    """
    try:
        encoder = kind(export, runtime)
        verdict = verdicts.find(export.fingerprint, encoder.fingerprint, QUICK_INPUTS)
        if verdict is None:
            vectors = encode_probe(encoder, side, QUICK_INPUTS)  # type: ignore[arg-type]
            verdict = ProbeVerdict(float(np.abs(vectors - export.read_reference()).max()), 0)
            verdicts.add(export.fingerprint, encoder.fingerprint, QUICK_INPUTS, verdict)
        if verdict.passed and precision != "float32":
            return kind(export, runtime, precision)
    except Exception as error:  # runtimes have no common error: an operator or a file that they cannot read
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise NotExportableError(f"{runtime} cannot run its export: {reason[:200]}") from error
    if not verdict.passed:
        raise NotExportableError(f"its vectors differ from those of torch by {verdict.largest_difference:.1e}")
    return encoder


def _find_or_export(original: ExportableEncoder, side: Side, exports: ExportCache) -> Export:
    """Return the export of a model on torch, or the record of why it has none; made now if there is neither.

    Raises OSError if the cache cannot be written.
    """
    key = make_key({"fingerprint": dict(original.fingerprint.fields)})
    found = exports.find(key)
    if found is not None and (found.record.failure is None or found.record.libraries == _list_versions()):
        return found
    _log.info("exporting %s, once", original.spec)
    record = ExportRecord(
        spec=original.spec,
        side=side,
        dim=original.dim,
        fingerprint=dict(original.fingerprint.fields),
        libraries=_list_versions(),
    )
    try:
        reference = encode_probe(original, side, QUICK_INPUTS)  # type: ignore[arg-type]
        return exports.add(key, record, original.write_export, reference)
    except NotExportableError as error:
        return exports.add(key, replace(record, failure=str(error)))


def _list_versions() -> dict[str, str]:
    """Return the versions of the libraries that make and export models, as far as they are installed."""
    found = {}
    for name in _EXPORTERS:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
