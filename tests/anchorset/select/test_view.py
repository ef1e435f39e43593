"""Views: anchors that a call names answer as the set would that is published of the same pairs; nothing is encoded."""

from __future__ import annotations

import gc
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.anchorset_sets import DIMS, ENCODERS, build, dense, pairs
from support.engine_sets import fake_image, make_set
from support.examples import examples

from asif.aligners import Hubness, make_aligner
from asif.anchorset import AnchorSet, OpenAnchors, PairFilter, Store, View, open_view
from asif.classify import Labels
from asif.encoders import ImageEncoder
from asif.engine import Engine, merge_anchors, subset_anchors
from asif.engine.snapshots import CACHED_VIEWS
from asif.errors import EncoderMismatch, InputRefused, NotFound, Stale, UsageError
from asif.kernels.quantised import is_immutable
from asif.pairs.pair import PairRecord
from asif.vectors import Embeddings, Fingerprint

EVERY = sorted(pairs(40), key=lambda pair: pair.id)
IDS = [pair.id for pair in EVERY]
WHERE = "source like 'source %' or licence = 'CC-BY-4.0'"
LABELS = Labels(("a", "b", "c"), ("{}", "a {}"))
ALIGNERS: list[tuple[Any, Hubness | None]] = [
    (make_aligner("asif", k=3), None),
    (make_aligner("asif", centre=True), None),
    (make_aligner("asif-paper", k=4), None),
    (make_aligner("cca"), None),
    (make_aligner("cca(words)"), Hubness("nnn", 3)),
    (make_aligner("procrustes"), Hubness("nnn", 3)),
    (make_aligner("cca+0.5*asif(k=3)"), Hubness("csls")),
]


def unit(count: int, dim: int, seed: int) -> Embeddings:
    return Embeddings.from_raw(np.random.default_rng(seed).standard_normal((count, dim)))


@dataclass(frozen=True, eq=False)
class Near:  # noqa: PLW1641
    """Numbers that are equal if they are all but the same: sums over blocks of other sizes are rounded otherwise."""

    values: list[float]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Near) and np.allclose(self.values, other.values, rtol=0, atol=1e-6)


def predict_all(engine: Engine, **which: Any) -> list[Any]:
    """Ask about vectors, and return what is answered but for the times; what is summed over blocks nearly."""
    images, prompts = unit(4, DIMS["image"], 1), unit(6, DIMS["text"], 2)
    found = engine.classify_vectors(images, LABELS, prompts, explain=3, credits=True, **which)
    answers: list[Any] = []
    for result in found:
        assert result.evidence is not None and result.anchors is not None
        split = result.evidence.contributions
        answers += [result.predictions, result.credits, result.evidence.records, result.evidence.hubness]
        answers += [result.anchors.digest, Near([*split.values.tolist(), split.remainder])]
    return answers


def assert_same_anchors(view: OpenAnchors, published: AnchorSet) -> None:
    assert isinstance(view, View)
    assert (view.digest, view.count, view.dims) == (published.digest, published.count, published.dims)
    assert view.records(range(view.count)) == published.records(range(published.count))
    assert view.records([view.count - 1, 0]) == published.records([view.count - 1, 0])
    for side in DIMS:
        blocks = view.blocks(side)
        np.testing.assert_array_equal(np.concatenate(blocks).astype(np.float32), dense(published, side))
        np.testing.assert_array_equal(view.mean(side), published.mean(side))
        assert all(map(is_immutable, blocks)) and all(map(len, blocks))
        assert all(one is other for one, other in zip(blocks, view.blocks(side), strict=True))
        assert {block.dtype for block in blocks} == {block.dtype for block in published.blocks(side)}
        assert view.fingerprint(side) == published.fingerprint(side)
        assert view.encoder_spec(side) == published.encoder_spec(side)


some_pairs = st.lists(st.sampled_from(EVERY), min_size=4, max_size=24, unique=True)


