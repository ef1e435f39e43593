"""Zero-shot classification with encoders that hash: figures against the definition, rows counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.engine_sets import IMAGE_DIM, TEXT_DIM, fake_image, fake_text, make_precomputed
from support.evaluation_sets import (
    ROWS,
    WORDS,
    image_column,
    labelled,
    labels_of,
    precomputed_pairs,
    represented,
    vectors,
)
from support.pair_files import table

from asif.aligners import make_aligner
from asif.building import Tolerance
from asif.classify import Labels
from asif.engine import Engine
from asif.errors import EncoderMismatch, InputRefused, UsageError
from asif.evaluate import RowLimits, evaluate_classification, evaluate_retrieval
from asif.pairs import LabelledImages, Reject, open_captioned, open_labelled
from asif.vectors import Embeddings


def test_classification_is_what_its_scores_say(engine: Engine, tmp_path: Path) -> None:
    data = labelled(tmp_path)
    labels = Labels(data.classes, ("a {}.", "{}!"), "mean")
    result = evaluate_classification(engine, data, labels)
    texts = [vectors(fake_text(), [f"a {label}.", f"{label}!"]).values.mean(axis=0) for label in data.classes]
    image = vectors(fake_image(), [f"image {row}".encode() for row in range(ROWS)])
    every = represented(engine, image, Embeddings.from_raw(texts), "image")
    order = np.argsort(-every, axis=1, kind="stable")
    truth = np.array([data.classes.index(label) for label in labels_of(ROWS)])
    recalls = [(order[truth == label, 0] == label).mean() for label in range(len(data.classes))]
    expected = {
        "acc1": (order[:, 0] == truth).mean(),
        "acc5": (order[:, :5] == truth[:, None]).any(axis=1).mean(),
        "mean_per_class_recall": np.mean(recalls),
    }
    assert result.metrics == pytest.approx(expected, abs=1e-12)
    assert list(result.metrics) == list(expected)
    assert 0 < result.metrics["acc1"] < result.metrics["acc5"] < 1  # type: ignore[operator]
    counted = {"in": ROWS, "kept": ROWS, "rejected": 0, "images": ROWS, "classes": 7, "classes_with_images": 7}
    assert result.counts == {
        **counted,
        "images_among_anchors": 20,
        "images_near_anchors": 0,
    }  # pairs of test sets are made of such images


def test_acc5_needs_five_classes(toy: Engine, tmp_path: Path) -> None:
    data = open_labelled(table(tmp_path / "a.parquet", image=image_column(4), label=["a", "b", "c", "d"]))
    metrics = evaluate_classification(toy, data, Labels(data.classes)).metrics
    assert metrics["acc5"] is None
    assert metrics["acc1"] is not None


def test_a_limit_leaves_the_classes_as_they_are(toy: Engine, tmp_path: Path) -> None:
    data = labelled(tmp_path)
    counts = evaluate_classification(toy, data, Labels(data.classes), limits=RowLimits(limit=2)).counts
    assert (counts["in"], counts["classes"], counts["classes_with_images"]) == (2, 7, len(set(labels_of(2))))
    with pytest.raises(UsageError, match="labels of the data are missing: Faces"):
        evaluate_classification(toy, data, Labels(tuple(word for word in WORDS if word != "Faces")))


def test_bad_rows_are_counted_and_left_out(toy: Engine, tmp_path: Path) -> None:
    rejects: list[Reject] = []
    done: list[int] = []
    data, labels = labelled(tmp_path, bad=(0, 40, 66)), Labels(tuple(sorted(WORDS)))
    limits = RowLimits(max_bad_rows=Tolerance(number=3), progress=done.append, rejected=rejects.append)
    result = evaluate_classification(toy, data, labels, limits=limits)
    assert [reject.row for reject in rejects] == [0, 40, 66]
    assert {reject.reason for reject in rejects} == {"a bad image"}
    assert [result.counts[name] for name in ("in", "kept", "rejected")] == [67, 64, 3]
    assert done == list(range(1, 68))
    with pytest.raises(InputRefused, match="3 bad rows"):
        evaluate_classification(toy, data, labels, limits=RowLimits(max_bad_rows=Tolerance(number=2)))
    bad = labelled(tmp_path / "all", 2, bad=(0, 1))
    with pytest.raises(InputRefused, match=r"no row of .* can be used"):
        evaluate_classification(toy, bad, labels, limits=RowLimits(max_bad_rows=Tolerance(1.0)))


def test_names_change_prompts_and_not_labels(toy: Engine, tmp_path: Path) -> None:
    data = labelled(tmp_path)
    names = tuple((f"name of {label}",) for label in data.classes)
    plain = evaluate_classification(toy, data, Labels(data.classes, ("name of {}",)))
    named = evaluate_classification(toy, data, Labels(data.classes, names=names))
    assert named.metrics == plain.metrics
    assert named.metrics != evaluate_classification(toy, data, Labels(data.classes)).metrics


def labelled_vectors(path: Path, count: int = 30, width: int = IMAGE_DIM) -> LabelledImages:
    """Write image vectors with one of six labels each."""
    images = np.random.default_rng(4).standard_normal((count, width)).astype(np.float32)
    column = pa.array(list(images), pa.list_(pa.float32(), width))
    pq.write_table(pa.table({"image_embedding": column, "label": [f"class {row % 6}" for row in range(count)]}), path)
    return open_labelled(path)


@pytest.mark.parametrize("rows", [7, 8192])
def test_vectors_in_place_of_labelled_images(
    home: Path, tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asif.evaluate.classification.IMAGE_BATCH", rows)
    make_precomputed(tmp_path / "pairs", home).close()
    engine, data = Engine("vectors", home=home, aligner=make_aligner("asif")), labelled_vectors(tmp_path / "v.parquet")
    labels = Labels(data.classes, ("{}", "a {}."))
    said = Embeddings.from_raw(np.random.default_rng(5).standard_normal((12, TEXT_DIM)))
    result = evaluate_classification(engine, data, labels, label_vectors=said)
    fitted = engine.role().fitted
    images = Embeddings.from_raw(np.stack([pair.image_embedding for pair in data.source.read()]))
    means = Embeddings.from_raw(said.values.reshape(6, 2, -1).mean(axis=1))
    every = fitted.represent("image", images).to_dense() @ fitted.represent("text", means).to_dense().T
    order, right = np.argsort(-every, axis=1, kind="stable"), np.arange(30) % 6
    assert result.metrics["acc1"] == pytest.approx((order[:, 0] == right).mean())
    assert result.metrics["acc5"] == pytest.approx((order[:, :5] == right[:, None]).any(axis=1).mean())
    assert (result.counts["kept"], result.counts["images"], result.counts["images_among_anchors"]) == (30, 30, 0)


def test_vectors_of_one_side_are_refused(toy: Engine, home: Path, tmp_path: Path) -> None:
    make_precomputed(tmp_path / "pairs", home).close()
    engine, data = Engine("vectors", home=home), labelled_vectors(tmp_path / "v.parquet")
    said = Embeddings.from_raw(np.random.default_rng(5).standard_normal((6, TEXT_DIM)))
    labels = Labels(data.classes)
    with pytest.raises(UsageError, match="vectors of images, and none of labels"):
        evaluate_classification(engine, data, labels)
    with pytest.raises(UsageError, match="6 label vectors"):
        evaluate_classification(engine, data, Labels(data.classes, ("{}", "a {}.")), label_vectors=said)
    with pytest.raises(EncoderMismatch, match="images for toy@1, made with timm:fake"):
        evaluate_classification(toy, data, labels, label_vectors=said)
    with pytest.raises(EncoderMismatch, match="image vectors of 3 dimensions"):
        evaluate_classification(engine, labelled_vectors(tmp_path / "w.parquet", width=3), labels, label_vectors=said)
    images = labelled(tmp_path / "images")
    with pytest.raises(UsageError, match="images to be encoded, and vectors of labels"):
        evaluate_classification(toy, images, Labels(images.classes), label_vectors=said)


def test_vectors_for_other_anchors_are_refused(toy: Engine, tmp_path: Path, home: Path) -> None:
    path, _, _ = precomputed_pairs(tmp_path / "queries")
    with pytest.raises(EncoderMismatch, match="images and captions for toy"):
        evaluate_retrieval(toy, open_captioned(path))
    make_precomputed(tmp_path / "pairs", home).close()
    np.save(path / "text_emb_0.npy", np.ones((18, TEXT_DIM + 1), np.float32))
    with pytest.raises(EncoderMismatch, match="6 \\(text\\) dimensions"):
        evaluate_retrieval(Engine("vectors", home=home), open_captioned(path))
