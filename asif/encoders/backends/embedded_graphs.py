"""The embedded encoders without torch: graphs whose weights are the bytes of the installed weight packages.

`graphs/` holds, for each encoder, an ONNX graph that refers to places in the weights file, what describes the encoder,
and reference vectors. `make graphs` writes them from the models on torch.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asif.encoders.backends.export_cache import (
    MODEL_FILE,
    TOKENIZER_FILE,
    Export,
    ExportCache,
    ExportRecord,
    make_key,
)
from asif.encoders.embedded import EMBEDDED_WEIGHTS
from asif.encoders.protocol import ClassifierHead
from asif.encoders.timm_files import read_imagenet_classes
from asif.vectors import Float32

GRAPHS = Path(__file__).parent / "graphs"
WEIGHTS_FILE = "weights"
"""The name by which a graph refers to the weights file beside it."""


@dataclass(frozen=True)
class EmbeddedGraph:
    """Hold the graph of an embedded encoder and its description: the fields of an export record, and the head."""

    name: str

    @cached_property
    def description(self) -> Mapping[str, Any]:
        found: dict[str, Any] = json.loads((GRAPHS / f"{self.name}.json").read_text(encoding="utf-8"))
        return found

    def find_or_add_export(self, exports: ExportCache) -> Export:
        """Return the export, made of the graph and the weights package if there is none.

        Raises OSError if the cache cannot be written, MissingDependency or IntegrityError for the weights.
        """
        key = make_key({"graph": self._hash(), "weights": EMBEDDED_WEIGHTS[self.name].sha256})
        found = exports.find(key)
        if found is not None:
            return found
        described = self.description
        record = ExportRecord(
            spec=f"embedded:{self.name}",
            side=described["side"],
            dim=described["dim"],
            fingerprint=described["fingerprint"],
            libraries={},
        )
        return exports.add(key, record, self._write, np.load(GRAPHS / f"{self.name}.npy", allow_pickle=False))

    def _write(self, folder: Path) -> Mapping[str, Any]:
        weights = EMBEDDED_WEIGHTS[self.name].find()
        shutil.copyfile(GRAPHS / f"{self.name}.onnx", folder / MODEL_FILE)
        shutil.copyfile(weights, folder / WEIGHTS_FILE)
        if self.description["side"] == "text":
            shutil.copyfile(weights.parent / TOKENIZER_FILE, folder / TOKENIZER_FILE)
        settings: Mapping[str, Any] = self.description["settings"]
        return settings

    def _hash(self) -> str:
        digest = hashlib.sha256()
        for suffix in ("onnx", "json", "npy"):
            digest.update((GRAPHS / f"{self.name}.{suffix}").read_bytes())
        return digest.hexdigest()

    def read_head(self) -> ClassifierHead:
        """Read the class prototypes from the weights file, and the names of the classes."""
        head = self.description["head"]
        classes, dim = head["shape"]
        weights = EMBEDDED_WEIGHTS[self.name].find()
        stored: Float32 = np.fromfile(weights, "<f4", classes * dim, offset=head["offset"])
        prototypes = stored.reshape(dim, classes).T if head["transposed"] else stored.reshape(classes, dim)
        return ClassifierHead(np.ascontiguousarray(prototypes), *read_imagenet_classes(classes))


def find_graph(spec: str) -> EmbeddedGraph | None:
    """Return the graph of an embedded encoder; None for others."""
    library, _, name = spec.partition(":")
    return EmbeddedGraph(name) if library == "embedded" else None