@settings(deadline=None, max_examples=examples(12))
@given(
    first=some_pairs,
    second=some_pairs,
    gone=st.integers(0, 3),
    where=st.sampled_from([None, WHERE, "not licence = 'CC-BY-4.0'", f"id in {tuple(IDS[3:20])}"]),
    dtype=st.sampled_from(["float16", "float32", "bfloat16"]),
    least=st.sampled_from([1, 2, 5, 512]),
    cut=st.sampled_from([4, 7, 8192]),
)
def test_a_view_is_the_set_of_its_pairs(
    first: list[PairRecord],
    second: list[PairRecord],
    gone: int,
    where: str | None,
    dtype: str,
    least: int,
    cut: int,
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        patch("asif.anchorset.write.publish.MAX_BLOCK_ROWS", cut),
        patch("asif.anchorset.select.view.MAX_BLOCK_ROWS", cut),
        patch("asif.anchorset.select.view._MIN_MAPPED_ROWS", least),
    ):
        home = Path(folder)
        build(home, first, name="a", dtype=dtype)
        build(home, second, name="b", dtype=dtype)
        Store(home).remove("a", [pair.id for pair in first[:gone]])
        members = [Store(home).open(name) for name in ("a", "b")]
        try:
            whole = merge_anchors("a", "b", "both", home=home)
            published = whole if where is None else subset_anchors("both", "some", where=where, home=home)
        except InputRefused:  # no pair is left
            with pytest.raises(InputRefused, match="no pair of"):
                open_view(members, PairFilter.of(where))
            return
        view = open_view(members, PairFilter.of(where))
        assert_same_anchors(view, published)
        engine = Engine("a", home=home)
        for aligner, hubness in ALIGNERS:
            engine = Engine("a", home=home, aligner=aligner, hubness=hubness)
            expected = predict_all(
                Engine(f"{published.name}@{published.version}", home=home, aligner=aligner, hubness=hubness)
            )
            assert predict_all(engine, anchors="a+b", where=where) == expected  # equal bits


def find_mapped_base(block: Any) -> Any:
    while isinstance(block, np.ndarray):
        block = block.base
    return block


