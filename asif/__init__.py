"""Make frozen unimodal encoders multimodal, without training.

Names are loaded when they are first used: `import asif` itself imports neither torch nor timm.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from asif.version import VERSION as __version__

if TYPE_CHECKING:
    from asif.anchorset import AnchorSet, verify
    from asif.building import BuildOptions
    from asif.engine import Classifier, Engine, build_anchors, open_anchors, tune_anchors
    from asif.errors import AsifError

HOMES = {
    "AnchorSet": "asif.anchorset",
    "AsifError": "asif.errors",
    "BuildOptions": "asif.building",
    "Classifier": "asif.engine",
    "Engine": "asif.engine",
    "build_anchors": "asif.engine",
    "open_anchors": "asif.engine",
    "tune_anchors": "asif.engine",
    "verify": "asif.anchorset",
}

__all__ = [
    "AnchorSet",
    "AsifError",
    "BuildOptions",
    "Classifier",
    "Engine",
    "__version__",
    "build_anchors",
    "open_anchors",
    "tune_anchors",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'asif' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
