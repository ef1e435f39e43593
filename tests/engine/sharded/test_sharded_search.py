"""Search and classification by workers: the bits of one machine, for any number of workers, or an error."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.engine_sets import fake_image, fake_text, make_set
from support.galleries import build, some_files, write_files
from support.worker_pools import InlinePool, Killed

from asif.aligners import Aligner, Hubness, Moments, make_aligner
from asif.anchorset import Store
from asif.cluster.pool import ClusterOptions
from asif.engine import Engine
from asif.engine.search.query import Query
from asif.engine.sharded.anchors import ShardedAnchorSet
from asif.engine.sharded.workers import SearchWorkers
from asif.errors import AsifError, UsageError
from asif.kernels import topk_similarity

WORKERS = [1, 2, 7]


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> list[InlinePool]:
    """Let engines start workers in this process; return the pools that they opened."""
    pools: list[InlinePool] = []

    def open_pool(*arguments: Any) -> InlinePool:
        pools.append(InlinePool(*arguments))
        return pools[-1]

    monkeypatch.setattr("asif.engine.sharded.workers.open_ray_pool", open_pool)
    return pools


@pytest.fixture
def stored(home: Path, tmp_path: Path, hashing: None) -> Path:
    """Return a home with anchors, some of which are equal, and a gallery."""
    texts = np.random.default_rng(3).integers(-2, 3, (60, 5)).astype(np.float32) + 0.5
    make_set(home, count=60, texts=texts).close()
    make_set(home, "few", count=3).close()
    write_files(tmp_path / "photos", some_files(30))
    build(tmp_path / "photos", home, fake_image(), dtype="float32")
    return home


def open_sharded(home: Path, workers: int, name: str = "toy") -> ShardedAnchorSet:
    return ShardedAnchorSet(Store(home).open(name), SearchWorkers(ClusterOptions(workers)))


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("name", ["toy", "few"])
@pytest.mark.parametrize("k", [1, 5, 200])
def test_topk_of_shards_is_that_of_all_rows(stored: Path, workers: int, name: str, k: int) -> None:
    opened, sharded = Store(stored).open(name), open_sharded(stored, workers, name)
    for side in ("image", "text"):
        queries = np.concatenate([np.asarray(block, np.float32) for block in opened.blocks(side)])[:40]
        expected = topk_similarity(queries, opened.blocks(side), k)
        found = topk_similarity(queries, sharded.blocks(side), k)
        np.testing.assert_array_equal(found.indices, expected.indices)
        assert found.scores.tobytes() == expected.scores.tobytes()


def test_queries_are_sent_in_parts(stored: Path, monkeypatch: pytest.MonkeyPatch, inline: list[InlinePool]) -> None:
    monkeypatch.setattr("asif.engine.sharded.anchors._SENT_BYTES", 3 * 12 * 4)
    opened, sharded = Store(stored).open("toy"), open_sharded(stored, 2)
    queries = np.asarray(opened.blocks("image")[0], np.float32)[:10]
    found = topk_similarity(queries, sharded.blocks("image"), 4)
    np.testing.assert_array_equal(found.indices, topk_similarity(queries, opened.blocks("image"), 4).indices)
    assert [arguments[2].shape[0] for _, _, arguments in inline[0].calls] == [3, 3, 3, 3, 3, 3, 1, 1]


@pytest.mark.parametrize("workers", WORKERS)
def test_moments_of_shards_add_up(stored: Path, workers: int) -> None:
    expected, found = Moments.of(Store(stored).open("toy")), open_sharded(stored, workers).sum_moments()
    for name, values in expected.as_arrays().items():
        np.testing.assert_allclose(found.as_arrays()[name], values, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("aligner", ["asif(k=5)", "asif(k=5,centre)", "cca", "cca+0.5*asif(k=5)", "asif-paper"])
def test_classification_is_that_of_one_machine(stored: Path, workers: int, aligner: str) -> None:
    images, labels = [b"one", b"two", b"three"], ["cat", "dog", "bird"]

    def classify(**engine: Any) -> list[Any]:
        with Engine("toy", home=stored, aligner=make_aligner(aligner), **engine) as opened:
            return list(opened.classify(images, labels, explain=3))

    found = classify(engine="ray", cluster=ClusterOptions(workers))
    shutil.rmtree(stored / "anchors" / "toy" / "fits", ignore_errors=True)
    for one, other in zip(found, classify(), strict=True):
        assert one.predictions == other.predictions
        assert one.evidence is not None
        assert other.evidence is not None
        assert one.evidence.records == other.evidence.records


def answers_of(home: Path, aligner: Aligner, hubness: Hubness, call: dict[str, Any], **engine: Any) -> list[Any]:
    with Engine("toy", home=home, aligner=aligner, hubness=hubness, **engine) as opened:
        return [replace(answer, timings_ms={}) for answer in opened.search("g", **call)]


CALLS: list[dict[str, Any]] = [
    {"texts": ["a dog", "a cat"], "k": 30},
    {"texts": ["a dog"], "k": 3, "offset": 2, "explain": 2},
    {"images": [b"image 3"], "k": 30},
    {"texts": ["a dog"], "where": "id like 'odd/%'", "k": 4},
    {"images": [b"image 3"], "where": "id like 'odd/00%'", "k": 4},
    {"queries": [Query.of(texts=["a dog"], items=["odd/003.jpg"], minus=["a cat"])], "k": 5},
]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(
    ("aligner", "hubness"), [("asif(k=5)", "none"), ("procrustes", "csls"), ("cca+asif(k=5)", "nnn")]
)
def test_answers_are_those_of_one_machine(stored: Path, workers: int, aligner: str, hubness: Any) -> None:
    chosen = make_aligner(aligner), Hubness(hubness, k=3) if hubness == "nnn" else Hubness(hubness)
    found = [answers_of(stored, *chosen, call, engine="ray", cluster=ClusterOptions(workers)) for call in CALLS]
    for fits in stored.rglob("fits"):
        shutil.rmtree(fits)
    for call, answers in zip(CALLS, found, strict=True):
        expected = answers_of(stored, *chosen, call)
        assert str(answers) == str(expected)
        assert [[result.score for result in answer.results] for answer in answers] == [
            [result.score for result in answer.results] for answer in expected
        ]


# ---- workers that die


def kill(times: int, method: str = "find_topk") -> Callable[..., None]:
    left = [times]

    def before(worker: int, called: str, arguments: tuple[Any, ...]) -> None:
        if called == method and worker == 1 and left[0]:
            left[0] -= 1
            raise Killed

    return before


def test_lost_worker_is_replaced_and_the_answer_complete(stored: Path) -> None:
    opened = Store(stored).open("toy")
    workers = SearchWorkers(ClusterOptions(3), partial(InlinePool, before=kill(2)))
    sharded = ShardedAnchorSet(opened, workers)
    queries = np.asarray(opened.blocks("image")[0], np.float32)[:5]
    found = topk_similarity(queries, sharded.blocks("image"), 60)
    np.testing.assert_array_equal(found.indices, topk_similarity(queries, opened.blocks("image"), 60).indices)


def test_worker_that_is_lost_for_good_is_an_error(stored: Path) -> None:
    opened = Store(stored).open("toy")
    workers = SearchWorkers(ClusterOptions(3), partial(InlinePool, before=kill(3)))
    queries = np.asarray(opened.blocks("image")[0], np.float32)[:5]
    with pytest.raises(AsifError, match="worker 1 died 3 times"):
        topk_similarity(queries, ShardedAnchorSet(opened, workers).blocks("image"), 5)
    found = topk_similarity(queries, ShardedAnchorSet(opened, workers).blocks("image"), 5)  # it has been replaced
    np.testing.assert_array_equal(found.indices, topk_similarity(queries, opened.blocks("image"), 5).indices)


# ---- what is refused


def test_views_and_approximate_searches_are_refused(stored: Path) -> None:
    with pytest.raises(UsageError, match="one whole set"):
        Engine("toy", where="id = 'a'", home=stored, engine="ray")
    with Engine("toy", home=stored, engine="ray", aligner=make_aligner("cca")) as engine:
        with pytest.raises(UsageError, match="one whole set"):
            engine.classify([b"one"], ["cat"], anchors="toy+few")
        with pytest.raises(UsageError, match="approximate"):
            list(engine.search("g", texts=["a dog"], approximate=True))
    with pytest.raises(UsageError, match="local or ray"):
        Engine("toy", home=stored, engine="spark")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="local engine"):
        Engine("toy", home=stored, cluster=ClusterOptions(2))


def test_workers_end_with_the_engine(stored: Path, inline: list[InlinePool]) -> None:
    with Engine("toy", home=stored, engine="ray", cluster=ClusterOptions(2)) as engine:
        assert not inline  # they start on the first search
        list(engine.classify([b"one"], ["cat", "dog"]))
        assert not inline[0].closed
    assert inline[0].closed


def test_text_encoder_is_the_one_of_the_set(stored: Path) -> None:
    with Engine("toy", home=stored, engine="ray") as engine:
        assert engine.encode_texts(["a"]).values.shape == (1, fake_text().dim)
