"""Evaluations with encoders that hash: figures against the definition, rows counted, provenance complete."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from support.engine_sets import IMAGE_DIM, TEXT_DIM, fake_image, fake_text, make_precomputed, make_set
from support.pair_files import IMAGE, table

from asif.aligners import Hubness, make_aligner
from asif.aligners.hubness import build_query_bank
from asif.building import Tolerance
from asif.classify import Labels
from asif.compare import Candidates, score_candidates
from asif.engine import Engine
from asif.errors import EncoderMismatch, InputRefused, UsageError
from asif.evaluate import Terms, classes_of, evaluate_classification, evaluate_retrieval, read_classnames
from asif.pairs import LabelledImages, PairSource, Reject, open_captioned, open_labelled
from asif.vectors import Embeddings, Side

WORDS = ("red fox", "owl", "newt", "car_side", "BACKGROUND_Google", "inline-skate", "Faces")
ROWS = 67


@pytest.fixture
def store(home: Path, hashing: None) -> Path:
    """Return a store with the set `toy`, whose encoders hash."""
    make_set(home).close()
    return home


def image_column(count: int, bad: tuple[int, ...] = ()) -> pa.Array:
    contents = [b"bad" if row in bad else f"image {row}".encode() for row in range(count)]
    return pa.array([{"bytes": content, "path": None} for content in contents], IMAGE)


def labels_of(count: int) -> list[str]:
    return [WORDS[draw] for draw in np.random.default_rng(5).integers(0, len(WORDS), count)]


def labelled(path: Path, count: int = ROWS, bad: tuple[int, ...] = ()) -> LabelledImages:
    return open_labelled(table(path / "l.parquet", image=image_column(count, bad), label=labels_of(count)))


def captioned(path: Path, captions: list[list[str]], **columns: Any) -> PairSource:
    given = {"image": image_column(len(captions)), **columns}
    return open_captioned(table(path / "c.parquet", captions=captions, **given))


def captions_of(count: int) -> list[list[str]]:
    """Give each image one to three captions of its own."""
    sizes = np.random.default_rng(6).integers(1, 4, count)
    return [[f"caption {row} {number}" for number in range(size)] for row, size in enumerate(sizes)]


def represented(engine: Engine, image: Embeddings, text: Embeddings, query: Side) -> NDArray[Any]:
    """Score texts for images, or images for texts, all at once."""
    choice = engine.role("search").choice
    fitted = choice.aligner.fit(engine.anchors)
    rows = {"image": fitted.represent("image", image), "text": fitted.represent("text", text)}
    other: Side = "text" if query == "image" else "image"
    biases = None
    if choice.hubness.method != "none":
        biases = choice.hubness.compute_biases(rows[other], build_query_bank(fitted, engine.anchors, query))
    return score_candidates(rows[query], Candidates(rows[other], biases=biases))


def vectors(encoder: Any, items: list[Any]) -> Embeddings:
    return Embeddings.from_raw(encoder.forward(items))


ENGINES = [("asif", "none"), ("asif", "nnn"), ("cca", "nnn"), ("procrustes", "csls"), ("asif-paper", "none")]


@pytest.fixture(params=ENGINES, ids="+".join)
def engine(request: pytest.FixtureRequest, store: Path) -> Iterator[Engine]:
    aligner, hubness = request.param
    engine = Engine("toy", home=store, aligner=make_aligner(aligner), hubness=Hubness(hubness))
    yield engine
    engine.anchors.close()


# ---- classification


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


@pytest.fixture
def toy(store: Path) -> Iterator[Engine]:
    engine = Engine("toy", home=store)
    yield engine
    engine.anchors.close()


def test_acc5_needs_five_classes(toy: Engine, tmp_path: Path) -> None:
    data = open_labelled(table(tmp_path / "a.parquet", image=image_column(4), label=["a", "b", "c", "d"]))
    metrics = evaluate_classification(toy, data, Labels(data.classes)).metrics
    assert metrics["acc5"] is None
    assert metrics["acc1"] is not None


def test_a_limit_leaves_the_classes_as_they_are(toy: Engine, tmp_path: Path) -> None:
    data = labelled(tmp_path)
    counts = evaluate_classification(toy, data, Labels(data.classes), terms=Terms(limit=2)).counts
    assert (counts["in"], counts["classes"], counts["classes_with_images"]) == (2, 7, len(set(labels_of(2))))
    with pytest.raises(UsageError, match="labels of the data are missing: Faces"):
        evaluate_classification(toy, data, Labels(tuple(word for word in WORDS if word != "Faces")))


def test_bad_rows_are_counted_and_left_out(toy: Engine, tmp_path: Path) -> None:
    rejects: list[Reject] = []
    done: list[int] = []
    data, labels = labelled(tmp_path, bad=(0, 40, 66)), Labels(tuple(sorted(WORDS)))
    terms = Terms(max_bad_rows=Tolerance(number=3), progress=done.append, rejected=rejects.append)
    result = evaluate_classification(toy, data, labels, terms=terms)
    assert [reject.row for reject in rejects] == [0, 40, 66]
    assert {reject.reason for reject in rejects} == {"a bad image"}
    assert [result.counts[name] for name in ("in", "kept", "rejected")] == [67, 64, 3]
    assert done == list(range(1, 68))
    with pytest.raises(InputRefused, match="3 bad rows"):
        evaluate_classification(toy, data, labels, terms=Terms(max_bad_rows=Tolerance(number=2)))
    bad = labelled(tmp_path / "all", 2, bad=(0, 1))
    with pytest.raises(InputRefused, match=r"no row of .* can be used"):
        evaluate_classification(toy, bad, labels, terms=Terms(max_bad_rows=Tolerance(1.0)))


def test_names_change_prompts_and_not_labels(toy: Engine, tmp_path: Path) -> None:
    data = labelled(tmp_path)
    names = tuple((f"name of {label}",) for label in data.classes)
    plain = evaluate_classification(toy, data, Labels(data.classes, ("name of {}",)))
    named = evaluate_classification(toy, data, Labels(data.classes, names=names))
    assert named.metrics == plain.metrics
    assert named.metrics != evaluate_classification(toy, data, Labels(data.classes)).metrics


# ---- class names


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def test_labels_become_readable_by_default(tmp_path: Path) -> None:
    classes = classes_of(labelled(tmp_path), None)
    assert classes.labels == tuple(sorted(WORDS))
    assert dict(zip(classes.labels, classes.names, strict=True))["car_side"] == ("car side",)
    assert classes.origin == "readable labels"


@pytest.mark.parametrize("names", [False, True])
def test_wordnet_ids_have_names(tmp_path: Path, names: bool) -> None:
    ids = ["n01440764", "n02119789"]
    image = image_column(2)
    data = open_labelled(table(tmp_path / "a.parquet", image=image, label=ids))
    if names:
        data = LabelledImages(data.source, tuple(ids))
    classes = classes_of(data, {"n02119789": ("small fox",)} if names else None)
    assert classes.labels == tuple(ids)
    assert classes.names == (("tench",), ("small fox" if names else "kit fox",))
    assert classes.origin == ("file, else WordNet" if names else "WordNet")
    unknown = open_labelled(table(tmp_path / "b.parquet", image=image, label=["n01440764", "n99999999"]))
    assert classes_of(unknown, None).names == (("n01440764",), ("n99999999",))


@pytest.mark.parametrize(
    "content",
    [
        "car_side\tthe side of a car | car\nowl\tbarn owl\nunknown\tx\n",
        '{"car_side": ["the side of a car", "car"], "owl": "barn owl", "unknown": "x"}',
    ],
)
def test_a_file_of_names_goes_before_labels(content: str, tmp_path: Path) -> None:
    classes = classes_of(labelled(tmp_path), read_classnames(write(tmp_path / "names", content)))
    names = dict(zip(classes.labels, classes.names, strict=True))
    assert names["car_side"] == ("the side of a car", "car")
    assert (names["owl"], names["inline-skate"]) == (("barn owl",), ("inline skate",))
    assert classes.unused == ("unknown",)


@pytest.mark.parametrize("content", ["cat\ndog\nowl\n", "0\tcat\n1\tdog\n2\towl\n"])
def test_numbers_get_their_names_from_the_file(content: str, tmp_path: Path) -> None:
    data = open_labelled(table(tmp_path / "a.parquet", image=image_column(2), label=[1, 0]))
    with pytest.raises(InputRefused, match="are numbers, for which there is no name: 0, 1"):
        classes_of(data, None)
    classes = classes_of(data, read_classnames(write(tmp_path / "names", content)))
    assert (classes.labels, classes.names) == (("0", "1", "2"), (("cat",), ("dog",), ("owl",)))
    with pytest.raises(InputRefused, match="for some of which there is no name: 1"):
        classes_of(data, {"0": ("cat",)})


def test_a_file_for_other_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none of the 2 labels of the class names \(a, b …\)"):
        classes_of(labelled(tmp_path), {"a": ("x",), "b": ("y",)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("{}", "is empty"),
        ("{oops", "is not JSON"),
        ('{"a": 3}', "has 3 for 'a'"),
        ('{"a": [" "]}', "has [' '] for 'a'"),
        ('{"a": "x", "a": "y"}', "names 'a' twice"),
        ("a\tx\na\ty\n", "names 'a' twice"),
        ("a\tx\nb\n", "line 2 of"),
        ("a\t\n", "line 1 of"),
        ("a\tx | \n", "line 1 of"),
        ("\tx\n", "line 1 of"),
    ],
)
def test_files_of_names_that_cannot_be_used(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_classnames(write(tmp_path / "names", content))
    assert message in caught.value.came


# ---- retrieval


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
    shared = result.further.pop("shared_captions_right")
    assert shared == {**result.metrics, **result.further}


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
    assert (split.metrics, split.further) == (whole.metrics, whole.further)
    assert (split.counts["in"], split.counts["images"]) == (len(rows), 30)


def test_captions_that_images_share(toy: Engine, tmp_path: Path) -> None:
    """All images have one caption: in order of position only the first can be found, by content any."""
    result = evaluate_retrieval(toy, captioned(tmp_path, [["the same"] for _ in range(8)]))
    found = {**result.metrics, **result.further}
    assert found["text_retrieval_recall@1"] == 1 / 8
    assert found["text_retrieval_recall@5"] == 5 / 8
    assert found["image_retrieval_recall@1"] == 1 / 8
    shared = result.further["shared_captions_right"]
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
    assert result.further["shared_captions_right"]["text_retrieval_recall@5"] == pytest.approx(np.mean(hits), abs=1e-12)
    shared = result.further.pop("shared_captions_right")
    strict = {**result.metrics, **result.further}
    assert shared.keys() == strict.keys() and shared != strict
    assert all(shared[name] >= strict[name] for name in strict if "recall" in name)
    assert all(shared[name] <= strict[name] for name in strict if "rank" in name)
    assert result.counts["captions_shared"] == 12


def test_bad_images_of_retrieval(toy: Engine, tmp_path: Path) -> None:
    rejects: list[Reject] = []
    source = captioned(tmp_path, captions_of(10), image=image_column(10, bad=(3,)))
    result = evaluate_retrieval(toy, source, terms=Terms(max_bad_rows=Tolerance(0.1), rejected=rejects.append))
    assert [(reject.row, reject.reason) for reject in rejects] == [(3, "a bad image")]
    assert [result.counts[name] for name in ("in", "kept", "rejected", "images")] == [10, 9, 1, 9]
    with pytest.raises(InputRefused, match="1 bad rows"):
        evaluate_retrieval(toy, source)


def precomputed(path: Path, images: int = 9, captions: int = 2) -> tuple[Path, NDArray[Any], NDArray[Any]]:
    path.mkdir()
    random = np.random.default_rng(3)
    image, text = random.standard_normal((images, IMAGE_DIM)), random.standard_normal((images * captions, TEXT_DIM))
    np.save(path / "img_emb_0.npy", image.repeat(captions, axis=0).astype(np.float32))
    np.save(path / "text_emb_0.npy", text.astype(np.float32))
    return path, image, text


def test_vectors_in_place_of_images_and_captions(home: Path, tmp_path: Path) -> None:
    make_precomputed(tmp_path / "pairs", home).close()
    engine = Engine("vectors", home=home)
    path, image, text = precomputed(tmp_path / "queries")
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
    monkeypatch.setattr("asif.evaluate.classification.ROWS", rows)
    make_precomputed(tmp_path / "pairs", home).close()
    engine, data = Engine("vectors", home=home), labelled_vectors(tmp_path / "v.parquet")
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
    path, _, _ = precomputed(tmp_path / "queries")
    with pytest.raises(EncoderMismatch, match="images and captions for toy"):
        evaluate_retrieval(toy, open_captioned(path))
    make_precomputed(tmp_path / "pairs", home).close()
    np.save(path / "text_emb_0.npy", np.ones((18, TEXT_DIM + 1), np.float32))
    with pytest.raises(EncoderMismatch, match="6 \\(text\\) dimensions"):
        evaluate_retrieval(Engine("vectors", home=home), open_captioned(path))


# ---- what a result says of itself


def test_provenance(toy: Engine, tmp_path: Path) -> None:
    data = labelled(tmp_path)
    result = evaluate_classification(toy, data, Labels(data.classes), origins={"templates_from": "default"}).as_dict()
    first = ["dataset", "model", "pretrained", "task", "metrics", "language"]
    assert list(result)[:6] == first
    anchors = toy.anchors
    assert result["anchors"] == {"name": "toy", "version": anchors.version, "digest": anchors.digest, "count": 20}
    assert result["encoders"]["text"] == {
        "spec": "sentence-transformers:fake",
        "fingerprint": fake_text().fingerprint.digest,
    }
    assert result["pretrained"] == f"asif toy@{anchors.version}"
    assert (result["templates"], result["template_mode"], result["templates_from"]) == (["{}"], "mean", "default")
    path = tmp_path / "l.parquet"
    assert result["data"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert result["data"]["path"] == str(path)
    assert set(result["versions"]) == {"asif", "torch", "timm", "sentence-transformers", "numpy"}


def test_the_hash_of_rows_is_that_of_content(toy: Engine, tmp_path: Path) -> None:
    """Other containers, names and paths of the same labelled images: the same hash; another label: another."""

    def digest(data: LabelledImages) -> str:
        found: str = evaluate_classification(toy, data, Labels(data.classes)).data["rows_sha256"]
        return found

    labels = sorted(labels_of(9))
    images = [{"bytes": f"image {row}".encode(), "path": None} for row in range(9)]
    parquet = open_labelled(table(tmp_path / "a.parquet", image=pa.array(images, IMAGE), label=labels))
    for row, label in enumerate(labels):
        folder = tmp_path / "folders" / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.jpg").write_bytes(f"image {row}".encode())
    assert digest(parquet) == digest(open_labelled(tmp_path / "folders"))
    other = open_labelled(table(tmp_path / "b.parquet", image=pa.array(images, IMAGE), label=labels[::-1]))
    assert digest(parquet) != digest(other)
