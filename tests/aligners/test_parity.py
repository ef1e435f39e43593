"""`asif-paper` gives what the published code gives, for the inputs and outputs recorded in the real data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from asif.aligners import make_aligner
from asif.classify import Labels, represent_labels
from asif.compare import Candidates, rank_candidates, score_candidates
from asif.vectors import Embeddings, Float32, Side, SparseRows

pytestmark = pytest.mark.realdata
RUNS = [(count, k, power) for count in (1000, 3000, 6000) for k in (100, 800) for power in (1, 4, 8)]
ABSOLUTE, RELATIVE = 1e-8, 3e-5


class First:
    """The first rows of anchors in memory."""

    def __init__(self, sides: dict[Side, Float32], count: int) -> None:
        self.sides = sides
        self.count = count

    def blocks(self, side: Side) -> list[NDArray[Any]]:
        return [self.sides[side][: self.count]]

    def mean(self, side: Side) -> NDArray[np.float64]:
        raise AssertionError("the published code does not centre")


@dataclass(frozen=True)
class Parity:
    """Inputs as the published code had them: float16 -> float32 -> unit rows."""

    data: Path

    @cached_property
    def anchors(self) -> dict[Side, Float32]:
        features = self.data / "flickr8k" / "features"
        image, text = (np.load(features / f"train-{name}.npy") for name in ("image-lite0", "text-minilm"))
        return {"image": Embeddings.from_raw(image).values, "text": Embeddings.from_raw(text[:, 0]).values}

    @cached_property
    def expected(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "parity" / "expected.json").read_text())
        return found

    @cached_property
    def labels(self) -> Labels:
        return Labels(tuple(self.expected["classes"]), tuple(self.expected["templates"]), "max")

    def load(self, name: str) -> Any:
        return np.load(self.data / "parity" / name)

    def represent(self, count: int, k: int, power: float) -> tuple[SparseRows, Candidates]:
        """Return image rows and, by way of our own labels and prompts, label rows."""
        fitted = make_aligner("asif-paper", k=k, power=power).fit(First(self.anchors, count))
        prompts = Embeddings.from_raw(self.load("prompts.npy"))

        def encode(texts: Any) -> Embeddings:
            assert list(texts) == self.labels.prompts()  # class-major, as recorded
            return prompts

        return fitted.represent("image", Embeddings.from_raw(self.load("images.npy"))), represent_labels(
            self.labels, encode, fitted
        )


@pytest.fixture(scope="module")
def parity(realdata: Path) -> Parity:
    return Parity(realdata)


def test_every_recorded_run_is_tested(parity: Parity) -> None:
    assert sorted((run["anchors"], run["k"], run["p"]) for run in parity.expected["results"]) == sorted(RUNS)


@pytest.mark.parametrize(("count", "k", "power"), RUNS)
def test_top1_is_exactly_the_published_one(parity: Parity, count: int, k: int, power: int) -> None:
    published = {(run["anchors"], run["k"], run["p"]): run["top1"] for run in parity.expected["results"]}
    images, candidates = parity.represent(count, k, power)
    best = rank_candidates(images, candidates, 1).indices[:, 0]
    right = int((best == parity.load("labels.npy")).sum())
    assert right == round(published[count, k, power] * len(best))
    assert right / len(best) == pytest.approx(published[count, k, power], abs=1e-7)
    flat = score_candidates(images, Candidates(candidates.rows)).argmax(axis=1)  # as published: over all prompts
    np.testing.assert_array_equal(best, flat // len(parity.labels.templates))


@pytest.mark.parametrize("k", [100, 800])
def test_similarities_are_the_published_ones(parity: Parity, k: int) -> None:
    published = parity.load("similarities.npz")[f"k{k}_p8"].astype(np.float64)
    images, candidates = parity.represent(6000, k, 8)
    found = score_candidates(images, Candidates(candidates.rows)).astype(np.float64)
    assert published.max() > 2e-3  # so the bound below is 4e-6 of the largest
    np.testing.assert_allclose(found, published, rtol=0, atol=ABSOLUTE)
    np.testing.assert_allclose(found, published, rtol=RELATIVE, atol=0)
    np.testing.assert_array_equal(found == 0, published == 0)
    np.testing.assert_array_equal(found.argmax(axis=1), published.argmax(axis=1))


def test_both_sides_normalised_gives_the_same_labels(parity: Parity) -> None:
    paper, _ = parity.represent(6000, 100, 8)
    fitted = make_aligner("asif", k=100, power=8).fit(First(parity.anchors, 6000))
    own = fitted.represent("image", Embeddings.from_raw(parity.load("images.npy")))
    candidates = Candidates(fitted.represent("text", Embeddings.from_raw(parity.load("prompts.npy"))), 3)
    np.testing.assert_array_equal(
        rank_candidates(own, candidates, 1).indices, rank_candidates(paper, candidates, 1).indices
    )
    assert not np.allclose(own.values, paper.values, atol=0.1)
