"""The embedded encoders without torch: graphs whose weights are the bytes of the installed weight packages.

`graphs/` holds three files for each encoder: an ONNX graph whose weights are places in the weights file, a description
of the encoder, and the vectors of the first probe inputs by torch. `make graphs` writes them from the models on torch.
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
from asif.encoders.embedded import EMBEDDED_WEIGHTS, EmbeddedWeights
from asif.encoders.protocol import ClassifierHead
from asif.encoders.timm_files import read_imagenet_classes
from asif.vectors import Float32

GRAPHS = Path(__file__).parent / "graphs"
WEIGHTS_FILE = "weights"
"""The name by which a graph refers to the weights file, which is in the same folder."""
_SUFFIXES = ("onnx", "json", "npy")


@dataclass(frozen=True)
class EmbeddedGraph:
    """Find the graph of an embedded encoder, and read its description."""

    name: str

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """The fields of an export record, the sha256 of the tokenizer, and where the classifier's head is."""
        found: dict[str, Any] = json.loads(self._file("json").read_text(encoding="utf-8"))
        return found

    @property
    def weights(self) -> EmbeddedWeights:
        return EMBEDDED_WEIGHTS[self.name]

    def _file(self, suffix: str) -> Path:
        return GRAPHS / f"{self.name}.{suffix}"

    def find_or_add_export(self, exports: ExportCache) -> Export:
        """Return the export; if there is none, it is made from the graph and the files of the weights package.

        Raises OSError if the cache cannot be written, MissingDependency without the package, and IntegrityError if its
        files are others than those that the graph was made from.
        """
        key = make_key({"graph": self._hash(), "weights": self.weights.sha256})
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
        return exports.add(key, record, self._write, np.load(self._file("npy"), allow_pickle=False))

    def _write(self, folder: Path) -> Mapping[str, Any]:
        weights = self.weights.find()
        shutil.copyfile(self._file("onnx"), folder / MODEL_FILE)
        shutil.copyfile(weights, folder / WEIGHTS_FILE)
        if self.description["side"] == "text":
            tokenizer = weights.parent / TOKENIZER_FILE
            self.weights.check(tokenizer, self.description["tokenizer_sha256"])
            shutil.copyfile(tokenizer, folder / TOKENIZER_FILE)
        settings: Mapping[str, Any] = self.description["settings"]
        return settings

    def _hash(self) -> str:
        digest = hashlib.sha256()
        for suffix in _SUFFIXES:
            digest.update(self._file(suffix).read_bytes())
        return digest.hexdigest()

    def read_head(self) -> ClassifierHead:
        """Read the class prototypes, which the weights file holds transposed, and the names of the classes.

        Raises as `EmbeddedWeights.find` does, and MissingDependency without the files of timm.
        """
        head = self.description["head"]
        classes, dim = head["classes"], self.description["dim"]
        stored: Float32 = np.fromfile(self.weights.find(), "<f4", dim * classes, offset=head["offset"])
        return ClassifierHead(np.ascontiguousarray(stored.reshape(dim, classes).T), *read_imagenet_classes(classes))


def find_graph(spec: str) -> EmbeddedGraph | None:
    """Return the graph of an embedded encoder; None for others."""
    library, _, name = spec.partition(":")
    return EmbeddedGraph(name) if library == "embedded" else None
