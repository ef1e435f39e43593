"""From embeddings to labels: asif-paper compared with the published procedure."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import torch
from common import Pairs
from kernels_peers import CHUNK, SLICE_BYTES, slices
from kernels_rows import embeddings, real_pairs
from kernels_timing import Results, interleaved

from asif.aligners.relative import asif_paper
from asif.compare import Candidates, rank_candidates
from asif.vectors import Embeddings, Float32, Int64

K, POWER = 800, 8.0
BATCH = 100  # images whose rows are made dense at a time
BUDGET = 30.0  # seconds for each
OURS, PUBLISHED = "ours", "published"
SAID = (
    f"Images and captions as labels over real pairs, k = {K}, p = {POWER:g}. The published procedure keeps a running "
    f"top k over chunks of {CHUNK:,} anchors that starts at zero, and compares {BATCH} images at a time as "
    f"`.to_dense()` rows; queries in slices of at most {SLICE_BYTES / 2**30:.0f} GiB of similarities; float32 copies "
    "of the anchors are made outside the timing."
)


@dataclass(frozen=True)
class Sizes:
    """Hold the numbers of anchors, images and labels."""

    images: int = 10_000
    labels: int = 1_000
    anchors: int = 100_000


QUICK = Sizes(images=500, labels=100, anchors=10_000)


def run(results: Results, sizes: Sizes) -> None:
    """Measure both, unless the results contain them."""
    cell = {"section": "end", "images": sizes.images, "labels": sizes.labels, "N": sizes.anchors}
    if results.select(**cell):
        return
    pairs = real_pairs(sizes.anchors)
    images, labels = embeddings("image", sizes.images), embeddings("text", sizes.labels)
    wide_images = np.concatenate(pairs.image).astype(np.float32)
    wide_texts = np.concatenate(pairs.text).astype(np.float32)
    timed = interleaved(
        {
            OURS: lambda: ours(pairs, images, labels),
            PUBLISHED: lambda: published(wide_images, wide_texts, images.values, labels.values),
        },
        BUDGET,
    )
    differing = int((timed.outputs[OURS] != timed.outputs[PUBLISHED]).sum())
    results.add({**cell, "ms": timed.milliseconds(), "runs": timed.runs(), "differing": differing})
    print(f"{cell}: {timed.milliseconds()}, {differing} labels differ", file=sys.stderr)


def ours(pairs: Pairs, images: Embeddings, labels: Embeddings) -> Int64:
    """Label images with asif-paper."""
    fitted = asif_paper(K, POWER).fit(pairs)
    candidates = Candidates(fitted.represent("text", labels))
    return rank_candidates(fitted.represent("image", images), candidates, 1).indices[:, 0]


def published(image_anchors: Float32, text_anchors: Float32, images: Float32, labels: Float32) -> Int64:
    """Label images as the published code does."""
    width = len(text_anchors)
    texts = spread(*running_topk(text_anchors, labels), width)
    texts = texts / texts.norm(dim=1, keepdim=True)
    values, indices = running_topk(image_anchors, images)
    best = [
        (spread(some, at, width) @ texts.T).argmax(dim=1)
        for some, at in zip(values.split(BATCH), indices.split(BATCH), strict=True)
    ]
    return torch.cat(best).numpy()


def running_topk(anchors: Float32, queries: Float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k largest similarities [q, k], none below zero, to the power of p, and their anchors."""
    rows, kept = torch.from_numpy(anchors), []
    for some in slices(torch.from_numpy(queries), min(len(rows), CHUNK)):
        values, indices = torch.zeros(len(some), K), torch.zeros(len(some), K, dtype=torch.int64)
        for start in range(0, len(rows), CHUNK):
            of_chunk = torch.einsum("qd,nd->qn", some, rows[start : start + CHUNK]).topk(K)
            values, at = torch.cat([values, of_chunk.values], dim=1).topk(K)
            indices = torch.cat([indices, of_chunk.indices + start], dim=1).gather(1, at)
        kept.append((values**POWER, indices))
    return torch.cat([values for values, _ in kept]), torch.cat([indices for _, indices in kept])


def spread(values: torch.Tensor, indices: torch.Tensor, width: int) -> torch.Tensor:
    """Make sparse rows from values and indices [n, k], and return them dense [n, width]."""
    row = torch.arange(len(values)).repeat_interleave(values.shape[1])
    at = torch.stack([row, indices.flatten()])
    return torch.sparse_coo_tensor(at, values.flatten(), (len(values), width), check_invariants=False).to_dense()