def test_long_runs_are_mapped_and_the_rest_is_copied(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.anchorset.select.view._MIN_MAPPED_ROWS", 4)
    build(home, EVERY, name="a")
    Store(home).remove("a", IDS[30:31])
    build(home, EVERY[8:9], name="b")
    anchors = Store(home).open("a")
    view = open_view([anchors, Store(home).open("b")], PairFilter.of(f"not id in {(*IDS[5:9], *IDS[10:12])}"))
    assert_same_anchors(view, subset_anchors("a@1", "c", [*IDS[:5], IDS[9], *IDS[12:30], *IDS[31:]], home=home))
    for side in DIMS:
        blocks = view.blocks(side)
        assert [len(block) for block in blocks] == [5, 1, 18, 9]
        assert [isinstance(find_mapped_base(block), bytes) for block in blocks] == [False, True, False, False]
        ours = anchors.blocks(side)[0], None, anchors.blocks(side)[0], anchors.blocks(side)[1]
        for block, mine in zip(blocks, ours, strict=True):
            assert mine is None or np.shares_memory(block, mine)


def test_a_mask_alone_and_a_subset(home: Path) -> None:
    build(home, EVERY, name="a")
    engine = Engine("a", home=home, aligner=make_aligner("asif"))
    published = subset_anchors("a", "some", where=WHERE, home=home)
    for which in ({"anchors": "a"}, {}, {"anchors": "a@1"}):
        view = engine.role(where=WHERE, **which).anchors
        assert_same_anchors(view, published)
    assert predict_all(engine, where=WHERE) == predict_all(Engine("some", home=home, aligner=make_aligner("asif")))
    licensed = engine.role(licences=["CC BY"]).anchors
    assert_same_anchors(licensed, subset_anchors("a", "by", where="licence = 'CC-BY-4.0'", home=home))
    assert licensed.named.as_dict() == {
        "name": "a", "version": engine.anchors.named.version, "digest": licensed.digest, "licences": ["cc-by"]
    }  # fmt: skip
    assert (licensed.name, licensed.ref) == ("a", "a@1 where licence is cc-by")
    assert repr(licensed) == f"<View a@1 where licence is cc-by: {licensed.count} anchors>"
    both = engine.role(anchors="a+some@1").anchors
    assert (both.name, both.ref, both.digest) == ("a+some", "a@1+some@1", engine.anchors.digest)
    assert engine.role(where=WHERE, licences=["cc-by"]).anchors.count == licensed.count < published.count


def test_an_engine_may_serve_a_view_and_calls_narrow_it(home: Path) -> None:
    build(home, EVERY[:25], name="a")
    build(home, EVERY[15:], name="b")
    merge_anchors("a", "b", "both", home=home)
    engine = Engine("a+b", home=home, licences=["cc-by"])
    assert engine.exactly == tuple(Store(home).resolve(name) for name in ("a", "b"))
    assert_same_anchors(engine.anchors, subset_anchors("both", "by", where="licence = 'CC-BY-4.0'", home=home))
    with pytest.raises(UsageError, match=r"a@1\+b@1 where licence is cc-by, which is a view of some pairs"):
        engine.anchor_set  # noqa: B018
    narrow = engine.role(where=f"id in ('{IDS[0]}', '{IDS[1]}', '{IDS[2]}')").anchors
    assert [record.id for record in narrow.records(range(narrow.count))] == [
        pair.id for pair in EVERY[:3] if pair.licence
    ]
    assert engine.role(anchors="a").anchors.count == 25  # who names anchors names all of them
    engine.swap("a", where=WHERE)
    assert engine.anchors.named.pair_filter == PairFilter.of(WHERE)
    assert Engine("a", home=home).anchor_set.count == 25


@pytest.mark.parametrize(
    ("which", "error", "message"),
    [
        ({"anchors": "a+"}, UsageError, "the anchor set name ''"),
        ({"anchors": "a+missing"}, NotFound, "there is no anchor set 'missing'"),
        ({"anchors": "a+../b"}, NotFound, "is no anchor set"),
        ({"anchors": "a@9"}, NotFound, "has no '9'"),
        ({"anchors": "+".join(["a"] * 33)}, UsageError, "a union of 33 sets"),
        ({"where": "licence = 'x'"}, InputRefused, "no pair of a@1 was chosen by licence = 'x'"),
        ({"where": "nonsense"}, UsageError, "the expression 'nonsense'"),
        ({"licences": ["cc0"]}, NotFound, "no pair of a@1 has the licence cc0"),
        ({"anchors": "a+clash"}, InputRefused, r"1 ids belong to different pairs in the sets of a@1\+clash@1"),
        ({"anchors": "a+wide"}, InputRefused, "a@1 has dtype float16, wide@1 has float32"),
        ({"anchors": "a+strange"}, EncoderMismatch, "the text encoders differ in model"),
    ],
)
def test_what_cannot_be_asked(home: Path, monkeypatch: Any, which: Any, error: Any, message: str) -> None:
    build(home, EVERY[:10], name="a")
    build(home, [replace(EVERY[9], licence="other"), *EVERY[10:15]], name="clash")
    build(home, EVERY[10:], name="wide", dtype="float32")
    monkeypatch.setitem(ENCODERS, "text", replace(ENCODERS["text"], fingerprint=Fingerprint({"model": "other"})))
    build(home, EVERY[10:], name="strange")
    engine = Engine("a", home=home, aligner=make_aligner("asif"))
    before = predict_all(engine)
    with pytest.raises(error, match=message):
        predict_all(engine, **which)
    assert predict_all(engine) == before
    masked = engine.role(anchors="a+clash", where=f"id != '{IDS[9]}'").anchors  # without the pairs in question
    assert masked.count == 14


def test_a_projector_does_not_answer_with_a_view(home: Path) -> None:
    build(home, EVERY, name="a")
    engine = Engine("a", home=home, aligner=make_aligner("asif"))
    engine._opener.__dict__["aligner"] = make_aligner("fusemix")
    with pytest.raises(Stale, match="fusemix, and a@1 where"):
        engine.role(where=WHERE)


# ---- the engine keeps what calls name, and drops it


def test_views_are_kept_and_dropped(home: Path) -> None:
    build(home, EVERY[:25], name="a")
    build(home, EVERY[15:], name="b")
    engine = Engine("a", home=home, aligner=make_aligner("cca"))
    role = engine.role(anchors="a+b")
    fitted = role.fitted
    assert engine.role(anchors="a+b") is role and engine.role(anchors="a+b").fitted is fitted
    assert engine.role(anchors="a") is engine.role() and engine.role(anchors="a@1") is engine.role()
    assert role.anchors.members[0] is engine.anchors  # type: ignore[attr-defined]
    assert engine.role(anchors="b").anchors is role.anchors.members[1]  # type: ignore[attr-defined]
    Store(home).remove("b", IDS[38:])  # now the alias means another version
    moved = engine.role(anchors="a+b")
    assert moved is not role and moved.anchors.count == 38
    gone = weakref.ref(role.anchors)
    del role, fitted
    gc.collect()
    assert gone() is None
    for number in range(CACHED_VIEWS):
        engine.role(where=f"id != '{IDS[number]}'")
    assert engine.role(anchors="a+b") is not moved  # it was not asked for longest
    old = [weakref.ref(kept.anchors) for kept in engine._snapshot.views.values()]
    assert len(old) == CACHED_VIEWS
    del moved
    engine.swap("a@1")
    gc.collect()
    assert not [ref for ref in old if ref() is not None]


def test_many_threads_name_the_same_view_and_it_is_made_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(home, EVERY[:25], name="a")
    build(home, EVERY[15:], name="b")
    made: list[Any] = []

    def counted(*given: Any) -> View:
        made.append(given)
        return open_view(*given)

    monkeypatch.setattr("asif.engine.snapshots.open_view", counted)
    engine = Engine("a", home=home, aligner=make_aligner("asif"))
    expected = predict_all(engine, anchors="a+b")
    which = [{"anchors": "a+b"}, {"where": WHERE}, {"anchors": "b"}] * 20
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda some: predict_all(engine, **some), which))
    assert found[::3] == [expected] * 20 and len({str(each[0]) for each in found}) == 3
    assert len(made) == 2


