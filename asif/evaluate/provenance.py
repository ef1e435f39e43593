"""What an evaluation came to, as CLIP_benchmark writes it and with all that made it."""

from __future__ import annotations

import os
from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from asif.anchorset import OpenAnchors
from asif.engine import Engine
from asif.kernels import topk_similarity
from asif.pairs import PairSource
from asif.tuning import Task as Role
from asif.vectors import SIDES, Embeddings
from asif.version import VERSION

Task = Literal["zeroshot_classification", "zeroshot_retrieval"]
LIBRARIES = ("torch", "timm", "sentence-transformers", "numpy")
RECORDS = 8192
NEAR = 0.95  # cosine: hardly ever two images, and most copies of one, see docs/evaluation.md


@dataclass(frozen=True)
class Evaluation:
    """Hold one evaluation: the figures, what was counted, how prompts were made, seconds by step.

    `metrics` are CLIP_benchmark's own, a share of 1 or None where one is not defined; `further` are ours.
    """

    task: Task
    dataset: str
    metrics: dict[str, float | None]
    further: dict[str, Any]
    counts: dict[str, int]
    prompts: dict[str, Any]
    made_by: dict[str, Any]
    data: dict[str, Any]
    seconds: dict[str, float]

    def as_dict(self, language: str = "en") -> dict[str, Any]:
        """Return the JSON object: CLIP_benchmark's six keys first, in its order, then where they come from."""
        encoders, anchors = self.made_by["encoders"], self.made_by["anchors"]
        hubness = self.made_by["hubness"]["method"]
        how = self.made_by["aligner"] + ("" if hubness == "none" else f"+{hubness}")
        return {
            "dataset": self.dataset,
            "model": f"{encoders['image']['spec']}+{encoders['text']['spec']}",
            "pretrained": f"{how} {anchors['name']}@{anchors['version']}",
            "task": self.task,
            "metrics": self.metrics,
            "language": language,
            "further_metrics": self.further,
            "counts": self.counts,
            **self.made_by,
            **self.prompts,
            "data": self.data,
            "seed": None,
            "versions": versions(),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "timings_s": {step: round(seconds, 3) for step, seconds in self.seconds.items()},
        }


def versions() -> dict[str, str]:
    """Name the versions of asif and of what it computes with."""
    return {"asif": VERSION, **{name: metadata.version(name) for name in LIBRARIES}}


def origin(anchors: OpenAnchors) -> dict[str, Any]:
    """Say which anchors these are, and which encoders made them."""
    return {
        "anchors": {**anchors.named.as_dict(), "count": anchors.count},
        "encoders": {
            side: {"spec": anchors.encoder_spec(side), "fingerprint": anchors.fingerprint(side).digest}
            for side in SIDES
        },
    }


def made_by(engine: Engine, anchors: OpenAnchors, task: Role) -> dict[str, Any]:
    """Say what answers: anchor set, encoders, aligner, correction for hubness, and the profile they are from."""
    role = engine.role(task)
    return {
        **origin(anchors),
        "aligner": role.choice.aligner.name,
        "parameters": role.fitted.parameters,
        "hubness": role.choice.hubness.parameters,
        "profile": role.choice.profile,
    }


def about(source: PairSource, rows_sha256: str) -> dict[str, Any]:
    """Say what was evaluated on, so that it can be told from anything else."""
    return {
        "path": os.fsencode(str(source.path.absolute())).decode(errors="replace"),
        "kind": source.kind,
        "files": len(source.files),
        "bytes": source.bytes,
        "rows": source.rows,
        "columns": source.columns.by_role(),
        "sha256": source.sha256,
        "rows_sha256": rows_sha256,
    }


def near_anchors(engine: Engine, images: Embeddings) -> NDArray[np.bool_]:
    """Tell which image embeddings [n, di] have a cosine above 0.95 to some anchor's: most likely copies."""
    if not len(images):
        return np.zeros(0, bool)
    best = topk_similarity(images.values, engine.anchors.blocks("image"), 1, engine=engine.kernel)
    return best.scores[:, 0] > NEAR


def also_anchors(anchors: OpenAnchors, images: Set[str]) -> int:
    """Count the images, by the sha256 of their files, that are anchors too."""
    found: set[str] = set()
    for start in range(0, anchors.count, RECORDS):
        records = anchors.records(range(start, min(start + RECORDS, anchors.count)))
        found |= images & {record.image_sha256 for record in records}
    return len(found)
