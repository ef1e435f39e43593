"""Use of anchors: counts are those of sorting everything, with any ties and copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audit_results import count_expected_use

from asif.evaluate.audit import AuditResult
from asif.evaluate.audit.near_duplicates import ExcludedCopies, NearPairs
from asif.evaluate.audit.usage import AnchorUsage, count_usage
from asif.vectors import SIDES


@pytest.mark.parametrize("side", SIDES)
def test_use_is_that_of_sorting_everything(audited: AuditResult, side: Any) -> None:
    use = audited.usage[side]
    np.testing.assert_array_equal(use.counts, count_expected_use(audited, side, use.k, range(audited.anchors.count)))
    about = use.to_json()
    away = use.counts - use.counts.mean()
    assert about["skewness"] == pytest.approx((away**3).mean() / (away**2).mean() ** 1.5)
    assert sum(anchors for _, _, anchors in about["histogram"]) == audited.anchors.count
    assert about["unused"] == (use.counts == 0).sum() and about["most"] == use.counts.max()


@given(st.data())
def test_use_with_any_ties_and_copies(data: st.DataObject) -> None:
    count, k = data.draw(st.integers(4, 9)), data.draw(st.integers(1, 3))
    numbers = st.lists(st.integers(0, 3), min_size=count, max_size=count).map(np.array)
    equal, copies = data.draw(numbers), data.draw(numbers)
    rows = np.arange(count)
    edges = [(i, j) for i in range(count) for j in range(count) if copies[i] != copies[j] and (i + j) % 5 == 0]
    near_pairs = NearPairs(*(np.array([edge[at] for edge in edges], np.int64) for at in (0, 1)), count)
    lists, expected = [], np.zeros(count, int)
    for row in range(count):
        out = {at for at in range(count) if copies[at] == copies[row] or (row, at) in edges}
        near = [at for at in range(count) if at not in out][:k]
        lists.append(near + [-1] * (k - len(near)))
        expected[[at for at in range(count) if at not in out and equal[at] in equal[near]]] += bool(near)
    use = count_usage(np.array(lists), equal, k, ExcludedCopies(rows, copies, near_pairs))
    assert use.counts.tolist() == expected.tolist()


def test_queries_that_are_too_few_judge_nothing() -> None:
    few = AnchorUsage(np.array([3, *[0] * 99]), 3, 1)
    assert few.inconclusive_because is not None and "too few" in few.inconclusive_because
    assert few.unused_by_chance == pytest.approx(100 * 0.99**3)
    assert AnchorUsage(np.full(100, 20), 100, 20).inconclusive_because is None
    most = AnchorUsage(np.full(10, 60), 100, 6)
    assert most.inconclusive_because is not None and "tells little apart" in most.inconclusive_because
    assert AnchorUsage(np.array([0, 1, 4]), 3, 1).histogram == [[0, 0, 1], [1, 1, 1], [2, 3, 0], [4, 7, 1]]
