"""`cca(words)` in an engine: texts of labels, queries and items reach it, with edits, views and cached fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.anchorset_sets import DIMS, build, pairs
from support.engine_sets import IMAGE_DIM, fake_image, fake_text, make_precomputed, make_set
from support.galleries import build as build_gallery
from support.galleries import some_files, write_files

from asif.aligners import Hubness, make_aligner
from asif.aligners.words import Vocabulary
from asif.anchorset import Gallery, OpenAnchors, Store
from asif.anchorset.format.fit_cache import read_fit
from asif.classify import Labels
from asif.compare import Candidates, score_candidates
from asif.engine import Engine, purge_pairs
from asif.engine.search.query import Query
from asif.vectors import Embeddings, Float32, Texts

NAME = "cca(words)"
ITEMS = ["caption of a bear", "ein B\u00e4r", "nothing known", "caption"]


@pytest.fixture
def stored(home: Path, tmp_path: Path, hashing: None) -> Path:
    """Return a home with anchors, a gallery of images, and one of texts, by stand-in encoders."""
    make_set(home, count=60).close()
    write_files(tmp_path / "photos", some_files(9))
    build_gallery(tmp_path / "photos", home, fake_image(), "photos", dtype="float32")
    (tmp_path / "items.txt").write_text("\n".join(ITEMS), encoding="utf-8")
    build_gallery(tmp_path / "items.txt", home, fake_text(), "items", "text", dtype="float32")
    return home


def encode(texts: list[str]) -> Float32:
    return Embeddings.from_raw(fake_text().forward(texts)).values


def score(anchors: OpenAnchors, images: Float32, vectors: Float32, texts: Texts) -> Float32:
    """Score texts for images by the aligner alone."""
    fitted = make_aligner(NAME).fit(anchors)
    candidates = Candidates(fitted.represent("text", Embeddings(vectors, texts)))
    return score_candidates(fitted.represent("image", Embeddings(images)), candidates)


def draw_images(count: int, dim: int = IMAGE_DIM) -> Embeddings:
    return Embeddings.from_raw(np.random.default_rng(3).standard_normal((count, dim)))


@pytest.mark.parametrize("mode", ["mean", "max"])
def test_the_words_of_labels_are_those_of_their_prompts(stored: Path, mode: Any) -> None:
    labels = Labels(("caption", "B\u00e4r", "cow"), ("{}", "ein {}"), mode)
    engine, images = Engine("toy", home=stored, aligner=make_aligner(NAME)), draw_images(5)
    prompts = labels.prompts_by_label()
    if mode == "mean":
        vectors = Embeddings.from_raw(np.stack([encode(some).mean(axis=0) for some in prompts])).values
        expected = score(engine.anchors, images.values, vectors, tuple(map(tuple, prompts)))
    else:
        every = [(prompt,) for some in prompts for prompt in some]
        by_prompt = score(engine.anchors, images.values, encode([text for (text,) in every]), tuple(every))
        expected = by_prompt.reshape(5, 3, 2).max(axis=2)
    for given in (None, Embeddings(encode(labels.prompts()))):
        for result, row in zip(engine.classify_vectors(images, labels, given, explain=60), expected, strict=True):
            found = {each.label: each.score for each in result.predictions}
            assert [found[label] for label in labels.labels] == pytest.approx(row.tolist(), abs=2e-6)
            assert result.evidence is not None
            split = result.evidence.contributions
            assert float(split.values.sum()) + split.remainder == pytest.approx(result.score, abs=2e-6)


def test_a_search_of_images_by_words(stored: Path) -> None:
    engine, gallery = Engine("toy", home=stored, aligner=make_aligner(NAME)), Gallery("photos", home=stored)
    texts = ["ein B\u00e4r", "caption 5", "unknown"]
    expected = score(engine.anchors, gallery.vectors[0], encode(texts), tuple((text,) for text in texts)).T
    for _ in range(2):
        for answer, row in zip(engine.search("photos", texts=texts, k=9), expected, strict=True):
            assert {each.id: each.score for each in answer} == dict(zip(gallery.ids, row.tolist(), strict=True))
    without = next(Engine("toy", home=stored, aligner=make_aligner("cca")).search("photos", texts=texts, k=9))
    assert {each.score for each in without}.isdisjoint(expected[0].tolist())


def test_a_search_of_texts_has_their_words(stored: Path) -> None:
    """Items by their own text, as queries too; explanations add up."""
    engine, gallery = Engine("toy", home=stored, aligner=make_aligner(NAME)), Gallery("items", home=stored)
    texts = [item.captions[0] for item in gallery]
    assert sorted(texts) == sorted(ITEMS)
    images = Embeddings.from_raw(fake_image().forward([b"image 1", b"image 2"])).values
    expected = score(engine.anchors, images, gallery.vectors[0], tuple((text,) for text in texts))
    for answer, row in zip(engine.search("items", images=[b"image 1", b"image 2"], k=4), expected, strict=True):
        assert {each.id: each.score for each in answer} == dict(zip(gallery.ids, row.tolist(), strict=True))
    query = Query.of(["ein caption"], [b"image 3"], [gallery.ids[2]])
    (answer,) = engine.search("items", queries=[query], k=4, explain=60)
    assert answer.space == "shared" and len(answer) == 4
    for result in answer:
        assert result.evidence is not None
        split = result.evidence.contributions
        assert float(split.values.sum()) + split.remainder == pytest.approx(result.score, abs=2e-6)


def test_an_edited_set_answers_as_one_that_was_built(home: Path) -> None:
    """Without the words of the pairs that were removed, although a fit to the former version is there."""
    every = pairs(30)
    build(home, every, name="edited")
    build(home, every[4:], name="built")
    images, labels = draw_images(4, DIMS["image"]), Labels(("caption 1", "B\u00e4r", "cow"))
    vectors = Embeddings.from_raw(np.random.default_rng(4).standard_normal((3, DIMS["text"])))

    def answer(ref: str) -> list[Any]:
        engine = Engine(ref, home=home, aligner=make_aligner(NAME), hubness=Hubness("nnn", 3))
        found = engine.classify_vectors(images, labels, vectors, explain=30)
        reasons = [each.evidence for each in found if each.evidence is not None]
        parts = [(each.contributions.values.tolist(), each.records, each.hubness) for each in reasons]
        return [[each.predictions for each in found], parts]

    before = answer("edited")
    Store(home).remove("edited", [pair.id for pair in every[:4]])
    edited, built = answer("edited"), answer("built")
    assert edited == built and edited != before
    assert answer("edited") == built  # from the cached fit


def test_a_purged_pair_leaves_no_word(home: Path) -> None:
    """The fit to the version with the pair is deleted with it, and the next one is counted without it."""
    every = pairs(30)
    every[3] = replace(every[3], captions=("a zebra", "one zebra"))
    build(home, every, name="toy")
    fits = Store(home).open("toy").folder.fits

    def list_words() -> list[str]:
        role = Engine("toy", home=home, aligner=make_aligner(NAME)).role()
        assert role.fitted.parameters["vocabulary"] > 0
        return [word for path in fits.iterdir() for word in Vocabulary.from_arrays(read_fit(path)[1]).words]

    assert list_words().count("zebra") == 1
    purge_pairs("toy", [every[3].id], home=home)
    assert not list(fits.iterdir())
    words = list_words()
    assert "caption" in words and "zebra" not in words


def test_a_fit_that_was_cached_is_restored(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, images = Labels(("caption", "B\u00e4r")), draw_images(3)
    first, again = (Engine("toy", home=stored, aligner=make_aligner(NAME)) for _ in range(2))
    expected = [each.predictions for each in first.classify_vectors(images, labels)]
    monkeypatch.setattr("asif.aligners.lexical._solve", None)
    assert [each.predictions for each in again.classify_vectors(images, labels)] == expected
    assert again.role().fitted.parameters == first.role().fitted.parameters


def test_a_swap_prepares_labels_with_their_words(stored: Path) -> None:
    make_set(stored, "other", count=40, seed=1).close()
    engine, labels, images = (
        Engine("toy", home=stored, aligner=make_aligner(NAME)),
        Labels(("caption",)),
        draw_images(2),
    )
    engine.classify_vectors(images, labels)
    engine.swap("other")
    fresh = Engine("other", home=stored, aligner=make_aligner(NAME))
    found = [[each.predictions for each in one.classify_vectors(images, labels)] for one in (engine, fresh)]
    assert found[0] == found[1]


def test_vectors_go_on_without_words_where_anchors_have_none(tmp_path: Path, home: Path) -> None:
    make_precomputed(tmp_path / "vectors", home)
    engine = Engine("vectors", home=home, aligner=make_aligner(NAME))
    assert engine.role("search").fitted.parameters["vocabulary"] == 0
    rows = draw_images(2, 5)
    (block,) = engine.score_blocks("text", rows, draw_images(3))
    assert block.shape == (2, 3) and block.any()
