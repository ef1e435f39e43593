"""Metrics against their definitions, scikit-learn and torchmetrics, and where they are not defined."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from asif.evaluate.metrics import accuracy, best_ranks, mean_per_class_recall, median_rank, recall_at
from asif.vectors import Float32, Int64


def torchmetrics() -> Any:
    """Import torchmetrics, which warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchmetrics.classification
        import torchmetrics.retrieval

    return torchmetrics


def answers(seed: int, rows: int, classes: int) -> tuple[Float32, Int64, Int64]:
    """Draw scores without ties, the classes in their order, and the truth, in which every class is there."""
    random = np.random.default_rng(seed)
    scores = random.permutation(rows * classes).reshape(rows, classes).astype(np.float32) / (rows * classes)
    truth = np.concatenate([np.arange(classes), random.integers(0, classes, rows - classes)])
    return scores, np.argsort(-scores, axis=1), truth


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("rows", "classes"), [(7, 7), (67, 5), (300, 13)])
def test_accuracies_are_those_of_others(seed: int, rows: int, classes: int) -> None:
    import torch

    scores, predicted, truth = answers(seed, rows, classes)
    for k in (1, 5):
        if k < classes:
            expected = top_k_accuracy_score(truth, scores, k=k, labels=range(classes))
            assert accuracy(predicted, truth, k, classes) == pytest.approx(expected, abs=1e-12)
        theirs = torchmetrics().classification.MulticlassAccuracy(classes, top_k=k, average="micro")(
            torch.tensor(scores), torch.tensor(truth)
        )
        assert accuracy(predicted, truth, k, classes) == pytest.approx(float(theirs), abs=1e-6)
    recall = mean_per_class_recall(predicted[:, 0], truth)
    assert recall == pytest.approx(balanced_accuracy_score(truth, predicted[:, 0]), abs=1e-12)
    macro = torchmetrics().classification.MulticlassRecall(classes, average="macro")(
        torch.tensor(scores), torch.tensor(truth)
    )
    assert recall == pytest.approx(float(macro), abs=1e-6)
    assert recall != pytest.approx(accuracy(predicted, truth, 1, classes), abs=1e-9) or rows == classes


def test_classes_without_rows_do_not_count() -> None:
    predicted, truth = np.array([0, 3, 1, 1]), np.array([0, 0, 1, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn remarks that 3 is never right
        expected = balanced_accuracy_score(truth, predicted)
    assert mean_per_class_recall(predicted, truth) == expected == 0.75


def test_what_is_not_defined_is_none() -> None:
    none = np.empty(0, np.int64)
    assert accuracy(np.empty((0, 5), np.int64), none, 1, classes=5) is None
    assert accuracy(np.array([[0, 1, 2, 3]]), np.array([0]), 5, classes=4) is None
    assert accuracy(np.array([[0, 1, 2, 3, 4]]), np.array([4]), 5, classes=5) == 1.0
    assert mean_per_class_recall(none, none) is None
    assert recall_at(none, 5, 100) is None and median_rank(none) is None
    assert recall_at(np.array([0]), 5, 4) is None
    assert recall_at(np.array([3]), 5, 5) == 1.0


def ranks_by_sorting(scores: Float32, right: list[Int64]) -> list[int]:
    """Rank by the definition: a stable sort, and the first right one in it."""
    found = []
    for row, some in zip(scores, right, strict=True):
        order = sorted(range(len(row)), key=lambda at, row=row: -row[at])
        found.append(min(order.index(at) for at in some))
    return found


@st.composite
def searches(draw: st.DrawFn) -> tuple[Float32, list[Int64]]:
    queries, candidates = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    few = st.sampled_from([-1.0, 0.0, 0.25, 0.5])  # ties abound
    scores = draw(arrays.arrays(np.float32, (queries, candidates), elements=few))
    some = st.sets(st.integers(0, candidates - 1), min_size=1)
    return scores, [np.array(draw(st.permutations(sorted(draw(some)))), np.int64) for _ in range(queries)]


@given(searches())
def test_ranks_are_those_of_a_stable_sort(search: tuple[Float32, list[Int64]]) -> None:
    scores, right = search
    ranks = best_ranks(scores, right)
    assert ranks.tolist() == ranks_by_sorting(scores, right)
    halves = [best_ranks(scores[some], right[some]) for some in (slice(0, 2), slice(2, None))]
    assert np.concatenate(halves).tolist() == ranks.tolist()
    recalls = [recall_at(ranks, k, scores.shape[1]) for k in range(1, scores.shape[1] + 1)]
    assert recalls == sorted(recalls) and recalls[-1] == 1.0


def flat(scores: Float32, right: list[Int64]) -> tuple[NDArray[Any], ...]:
    target = np.zeros(scores.shape, bool)
    for row, some in enumerate(right):
        target[row, some] = True
    return scores.ravel(), target.ravel(), np.repeat(np.arange(len(scores)), scores.shape[1])


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_is_a_hit_rate(k: int) -> None:
    import torch

    random = np.random.default_rng(k)
    scores = random.permutation(40 * 60).reshape(40, 60).astype(np.float32)
    right = [random.choice(60, size=random.integers(1, 6), replace=False) for _ in scores]
    preds, target, indexes = (torch.tensor(part) for part in flat(scores, right))
    expected = torchmetrics().retrieval.RetrievalHitRate(top_k=k)(preds, target, indexes=indexes)
    found = recall_at(best_ranks(scores, right), k, 60)
    assert found == pytest.approx(float(expected), abs=1e-6)
    assert 0 < found < 1


def test_median_rank_counts_from_one() -> None:
    assert median_rank(np.array([0, 0, 9])) == 1.0
    assert median_rank(np.array([0, 3])) == 2.5
