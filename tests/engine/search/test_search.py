"""Search over galleries of stand-in vectors: scores, filters, chances, explanations, errors, swaps."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.engine_sets import fake_image, fake_text, make_set
from support.galleries import build, some_files, update, write_files

from asif.aligners import Hubness, make_aligner
from asif.anchorset import Gallery, Store
from asif.engine import Engine, purge_pairs
from asif.engine.search import block_rows
from asif.engine.search.chance import ChanceCurve, measure_decay, take_held_out
from asif.engine.search.query import Query
from asif.engine.search.results import SearchAnswer
from asif.errors import EncoderMismatch, IntegrityError, NotFound, UsageError
from asif.vectors import Embeddings

ALIGNERS = ["asif(k=5)", "cca", "procrustes", "cca+0.5*asif(k=5)", "cca(words)"]
COUNT = 30


@pytest.fixture
def stored(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home with anchors and a gallery `g` of 30 items by stand-in encoders."""
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: fake_image())
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: fake_text())
    make_set(home, count=60).close()
    make_set(home, "other", count=40, seed=1).close()
    write_files(tmp_path / "photos", some_files(COUNT))
    build(tmp_path / "photos", home, fake_image(), dtype="float32")
    return home


def ask(home: Path, aligner: str | None = None, hubness: Hubness | None = None, **call: Any) -> list[SearchAnswer]:
    engine = Engine("toy", home=home, aligner=make_aligner(aligner) if aligner else None, hubness=hubness)
    return list(engine.search("g", **call))


@pytest.mark.parametrize("hubness", ["none", "csls"])
@pytest.mark.parametrize("aligner", ALIGNERS)
def test_scores_are_those_of_the_engine_and_explained(stored: Path, aligner: str, hubness: Any) -> None:
    texts = ["a dog", "a cat"]
    engine = Engine("toy", home=stored, aligner=make_aligner(aligner), hubness=Hubness(hubness))
    gallery = Gallery("g", home=stored)
    vectors = Embeddings(np.concatenate(gallery.vectors).astype(np.float32))
    scores = np.concatenate(list(engine.score_blocks("text", engine.encode_texts(texts), vectors)))
    for _ in range(2):  # the second time from rows that are kept on disk
        answers = ask(stored, aligner, Hubness(hubness), texts=texts, k=COUNT, explain=3)
        for answer, expected in zip(answers, scores, strict=True):
            assert [result.score for result in answer] == np.sort(expected)[::-1].tolist()
            for result in answer:
                assert result.score == expected[result.row] and result.id == gallery.ids[result.row]
                assert result.evidence is not None
                split = result.evidence.contributions
                total = float(split.values.sum()) + split.remainder - result.evidence.hubness
                assert total == pytest.approx(result.score, abs=2e-5)
                assert result.evidence.parts == pytest.approx([result.score + result.evidence.hubness], abs=2e-5)


@pytest.mark.parametrize("aligner", ALIGNERS)
def test_parts_are_added_and_their_contributions_too(stored: Path, aligner: str) -> None:
    query = Query.of(["2:a dog", "a cat"], [b"image 3"], minus=["a bird"])
    (answer,) = ask(stored, aligner, queries=[query], k=COUNT, explain=60)
    assert answer.space == "shared" and len(answer) == COUNT
    for result in answer:
        assert result.evidence is not None
        split = result.evidence.contributions
        assert sum(result.evidence.parts) == pytest.approx(result.score, abs=2e-5)
        assert float(split.values.sum()) + split.remainder == pytest.approx(result.score, abs=2e-5)


def test_every_image_finds_itself_first_in_the_space_of_images(stored: Path) -> None:
    contents = some_files(COUNT)
    answers = ask(stored, images=list(contents.values()), k=3)
    assert [answer.results[0].id for answer in answers] == list(contents)
    assert {answer.space for answer in answers} == {"image"}
    assert all(answer.results[0].score == pytest.approx(1, abs=1e-6) for answer in answers)
    (by_id,) = ask(stored, queries=[Query.of(items=["odd/003.jpg"])], k=3)
    same = answers[list(contents).index("odd/003.jpg")]
    assert [each.id for each in by_id] == [each.id for each in same] and by_id.results[0].id == "odd/003.jpg"


