"""Load frozen encoders by name: `timm:…`, `sentence-transformers:…`, `embedded:…`, `open-clip:…`, or joins of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asif.encoders.backends.choose import choose_runtime, load_exported
from asif.encoders.backends.embedded_graphs import find_graph
from asif.encoders.backends.runtime import Backend, Runtime
from asif.encoders.embedded import EMBEDDED_WEIGHTS, QUANTISED_WEIGHTS
from asif.encoders.joined import JoinedImageEncoder, JoinedTextEncoder, join_heads, split_backend
from asif.encoders.precision import Precision
from asif.encoders.protocol import ClassifierHead, ImageEncoder, TextEncoder
from asif.encoders.spec import check_spec, parse_spec, split_spec
from asif.encoders.timm_files import read_synset_names
from asif.encoders.torch_common import Device
from asif.errors import UsageError
from asif.home import default_cache
from asif.vectors import Side

if TYPE_CHECKING:
    from asif.encoders.sentence_transformers_ import SentenceTransformersEncoder
    from asif.encoders.timm_ import TimmEncoder

_log = logging.getLogger(__name__)


def load_image_encoder(
    spec: str,
    device: Device = "auto",
    backend: Backend = "auto",
    cache: Path | None = None,
    precision: Precision = "float32",
) -> ImageEncoder:
    """Load an image encoder: `timm:<model>[@revision]`, `embedded:…`, `open-clip:<model>/<pretrained>`, or a join.

    Several names with `+` between them are one joined encoder. `backend` runs it; exports for backends other than torch
    are kept in `cache`, by default that of the home folder. Raises UsageError for a precision in which neither the
    backend nor the device computes.
    """
    parts = _split_join(spec, "image", backend)
    if parts:
        return JoinedImageEncoder([load_image_encoder(part, device, each, cache, precision) for part, each in parts])
    library, name = parse_spec(spec, "image")
    if library == "open-clip":
        from asif.encoders import open_clip_

        _remark_torch_only(spec, backend)
        return open_clip_.load_image_tower(name, device, precision)

    def load_original(precision: Precision) -> TimmEncoder:
        from asif.encoders import timm_

        weights = EMBEDDED_WEIGHTS[name].find() if library == "embedded" else None
        return timm_.load_timm_encoder(name, device, weights, precision)

    runtime = choose_runtime(backend, device, precision, spec, cache or default_cache())
    if runtime is None:
        return load_original(precision)
    return _load_exported_images(spec, runtime, cache, load_original, precision)


def _load_exported_images(
    spec: str,
    runtime: Runtime,
    cache: Path | None,
    load_original: Callable[[Precision], TimmEncoder],
    precision: Precision,
) -> ImageEncoder:
    from asif.encoders.backends.exported import ExportedImageEncoder

    folder, graph = cache or default_cache(), find_graph(spec)
    return load_exported(ExportedImageEncoder, "image", runtime, folder, graph, load_original, precision)


def load_head(
    spec: str,
    device: Device = "auto",
    backend: Backend = "auto",
    cache: Path | None = None,
    precision: Precision = "float32",
) -> tuple[ImageEncoder, ClassifierHead]:
    """Load an image encoder whose model is a classifier, with the class prototypes in its head.

    The heads of a join are joined class by class. Raises InputRefused if their classes differ.
    """
    parts = _split_join(spec, "image", backend)
    if parts:
        loaded = [load_head(part, device, each, cache, precision) for part, each in parts]
        heads = [(encoder.spec, head) for encoder, head in loaded]
        return JoinedImageEncoder([encoder for encoder, _ in loaded]), join_heads(heads)
    library, name = parse_spec(spec, "image")
    if library == "open-clip":
        raise UsageError(
            f"the classifier is {spec!r}, a tower without classes",
            "timm:<model>[@revision] or embedded:efficientnet-lite0",
            "choose a classifier, such as timm:resnet50",
        )
    runtime, graph = choose_runtime(backend, device, precision, spec, cache or default_cache()), find_graph(spec)
    if runtime is not None and graph is not None:
        return load_image_encoder(spec, device, runtime, cache, precision), graph.read_head()
    from asif.encoders import timm_

    weights = EMBEDDED_WEIGHTS[name].find() if library == "embedded" else None
    original, head = timm_.load_timm_classifier(name, device, weights, precision if runtime is None else "float32")
    if runtime is None:
        return original, head

    def load_original(precision: Precision) -> TimmEncoder:
        return original if precision == "float32" else timm_.load_timm_encoder(name, device, weights, precision)

    return _load_exported_images(spec, runtime, cache, load_original, precision), head


def load_text_encoder(
    spec: str,
    device: Device = "auto",
    backend: Backend = "auto",
    cache: Path | None = None,
    precision: Precision = "float32",
) -> TextEncoder:
    """Load a text encoder: `sentence-transformers:<id>[@revision]`, `embedded:…`, `open-clip:<model>/<pretrained>`.

    Joins, `backend`, `cache` and `precision` are those of `load_image_encoder`.
    """
    parts = _split_join(spec, "text", backend)
    if parts:
        return JoinedTextEncoder([load_text_encoder(part, device, each, cache, precision) for part, each in parts])
    library, name = parse_spec(spec, "text")
    if library == "open-clip":
        from asif.encoders import open_clip_

        _remark_torch_only(spec, backend)
        return open_clip_.load_text_tower(name, device, precision)
    if library == "embedded" and name in QUANTISED_WEIGHTS:
        from asif.encoders.backends.quantised import load_quantised_encoder

        return load_quantised_encoder(name, backend, precision)

    def load_original(precision: Precision) -> SentenceTransformersEncoder:
        from asif.encoders import sentence_transformers_

        folder = EMBEDDED_WEIGHTS[name].find().parent if library == "embedded" else None
        return sentence_transformers_.load_sentence_encoder(name, device, folder, precision)

    runtime = choose_runtime(backend, device, precision, spec, cache or default_cache())
    if runtime is None:
        return load_original(precision)
    from asif.encoders.backends.exported import ExportedTextEncoder

    folder, graph = cache or default_cache(), find_graph(spec)
    return load_exported(ExportedTextEncoder, "text", runtime, folder, graph, load_original, precision)


def _split_join(spec: str, side: Side, backend: Backend) -> list[tuple[str, Backend]]:
    """Return the name and the backend of each part of a join; empty for one encoder. Raises as `check_spec` does."""
    parts = split_spec(spec)
    if len(parts) == 1:
        return []
    check_spec(spec, side)
    return list(zip(parts, split_backend(backend, len(parts)), strict=True))  # type: ignore[arg-type]


def _remark_torch_only(spec: str, backend: Backend) -> None:
    """Log that a backend that was named does not run an encoder."""
    if choose_runtime(backend, "cpu") is not None and backend != "auto":
        _log.warning("torch runs %s, not %s: towers of open_clip are not exported", spec, backend)


def find_synset_names(ids: Sequence[str]) -> list[str] | None:
    """Return the lemmas of WordNet ids such as n01440764, commas between them; None unless all are in ImageNet-21k."""
    return read_synset_names(ids)
