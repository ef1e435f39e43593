"""Near duplicates: cosines to the first of a group, and thresholds that are too low."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.audit_results import find_finding
from support.audit_sets import cosines

from asif.engine import Engine
from asif.evaluate.audit import FINDING_KINDS, AuditOptions, AuditResult, audit


def test_near_duplicates_come_with_cosines_to_the_first(audited: AuditResult) -> None:
    results = audited.to_json()
    (entry,) = results["findings"][FINDING_KINDS.index("near_image")]["listed"]
    first, other = entry["pairs"]
    rows = [int(pair["id"][1:]) for pair in entry["pairs"]]
    assert (first["image_cosine"], first["caption_cosine"]) == pytest.approx((1.0, 1.0))
    for side, name in (("image", "image_cosine"), ("text", "caption_cosine")):
        assert other[name] == pytest.approx(cosines(audited.anchors, side)[rows[0], rows[1]], abs=1e-5)


def test_too_low_a_threshold_is_noted(store: Path) -> None:
    finding = find_finding(audit(Engine("planted", home=store), options=AuditOptions(near=0.5)), "near_image")
    assert "raise --near" in finding.notes[0]