def test_pages_and_filters_are_parts_of_the_whole(stored: Path) -> None:
    (whole,) = ask(stored, texts=["a dog"], k=COUNT)
    found = [result for start in range(0, COUNT, 7) for result in ask(stored, texts=["a dog"], k=7, offset=start)[0]]
    assert [(each.id, each.score) for each in found] == [(each.id, each.score) for each in whole]
    (odd,) = ask(stored, texts=["a dog"], k=COUNT, where="label = 'odd'")
    assert [each.id for each in odd] == [each.id for each in whole if each.id.startswith("odd")]
    assert odd.searched == COUNT // 2 and len(ask(stored, texts=["a dog"], k=3, where="label = 'odd'")[0]) == 3
    assert len(ask(stored, texts=["a dog"], offset=COUNT)[0]) == 0


def test_what_chance_would_bring_is_left_out(stored: Path) -> None:
    (answer,) = ask(stored, texts=["a dog"], k=COUNT)
    assert [result.chance for result in answer] == sorted(result.chance for result in answer)
    (kept,) = ask(stored, texts=["a dog"], k=COUNT, only_relevant=True)
    assert len(kept) == kept.relevant == sum(COUNT * result.chance < 0.5 for result in answer) < 5
    (same,) = ask(stored, images=[b"image 3"], k=COUNT, only_relevant=True)
    assert same.results[0].id == "odd/003.jpg" and same.relevant >= 1


