"""Audits: every planted fault is found, and nothing else; samples, small sets, engines and blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.audit_results import OPTIONS, count_expected_use, find_finding, list_ids
from support.audit_sets import NEAR, Planted, planted
from support.engine_sets import make_set

from asif.engine import Engine
from asif.errors import InputRefused, UsageError
from asif.evaluate.audit import FINDING_KINDS, AuditOptions, AuditResult, audit
from asif.kernels import KernelName as Kernel


def test_what_was_planted_is_found_and_nothing_else(audited: AuditResult, faults: Planted) -> None:
    firsts = {"same_pair": "p0010", "same_image": "p0020", "same_embedding": "p0030", "near_image": "p0040"}
    assert tuple(each.kind for each in audited.findings) == FINDING_KINDS
    for kind in FINDING_KINDS:
        expected = {*faults.ids[kind], *([firsts[kind]] if kind in firsts else [])}
        assert list_ids(audited, find_finding(audited, kind).rows) == expected, kind
        assert set(audited.removable_ids(find_finding(audited, kind))) == (
            set(faults.ids[kind][1:]) if kind == "shared_caption" else set(faults.ids[kind])
        ), kind


def test_clean_pairs_have_none(tmp_path: Path) -> None:
    good = planted()
    keep = [record.id in good.ids["good"] for record in good.records]
    for name in ("records", "image", "text"):
        setattr(good, name, [each for each, kept in zip(getattr(good, name), keep, strict=True) if kept])
    good.build(tmp_path, "good")
    results = audit(Engine("good", home=tmp_path), options=OPTIONS).to_json()
    assert [(each["kind"], each["anchors"], each["listed"]) for each in results["findings"]] == [
        (kind, 0, []) for kind in FINDING_KINDS
    ]


@pytest.mark.parametrize("kernel", ["faiss", "torch"])
def test_results_depend_on_neither_kernel_nor_blocks(
    audited: AuditResult, faults: Planted, tmp_path: Path, kernel: Kernel
) -> None:
    faults.build(tmp_path, cut=1000)
    other = audit(Engine("planted", home=tmp_path, kernel=kernel), options=OPTIONS).to_json()
    mine = audited.to_json()
    for each in (mine, other):
        del each["created"]
    assert mine == other


def test_a_sample_is_compared_with_all_and_exact_copies_are_found_among_all(store: Path, faults: Planted) -> None:
    engine, options = Engine("planted", home=store), AuditOptions(NEAR, sample=50, seed=4)
    some, again = (audit(engine, options=options) for _ in range(2))
    assert some.method.sampled and some.method.queries == 50
    assert [each.rows.tolist() for each in some.findings] == [each.rows.tolist() for each in again.findings]
    for kind in ("same_pair", "same_image", "same_embedding"):
        assert set(some.removable_ids(find_finding(some, kind))) == set(faults.ids[kind])
    rows = np.sort(np.random.default_rng(4).choice(some.anchors.count, 50, replace=False))
    use = some.usage["image"]
    assert use.queries == 50
    np.testing.assert_array_equal(use.counts, count_expected_use(some, "image", use.k, rows.tolist()))
    assert set(find_finding(some, "disagreement").rows) <= set(rows.tolist())
    other = audit(engine, options=AuditOptions(NEAR, sample=50, seed=5))
    assert other.usage["image"].counts.tolist() != use.counts.tolist()


def test_small_sets_are_audited_too_and_tiny_ones_refused(tmp_path: Path) -> None:
    small = audit(Engine("toy", home=make_set(tmp_path, count=3) and tmp_path))
    assert small.anchors.count == 3 and any("so few" in note for note in find_finding(small, "disagreement").notes)
    never_used = find_finding(small, "never_used")
    assert "Not judged" in never_used.notes[0] and not len(never_used.rows)
    make_set(tmp_path, "two", count=2)
    with pytest.raises(InputRefused, match="2 anchors"):
        audit(Engine("two", home=tmp_path))


@pytest.mark.parametrize("near", [0.0, 1.0, -1.0, 2.0, float("nan")])
def test_a_threshold_is_a_cosine(near: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        AuditOptions(near=near)


def test_an_aligner_about_the_mean_decides_what_is_near(store: Path, faults: Planted, audited: AuditResult) -> None:
    from asif.aligners.relative import Relative

    centred = audit(Engine("planted", home=store, aligner=Relative(k=7, centre=True)), options=OPTIONS)
    assert (centred.method.k, centred.method.centre, centred.method.k_from) == (7, True, "profile")
    hub = find_finding(centred, "hub")
    assert not set(faults.ids["hub"]) & list_ids(centred, hub.rows)  # its direction is the mean's, and gone
    np.testing.assert_array_equal(find_finding(centred, "near_image").rows, find_finding(audited, "near_image").rows)
