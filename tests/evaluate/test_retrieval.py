"""Zero-shot retrieval with encoders that hash: figures against the definition, shared captions, near anchors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from support.engine_sets import IMAGE_DIM, TEXT_DIM, fake_image, fake_text, make_precomputed
from support.evaluation_sets import (
    captioned,
    captions_of,
    image_column,
    precomputed_pairs,
    represented,
    vectors,
)
from support.pair_files import IMAGE

from asif.building import Tolerance
from asif.classify import Labels
from asif.engine import Engine
from asif.errors import InputRefused
from asif.evaluate import RowLimits, evaluate_classification, evaluate_retrieval
from asif.pairs import Reject, open_captioned, open_labelled
from asif.vectors import Embeddings, Side


def expected_figures(every: NDArray[Any], owners: NDArray[Any], query: Side, ks: tuple[int, ...]) -> list[float]:
    """Follow the definition: sort, and look whether a right one is among the first k."""
    own = owners[None, :] == np.arange(owners.max() + 1)[:, None]  # [images, captions]
    right = np.take_along_axis(own if query == "image" else own.T, np.argsort(-every, axis=1, kind="stable"), axis=1)
    return [*(float(right[:, :k].any(axis=1).mean()) for k in ks), float(np.median(right.argmax(axis=1))) + 1]


@pytest.mark.parametrize("block", [1, 500, 1 << 24])
def test_retrieval_is_what_its_scores_say(
    engine: Engine, tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asif.engine.predict.SCORES_PER_BLOCK", block)
    captions = captions_of(40)
    result = evaluate_retrieval(engine, captioned(tmp_path, captions))
    image = vectors(fake_image(), [f"image {row}".encode() for row in range(40)])
    text = vectors(fake_text(), [caption for some in captions for caption in some])
    owners = np.repeat(np.arange(40), [len(some) for some in captions])
    for query, way in (("image", "text"), ("text", "image")):
        every = represented(engine, image, text, query)  # type: ignore[arg-type]
        names = [f"{way}_retrieval_recall@{k}" for k in (1, 5, 10)] + [f"{way}_retrieval_median_rank"]
        found = {**result.further, **result.metrics}
        figures = expected_figures(every, owners, query, (1, 5, 10))  # type: ignore[arg-type]
        assert [found[name] for name in names] == pytest.approx(figures, abs=1e-12)
        assert figures[0] < figures[2] < 1
    assert list(result.metrics) == ["image_retrieval_recall@5", "text_retrieval_recall@5"]
    assert result.counts["captions"] == len(owners) and result.counts["captions_shared"] == 0
    assert result.shared == {**result.metrics, **result.further}


@pytest.mark.parametrize(("most", "sizes"), [(1, [1] * 9), (11, [2, 2, 2, 2, 1]), (1 << 24, [9])])
def test_scores_come_in_blocks(toy: Engine, most: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.engine.predict.SCORES_PER_BLOCK", most)
    image = vectors(fake_image(), [f"image {row}".encode() for row in range(5)])
    text = vectors(fake_text(), [f"text {row}" for row in range(9)])
    blocks = list(toy.score_blocks("text", text, image))
    assert [len(block) for block in blocks] == sizes
    np.testing.assert_array_equal(np.concatenate(blocks), represented(toy, image, text, "text"))


def test_rows_with_equal_images_are_one_image(toy: Engine, tmp_path: Path) -> None:
    whole = evaluate_retrieval(toy, captioned(tmp_path / "whole", captions_of(30)))
    rows = [(row, caption) for row, some in enumerate(captions_of(30)) for caption in some]
    images = pa.array([{"bytes": f"image {row}".encode(), "path": None} for row, _ in rows], IMAGE)
    split = evaluate_retrieval(toy, captioned(tmp_path / "split", [[caption] for _, caption in rows], image=images))
    assert (split.metrics, split.further, split.shared) == (whole.metrics, whole.further, whole.shared)
    assert (split.counts["in"], split.counts["images"]) == (len(rows), 30)


def test_captions_that_images_share(toy: Engine, tmp_path: Path) -> None:
    """All images have one caption: in order of position only the first can be found, by content any."""
    result = evaluate_retrieval(toy, captioned(tmp_path, [["the same"] for _ in range(8)]))
    found = {**result.metrics, **result.further}
    assert found["text_retrieval_recall@1"] == 1 / 8
    assert found["text_retrieval_recall@5"] == 5 / 8
    assert found["image_retrieval_recall@1"] == 1 / 8
    shared = result.shared
    assert shared is not None
    assert shared["text_retrieval_recall@1"] == shared["image_retrieval_recall@1"] == 1.0
    assert shared["image_retrieval_median_rank"] == 1.0
    assert result.counts["captions_shared"] == 8
    assert found["image_retrieval_recall@10"] is None


def test_some_shared_captions_against_the_definition(toy: Engine, tmp_path: Path) -> None:
    captions = [[f"shared {row % 2}", f"own {row}"] for row in range(12)]
    result = evaluate_retrieval(toy, captioned(tmp_path, captions))
    image = vectors(fake_image(), [f"image {row}".encode() for row in range(12)])
    flat = [caption for some in captions for caption in some]
    every = represented(toy, image, vectors(fake_text(), flat), "image")
    order = np.argsort(-every, axis=1, kind="stable")[:, :5]
    hits = [any(flat[at] in own for at in best) for best, own in zip(order, captions, strict=True)]
    shared = result.shared
    assert shared is not None
    assert shared["text_retrieval_recall@5"] == pytest.approx(np.mean(hits), abs=1e-12)
    strict = {**result.metrics, **result.further}
    assert shared.keys() == strict.keys() and shared != strict
    assert all(shared[name] >= strict[name] for name in strict if "recall" in name)
    assert all(shared[name] <= strict[name] for name in strict if "rank" in name)
    assert result.counts["captions_shared"] == 12


def test_bad_images_of_retrieval(toy: Engine, tmp_path: Path) -> None:
    rejects: list[Reject] = []
    source = captioned(tmp_path, captions_of(10), image=image_column(10, bad=(3,)))
    result = evaluate_retrieval(toy, source, limits=RowLimits(max_bad_rows=Tolerance(0.1), rejected=rejects.append))
    assert [(reject.row, reject.reason) for reject in rejects] == [(3, "a bad image")]
    assert [result.counts[name] for name in ("in", "kept", "rejected", "images")] == [10, 9, 1, 9]
    with pytest.raises(InputRefused, match="1 bad rows"):
        evaluate_retrieval(toy, source)


def test_vectors_in_place_of_images_and_captions(home: Path, tmp_path: Path) -> None:
    make_precomputed(tmp_path / "pairs", home).close()
    engine = Engine("vectors", home=home)
    path, image, text = precomputed_pairs(tmp_path / "queries")
    result = evaluate_retrieval(engine, open_captioned(path))
    rows = Embeddings.from_raw(image.astype(np.float32)), Embeddings.from_raw(text.astype(np.float32))
    figures = expected_figures(represented(engine, *rows, "image"), np.arange(9).repeat(2), "image", (1, 5))
    assert result.further["text_retrieval_recall@1"] == pytest.approx(figures[0], abs=1e-12)
    assert result.metrics["text_retrieval_recall@5"] == pytest.approx(figures[1], abs=1e-12)
    counts = evaluate_retrieval(engine, open_captioned(tmp_path / "pairs")).counts
    assert (result.counts["images_near_anchors"], counts["images_among_anchors"], counts["images_near_anchors"]) == (
        0,
        20,
        20,
    )


def test_images_near_anchors_are_counted_once(home: Path, tmp_path: Path) -> None:
    anchors = make_precomputed(tmp_path / "pairs", home)
    known = np.concatenate(anchors.blocks("image")).astype(np.float64)
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    across = np.roll(known, 1, axis=1)
    across -= (across * known).sum(axis=1, keepdims=True) * known
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    cosines = np.array([1.0, 0.9505, 0.9495, 0.5])
    rows = (cosines[:, None] * known[:4] + np.sqrt(1 - cosines**2)[:, None] * across[:4])[[0, 1, 1, 2, 3]]
    assert ((rows @ known.T).max(axis=1) > 0.95).tolist() == [True, True, True, False, False]
    column = pa.array(list(rows.astype(np.float32)), pa.list_(pa.float32(), IMAGE_DIM))
    pq.write_table(pa.table({"image_embedding": column, "label": list("ababa")}), tmp_path / "v.parquet")
    data, said = open_labelled(tmp_path / "v.parquet"), Embeddings.from_raw(np.eye(2, TEXT_DIM))
    found = evaluate_classification(Engine("vectors", home=home), data, Labels(data.classes), label_vectors=said)
    assert (found.counts["images"], found.counts["images_near_anchors"]) == (4, 2)