def test_chances_are_those_of_anchors_of_other_pairs(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("toy", home=stored, aligner=make_aligner("procrustes"), hubness=Hubness("none"))
    images, texts = (np.concatenate(engine.anchors.blocks(side)).astype(np.float32) for side in ("image", "text"))

    def held_out(queries: Embeddings) -> list[Any]:
        scores = np.concatenate(list(engine.score_blocks("text", queries, Embeddings(images))))
        return [take_held_out(*both) for both in zip(scores, queries.values @ texts.T, strict=True)]

    decay = measure_decay(held_out(Embeddings(texts)))  # all anchors are sample queries
    (other,) = held_out(engine.encode_texts(["a dog"]))
    (answer,) = engine.search("g", texts=["a dog"], k=COUNT)
    expected = ChanceCurve(other, decay).estimate(np.array([result.score for result in answer], np.float32))
    assert 0 < expected.min() < 0.1 < expected.max()
    np.testing.assert_allclose([result.chance for result in answer], expected, rtol=1e-3)
    monkeypatch.setattr("asif.engine.search.represented.measure_decay", None)  # it is kept with the anchors
    (again,) = ask(stored, "procrustes", Hubness("none"), texts=["a dog"], k=COUNT)
    assert [result.chance for result in again] == [result.chance for result in answer]


def test_many_queries_give_what_each_gives_alone(stored: Path) -> None:
    texts = [f"text {number}" for number in range(300)]
    for aligner in ("asif(k=5)", "cca"):
        together = ask(stored, aligner, texts=texts, k=4)
        for number in (0, 255, 256, 299):
            (alone,) = ask(stored, aligner, texts=[texts[number]], k=4)
            same = together[number]
            assert [(each.id, each.score, each.chance) for each in alone] == [
                (each.id, each.score, each.chance) for each in same
            ]


def test_an_image_that_cannot_be_read_is_one_answer_with_an_error(stored: Path) -> None:
    answers = ask(stored, images=[b"image 1", b"bad", b"image 2"], k=1)
    assert [(answer.error is None, len(answer)) for answer in answers] == [(True, 1), (False, 0), (True, 1)]


def test_other_anchors_and_a_swap_encode_no_item(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", None)
    engine = Engine("toy", home=stored)
    first, other = (next(engine.search("g", texts=["a dog"], k=5, anchors=ref)) for ref in (None, "other"))
    assert (first.anchors.name, other.anchors.name) == ("toy", "other")
    engine.swap("other")
    monkeypatch.setattr("asif.engine.search.represented.represent_items", None)  # made before the swap
    again = next(engine.search("g", texts=["a dog"], k=5))
    assert [(each.id, each.score) for each in again] == [(each.id, each.score) for each in other]


@pytest.fixture
def watching(stored: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Return an engine that watches its anchors, and has searched."""
    monkeypatch.setattr("asif.engine.watcher.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("asif.engine.search.block_rows._MANY_ITEMS", 1)
    with Engine("toy", home=stored, watch=True) as engine:
        list(engine.search("g", texts=["a dog"]))
        yield engine


@dataclass
class Gate:
    """Let a thread wait before it represents items."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def represent_vectors(self, *given: Any) -> Any:
        self.reached.set()
        assert self.opened.wait(20)
        return REPRESENT_VECTORS(*given)


REPRESENT_VECTORS = block_rows.represent_vectors


def edit_anchors(home: Path, gate: Gate) -> None:
    """Publish the next version of the anchors, and wait until a gallery is represented over them."""
    Store(home).remove("toy", [Store(home).open("toy").ids(0)[0]])
    assert gate.reached.wait(20)


def test_searches_answer_from_the_old_anchors_until_items_are_represented_over_the_new_ones(
    stored: Path, watching: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, (before,) = Gate(), watching.search("g", texts=["a dog"], k=COUNT)
    monkeypatch.setattr(block_rows, "represent_vectors", gate.represent_vectors)
    edit_anchors(stored, gate)
    for _ in range(5):
        (during,) = watching.search("g", texts=["a dog"], k=COUNT)
        assert during.anchors == before.anchors
        assert [(each.id, each.score) for each in during] == [(each.id, each.score) for each in before]
    assert not gate.opened.is_set()
    gate.opened.set()
    deadline = time.monotonic() + 20
    while watching.anchors.digest == before.anchors.digest:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    monkeypatch.setattr(block_rows, "represent_vectors", None)  # all is made
    (after,) = watching.search("g", texts=["a dog"], k=COUNT)
    assert after.anchors.digest == Store(stored).open("toy").digest != before.anchors.digest
    monkeypatch.setattr(block_rows, "represent_vectors", REPRESENT_VECTORS)
    shutil.rmtree(stored / "galleries/g/fits")
    (fresh,) = ask(stored, texts=["a dog"], k=COUNT)
    assert [(each.id, each.score, each.chance) for each in after] == [
        (each.id, each.score, each.chance) for each in fresh
    ]


def test_closing_an_engine_does_not_wait_until_all_items_are_represented(
    stored: Path, tmp_path: Path, watching: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate, old = Gate(), watching.anchors.digest
    monkeypatch.setattr(block_rows, "represent_vectors", gate.represent_vectors)
    edit_anchors(stored, gate)
    closing = threading.Thread(target=watching.close)
    closing.start()
    while watching.watching is not None:
        time.sleep(0.01)
    gate.opened.set()
    closing.join(20)
    assert not closing.is_alive() and watching.anchors.digest == old and not caplog.records[1:]
    assert next(watching.search("g", texts=["a dog"])).anchors.digest == old


def test_threads_that_search_first_at_the_same_time_represent_once(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def represent(vectors: Any, *rest: Any) -> Any:
        counts.append(len(vectors))
        time.sleep(0.1)
        return REPRESENT_VECTORS(vectors, *rest)

    monkeypatch.setattr(block_rows, "represent_vectors", represent)
    engine = Engine("toy", home=stored)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: next(engine.search("g", texts=["a dog"])), range(4)))
    assert counts == [COUNT] and len({answer.results[0].id for answer in found}) == 1


def test_an_updated_gallery_is_searched_by_the_next_call(stored: Path, tmp_path: Path) -> None:
    engine = Engine("toy", home=stored)
    opened = Gallery("g", home=stored)
    before = next(engine.search(opened, texts=["a dog"], k=COUNT))
    write_files(tmp_path / "photos", {"new.jpg": b"image 77"})
    update(tmp_path / "photos", stored, fake_image())
    assert len(next(engine.search("g", texts=["a dog"], k=99))) == COUNT + 1
    after = next(engine.search(opened, texts=["a dog"], k=COUNT))
    assert [(each.id, each.score) for each in after] == [(each.id, each.score) for each in before]


def test_a_gallery_of_texts_is_found_by_images_and_by_texts(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a dog\na cat\na bird\n")
    build(tmp_path / "names.txt", stored, fake_text(), "names", "text")
    engine = Engine("toy", home=stored)
    by_text, by_image = engine.search("names", texts=["a cat"], images=[b"image 3"], k=3)
    assert (by_text.space, by_text.results[0].item.captions, by_image.space) == ("text", ("a cat",), "shared")
    assert len(by_image) == 3


def test_a_gallery_of_another_encoder_is_refused_with_both_fingerprints(stored: Path, tmp_path: Path) -> None:
    build(tmp_path / "photos", stored, fake_image(model="new"), "foreign")
    with pytest.raises(EncoderMismatch) as caught:
        Engine("toy", home=stored).search("foreign", texts=["a dog"])
    prints = fake_image(model="new").fingerprint.digest[:12], fake_image().fingerprint.digest[:12]
    assert prints[0] in caught.value.came and prints[1] in caught.value.expected
    assert "asif gallery build SRC --name NAME --anchors toy@1" in caught.value.fix


def test_a_filter_without_matches_names_known_values(stored: Path) -> None:
    with pytest.raises(UsageError, match="no item of g@1 matches") as caught:
        ask(stored, texts=["a dog"], where="label = 'dog' and licence = 'cc0'")
    assert caught.value.fix == "known values of label: even, odd; licence: no item has one"


def test_unknown_items_and_queries_that_cancel_out(stored: Path) -> None:
    with pytest.raises(NotFound, match="no item 'nothing'"):
        ask(stored, queries=[Query.of(items=["nothing"])])
    with pytest.raises(UsageError, match="cancel each other out"):
        ask(stored, queries=[Query.of(["a dog"], minus=["a dog"])])
    with pytest.raises(UsageError, match="k is 0"):
        ask(stored, texts=["a dog"], k=0)


@pytest.mark.parametrize("kept", [False, True])
def test_a_damaged_block_never_gives_an_answer(stored: Path, kept: bool) -> None:
    if kept:
        ask(stored, texts=["a dog"])
    (block,) = (stored / "galleries/g/blocks").glob("*")
    content = bytearray(block.read_bytes())
    content[-40 * COUNT] ^= 1
    block.write_bytes(content)
    with pytest.raises(IntegrityError, match="has sha256"):
        ask(stored, images=[b"image 3"])
    if not kept:
        with pytest.raises(IntegrityError, match="has sha256"):
            ask(stored, texts=["a dog"])


def test_few_rows_are_kept_and_none_of_purged_anchors(stored: Path) -> None:
    fits = stored / "galleries/g/fits"
    for k in range(3, 9):
        ask(stored, f"asif(k={k})", texts=["a dog"])
    assert len(list(fits.glob("*"))) == 4 + 2  # rows, and neighbours
    purge_pairs("toy", [Store(stored).open("toy").ids(0)[0]], home=stored)
    assert not list(fits.glob("*"))
    assert len(ask(stored, texts=["a dog"], k=COUNT)[0]) == COUNT


def test_the_first_search_of_many_items_says_what_it_does(
    stored: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asif.engine.search.block_rows._MANY_ITEMS", COUNT)
    with caplog.at_level("INFO", "asif"):
        for _ in range(2):
            ask(stored, texts=["a dog"])
    assert [record.message for record in caplog.records].count("representing 30 items of g@1 over toy@1, once") == 1


def test_damaged_rows_are_made_again(stored: Path, caplog: pytest.LogCaptureFixture) -> None:
    (before,) = ask(stored, texts=["a dog"], k=5)
    files = [*(stored / "galleries/g/fits").glob("*"), *(stored / "anchors/toy/fits").glob("*")]
    assert len([path for path in files if b"items" in path.read_bytes()[:2000]]) == 1
    for path in files:
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
    (after,) = ask(stored, texts=["a dog"], k=5)
    assert [(each.id, each.score, each.chance) for each in after] == [
        (each.id, each.score, each.chance) for each in before
    ]
    assert "represented items are not used" in caplog.text
    assert not Store(stored).verify("toy").problems


def test_an_approximate_search_says_what_it_finds(stored: Path) -> None:
    for _ in range(2):  # the second time from cells that are kept
        (found,) = ask(stored, "cca", texts=["a dog"], k=5, approximate=True)
        (exact,) = ask(stored, "cca", texts=["a dog"], k=COUNT)
        assert found.recall is not None and 0.95 <= found.recall <= 1 and exact.recall is None
        scores = {result.id: result.score for result in exact}
        assert [result.score for result in found] == [scores[result.id] for result in found] and len(found) == 5
    (own,) = ask(stored, "cca", images=[b"image 3"], k=5, approximate=True)
    assert own.recall is None
    with pytest.raises(UsageError, match="whose rows are not dense"):
        ask(stored, "asif(k=5)", texts=["a dog"], approximate=True)
