"""Make frozen unimodal encoders multimodal, without training.

Names are loaded when they are first used: `import asif` itself imports neither torch nor timm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asif.late_names import late_names
from asif.version import VERSION as __version__

if TYPE_CHECKING:
    from asif.anchorset import AnchorSet, Gallery, verify
    from asif.building import BuildOptions
    from asif.engine import (
        Classifier,
        Engine,
        Query,
        build_anchors,
        build_gallery,
        open_anchors,
        tune_anchors,
        update_gallery,
    )
    from asif.errors import AsifError

__getattr__ = late_names(
    __name__,
    {
        "anchorset": "AnchorSet Gallery verify",
        "building": "BuildOptions",
        "engine": "Classifier Engine Query build_anchors build_gallery open_anchors tune_anchors update_gallery",
        "errors": "AsifError",
    },
)

__all__ = [
    "AnchorSet",
    "AsifError",
    "BuildOptions",
    "Classifier",
    "Engine",
    "Gallery",
    "Query",
    "__version__",
    "build_anchors",
    "build_gallery",
    "open_anchors",
    "tune_anchors",
    "update_gallery",
    "verify",
]