def test_nothing_is_encoded_again(home: Path, hashing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    make_set(home, "toy").close()
    make_set(home, "own", seed=1).close()
    engine, images = Engine("toy", home=home, aligner=make_aligner("asif")), [b"one", b"two"]
    first = list(engine.classify(images, LABELS))
    encoders = dict(engine.encoders._loaded)
    monkeypatch.setattr("asif.encoders.text_cache.TextCache.put", None)  # texts are known
    monkeypatch.setattr(encoders["text", "sentence-transformers:fake", "float32"], "forward", None)
    vectors = Embeddings(np.stack(list(engine.encode_images(images))))
    forward, seen = encoders["image", "timm:fake", "float32"].forward, []

    def noted(inputs: Sequence[bytes]) -> Any:
        seen.extend(inputs)
        return forward(inputs)

    monkeypatch.setattr(encoders["image", "timm:fake", "float32"], "forward", noted)
    for which in ({"anchors": "own"}, {"anchors": "toy+own"}, {"where": "licence = 'CC-BY-4.0'"}):
        by_vectors = engine.classify_vectors(vectors, LABELS, **which)
        assert seen == []
        by_images = list(engine.classify(images, LABELS, **which))
        assert seen == images
        seen.clear()
        assert [one.predictions for one in by_vectors] == [one.predictions for one in by_images]
        assert {one.anchors for one in by_vectors} == {one.anchors for one in by_images}
        assert [one.predictions for one in by_vectors] != [one.predictions for one in first]
    assert engine.encoders._loaded == encoders
    np.testing.assert_array_equal(engine.encode_texts(["a"], "own").values, engine.encode_texts(["a"]).values)
    scores = [
        np.concatenate(list(engine.score_blocks("image", vectors, engine.encode_texts(["a", "b"]), anchors=name)))
        for name in (None, "own")
    ]
    assert scores[0].shape == (2, 2) and not np.array_equal(*scores)


def test_another_encoder_is_loaded_for_a_call_and_let_go(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(spec: str, *_: object) -> ImageEncoder:
        loaded.append(spec)
        return replace(fake_image(), spec=spec)  # type: ignore[return-value]

    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", load)
    make_set(home, "toy").close()
    make_set(home, "other", image=replace(fake_image(), spec="timm:other"), seed=1).close()
    engine = Engine("toy", home=home, aligner=make_aligner("asif"))
    for name in (None, "other", "other", None):
        assert len(list(engine.encode_images([b"x"], anchors=name))) == 1
    assert loaded == ["timm:fake", "timm:other"]
    make_set(home, "strange", image=fake_image(weights="others"), seed=2).close()
    with pytest.raises(EncoderMismatch, match="weights: 'others' in the set, None here"):
        engine.role(anchors="strange")
    engine.role(anchors="other")
    engine.swap("toy")  # a call named the other one: it may again
    assert {spec for _, spec, _ in engine.encoders._loaded} == {"timm:fake", "timm:other"}
    engine.swap("toy")
    assert {spec for _, spec, _ in engine.encoders._loaded} == {"timm:fake"}
    engine.swap("other")  # loaded before it is served
    assert loaded == ["timm:fake", "timm:other", "timm:other"]


def test_a_view_for_notebooks(home: Path, hashing: None) -> None:
    make_set(home, "toy").close()
    make_set(home, "own", seed=1).close()
    view = Engine("toy+own", home=home, where="licence != '<b>'").anchors
    assert isinstance(view, View)
    assert len(view) == view.count > 20
    assert list(view) == view.records(range(view.count))
    assert "licence != &#x27;&lt;b&gt;&#x27;" in view._repr_html_()
    assert f"<View {view.ref}: {view.count} anchors>" == repr(view)
