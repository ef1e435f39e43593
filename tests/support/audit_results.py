"""Audits of planted anchor sets, and what they should find."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from support.audit_sets import DIMS, NEAR, cosines, neighbours, publish, sha256

from asif.engine import Engine
from asif.evaluate.audit import AuditOptions, AuditResult, audit
from asif.pairs import PairRecord
from asif.vectors import Embeddings

OPTIONS = AuditOptions(near=NEAR)


def find_finding(audited: AuditResult, kind: str) -> Any:
    (finding,) = (each for each in audited.findings if each.kind == kind)
    return finding


def list_ids(audited: AuditResult, rows: Any) -> set[str]:
    return {record.id for record in audited.anchors.records(rows)}


def count_expected_use(audited: AuditResult, side: Any, k: int, rows: Sequence[int]) -> Any:
    """Count use by sorting everything: an anchor, its copies and near copies are not there for itself."""
    images, similar = cosines(audited.anchors, "image"), cosines(audited.anchors, side)
    counts = np.zeros(len(images), int)
    for row in rows:
        out = {row, *np.flatnonzero(images[row] >= NEAR).tolist()}
        counts[neighbours(similar, row, out, k)] += 1
    return counts


def audit_labels(home: Path, classes: int = 6, each: int = 20, wrong: int = 0) -> AuditResult:
    """Audit images about their class, whose texts are the classes' own; the first `wrong` have others'."""
    random = np.random.default_rng(3)
    centres, words = (random.standard_normal((classes, dim)) for dim in DIMS)
    numbers = np.repeat(np.arange(classes), each)
    images = 2 * centres[numbers] + random.standard_normal((len(numbers), DIMS[0])) + 1
    said = numbers.copy()
    said[:wrong] = 3 + np.arange(wrong)
    records = [PairRecord(f"p{at:04d}", (f"class {one}",), sha256(f"{at}")) for at, one in enumerate(said)]
    texts = Embeddings.from_raw(words[said] + 1).values
    publish(home, "labels", records, Embeddings.from_raw(images).values, texts)
    return audit(Engine("labels", home=home), options=OPTIONS)
