"""Images of a test that are anchors, too: the same file, or embeddings so close that they are most likely copies."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from numpy.typing import NDArray

from asif.anchorset import OpenAnchors
from asif.engine import Engine
from asif.kernels import topk_similarity
from asif.vectors import Embeddings

_RECORDS_PER_BLOCK = 8192
_NEAR_COSINE = 0.95  # hardly ever two different images, and most copies of one, see docs/evaluation.md


def find_images_near_anchors(engine: Engine, images: Embeddings) -> NDArray[np.bool_] | None:
    """Mark the image embeddings [n, di] with a cosine above 0.95 to some anchor's: most likely copies.

    None for embeddings of another space, such as projected tokens: then it is not known.
    """
    if images.dim != engine.anchors.dims["image"]:
        return None
    if not len(images):
        return np.zeros(0, bool)
    best = topk_similarity(images.values, engine.anchors.blocks("image"), 1, engine=engine.kernel)
    return best.scores[:, 0] > _NEAR_COSINE


def count_images_among_anchors(anchors: OpenAnchors, images: Set[str]) -> int:
    """Count the images, by the sha256 of their files, that are anchors too."""
    common: set[str] = set()
    for start in range(0, anchors.count, _RECORDS_PER_BLOCK):
        records = anchors.records(range(start, min(start + _RECORDS_PER_BLOCK, anchors.count)))
        common |= images & {record.image_sha256 for record in records}
    return len(common)
