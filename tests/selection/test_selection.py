"""Choosing anchors: each method against its plain definition, and the set that is made of what was chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.anchorset_sets import DIMS, build, pairs
from support.engine_sets import IMAGE_DIM, fake_text, make_precomputed, make_set
from support.running import Cli, Ran

from asif import selection
from asif.anchorset import AnchorSet, Store
from asif.building import copy_rows as chosen_module
from asif.building.copy_rows import publish_rows
from asif.building.recipe import SELECTION_METHODS
from asif.engine import select_anchors
from asif.errors import IntegrityError, UsageError
from asif.selection.concepts import divide_evenly
from asif.selection.kmeans import draw_seeds
from asif.vectors import Embeddings, Float32, Int64, canonical_json, normalise_rows

Blocks = Sequence[Any]


def unit(count: int, dim: int, seed: int, distinct: int | None = None) -> Float32:
    """Draw unit rows [count, dim]; of `distinct` ones, some repeat."""
    random = np.random.default_rng(seed)
    rows = Embeddings.from_raw(random.standard_normal((distinct or count, dim))).values
    return rows if distinct is None else rows[random.integers(0, distinct, count)]


def cut(rows: Any, places: Sequence[int]) -> Blocks:
    """Cut rows into blocks, none of them empty."""
    return np.split(rows, sorted({place % len(rows) for place in places} - {0}))


# ---- k-DPP


def kernel_of(rows: Float32) -> Any:
    """Compare rows, as the unit vectors that they stand for."""
    wide = rows.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide @ wide.T + 1) ** 2


def greedy_determinant(rows: Float32, size: int) -> list[int]:
    """Take, step by step, the row with which the determinant is largest; the smaller of equal ones."""
    kernel = kernel_of(rows)
    found: list[int] = []
    while len(found) < size:
        gains = [-1.0 if row in found else det(kernel, [*found, row]) for row in range(len(rows))]
        found.append(int(np.argmax(np.round(gains, 9))))
    return sorted(found)


def det(kernel: Any, rows: list[int]) -> float:
    return float(np.linalg.det(kernel[np.ix_(rows, rows)]))


@given(st.integers(1, 12), st.integers(2, 6), st.integers(0, 2**32 - 1), st.data())
def test_kdpp_is_the_greedy_determinant(count: int, dim: int, seed: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, min(count, dim)))  # further determinants drown in rounding
    rows = unit(count, dim, seed)
    found = selection.choose_by_kdpp([rows], size).tolist()
    expected = greedy_determinant(rows, size)
    if found != expected:  # near-ties: equally good to rounding
        kernel = kernel_of(rows)
        assert det(kernel, found) == pytest.approx(det(kernel, expected), rel=1e-5)


def test_rounding_does_not_choose_the_first_row() -> None:
    rows = unit(6, 4, seed=2)
    for dtype in (np.float16, np.float32, np.float64):
        assert selection.choose_by_kdpp([rows.astype(dtype)], 1).tolist() == [0]


def test_kdpp_takes_rows_that_repeat_last() -> None:
    rows = unit(5, 8, seed=0)
    blocks = [np.concatenate([rows[[0, 0, 1, 1, 1]], rows[2:], rows[[3]]])]
    assert selection.choose_by_kdpp(blocks, 5).tolist() == [0, 2, 5, 6, 7]
    assert selection.choose_by_kdpp(blocks, 7).tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert selection.choose_by_kdpp(blocks, 9).tolist() == list(range(9))


def test_kdpp_spreads_better_than_chance() -> None:
    rows = unit(400, 16, seed=1)
    kernel = (rows.astype(np.float64) @ rows.T + 1) ** 2

    def volume(chosen: Int64) -> float:
        return float(np.linalg.slogdet(kernel[np.ix_(chosen, chosen)])[1])

    drawn = [volume(selection.choose_at_random(400, 30, seed)) for seed in range(50)]
    assert volume(selection.choose_by_kdpp([rows], 30)) > max(drawn)


def test_kdpp_refuses_what_memory_cannot_hold() -> None:
    blocks = [np.broadcast_to(np.float16(0.5), (200_000, 4))] * 20
    with pytest.raises(UsageError, match="takes 32,128,000,000 bytes"):
        selection.choose_by_kdpp(blocks, 1_000)


# ---- k-means


def plain_kmeans(rows: Float32, centres: Float32) -> list[int]:
    """Follow the definition from given centres, in float64, and take the row nearest to each."""
    wide, near = rows.astype(np.float64), None
    while True:
        before, near = near, (wide @ centres.T.astype(np.float64)).argmax(axis=1)
        if before is not None and (near == before).all():
            return sorted({int(row) for row in (wide @ centres.T.astype(np.float64)).argmax(axis=0)})
        for at in range(len(centres)):
            if (near == at).any():
                total = wide[near == at].sum(axis=0)
                centres[at] = total / np.linalg.norm(total)


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_is_the_plain_one(seed: int) -> None:
    rows = unit(120, 5, seed)
    start = normalise_rows(draw_seeds([rows], 6, np.random.default_rng(seed)))
    expected = plain_kmeans(rows, start)
    found = selection.choose_by_kmeans([rows], 6, seed).tolist()
    assert len(found) == 6 and set(expected) <= set(found)


@given(st.integers(1, 8), st.integers(0, 1000))
def test_kmeans_takes_one_of_each_narrow_cluster(clusters: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    whose = np.concatenate([np.arange(clusters), random.integers(0, clusters, 40)])
    rows = np.eye(8)[whose] + 1e-5 * random.standard_normal((len(whose), 8))  # wide ones may get two seeds, or none
    chosen = selection.choose_by_kmeans([Embeddings.from_raw(rows).values], clusters, seed)
    assert sorted(whose[chosen].tolist()) == list(range(clusters))


def test_kmeans_seeds_do_not_repeat_rows_while_there_are_others() -> None:
    rows = np.eye(4, dtype=np.float32)[[0] * 50 + [1] * 50 + [2, 3]]
    for seed in range(20):
        assert len(np.unique(draw_seeds([rows], 4, np.random.default_rng(seed)), axis=0)) == 4


def test_kmeans_fills_up_where_clusters_coincide() -> None:
    rows = unit(30, 4, seed=0, distinct=3)
    for size in (3, 5, 30):
        chosen = selection.choose_by_kmeans([rows], size)
        assert len(set(chosen.tolist())) == size and chosen.tolist() == sorted(chosen)
        assert len(np.unique(rows[chosen], axis=0)) == 3


def test_kmeans_hangs_on_the_seed_alone(threads: Callable[[int], None]) -> None:
    rows = unit(300, 6, seed=0)
    threads(1)
    first = selection.choose_by_kmeans([rows], 20, seed=3).tolist()
    threads(3)
    assert selection.choose_by_kmeans([rows], 20, seed=3).tolist() == first
    assert selection.choose_by_kmeans([rows], 20, seed=4).tolist() != first


# ---- random


def test_random_takes_every_row_equally_often() -> None:
    times = np.zeros(10)
    for seed in range(2_000):
        chosen = selection.choose_at_random(10, 3, seed)
        assert len(set(chosen.tolist())) == 3
        times[chosen] += 1
    assert abs(times - 600).max() < 5 * np.sqrt(2_000 * 0.3 * 0.7)
    assert set(selection.choose_at_random(10, 3, 7)) < set(selection.choose_at_random(10, 8, 7))


# ---- concepts


def plain_concepts(texts: Float32, prompts: Float32, size: int) -> list[int]:
    """Deal out what is left to the concepts that are left, the rarest first."""
    similar = texts.astype(np.float64) @ prompts.T.astype(np.float64)
    pools = [[row for row in range(len(texts)) if similar[row].argmax() == concept] for concept in range(len(prompts))]
    pools.sort(key=len)
    chosen: list[int] = []
    while pools:
        pool, share = pools[0], (size - len(chosen)) // len(pools)
        chosen += sorted(pool, key=lambda row: -similar[row].max())[:share]
        pools = pools[1:]
    return sorted(chosen)


@given(st.integers(1, 40), st.integers(1, 7), st.integers(0, 2**32 - 1), st.data())
def test_concepts_are_the_plain_ones(count: int, named: int, seed: int, data: st.DataObject) -> None:
    texts, prompts = unit(count, 5, seed), unit(named, 5, seed + 1)
    size = data.draw(st.integers(1, count))
    found = selection.choose_by_concepts([texts], prompts, size)
    assert found.tolist() == plain_concepts(texts, prompts, size)
    assert len(found) == size


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12), st.data())
def test_shares_are_as_even_as_pools_allow(pools: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(0, sum(pools)))
    taken = divide_evenly(np.array(pools), size)
    assert taken.sum() == size and (taken <= pools).all() and (taken >= 0).all()
    short = [share for share, pool in zip(taken, pools, strict=True) if share < pool]
    assert not short or taken.max() - min(short) <= 1


def test_texts_that_repeat_are_the_concepts() -> None:
    rows = unit(9, 4, seed=0, distinct=3)
    distinct = selection.find_repeated_rows([rows])
    assert distinct is not None
    _, first = np.unique(rows, axis=0, return_index=True)
    np.testing.assert_array_equal(distinct, rows[np.sort(first)])
    assert selection.find_repeated_rows([unit(9, 4, seed=0)]) is None


# ---- how rows lie in blocks


@given(st.integers(0, 1000), st.lists(st.integers(0, 10_000), max_size=6), st.sampled_from(["float16", "float32"]))
def test_the_choice_does_not_depend_on_blocks(seed: int, places: list[int], dtype: str) -> None:
    rows = unit(60, 7, seed, distinct=50 if seed % 2 else None).astype(dtype)
    prompts = unit(5, 7, seed + 1)
    methods: list[Callable[[Blocks], Any]] = [
        lambda blocks: selection.choose_by_kmeans(blocks, 9, seed),
        lambda blocks: selection.choose_by_kdpp(blocks, 9),
        lambda blocks: selection.choose_by_concepts(blocks, prompts, 9),
        selection.find_repeated_rows,
    ]
    for method in methods:
        np.testing.assert_array_equal(method([rows]), method(cut(rows, places)))


# ---- the new set


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
@pytest.mark.parametrize("captions", ["mean", "all"])
def test_a_chosen_set_is_a_build_of_only_those_pairs(
    tmp_path: Path, dtype: str, captions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen_module, "COPY_SEGMENT_ROWS", 4)
    whole = build(tmp_path / "whole", pairs(40), dtype=dtype, captions=captions)
    rows = selection.choose_at_random(40, 13, seed=1)
    made = publish_rows([(whole, rows)], Store(tmp_path / "whole"), "some", {"kind": "select"})
    alone = build(tmp_path / "alone", whole.records(rows), name="some", dtype=dtype, captions=captions)
    assert (made.digest, made.count) == (alone.digest, 13)
    assert made.manifest.blocks == alone.manifest.blocks  # every byte of them, and of the pairs
    for side in DIMS:
        stored = np.concatenate(whole.blocks(side))[rows]
        np.testing.assert_array_equal(np.concatenate(made.blocks(side)).view(np.uint8), stored.view(np.uint8))
    assert (made.manifest.rows_in, made.manifest.rejected, made.manifest.captions) == (13, 0, captions)
    assert made.manifest.encoders == whole.manifest.encoders
    Store(tmp_path / "whole").verify("some").raise_if_bad()


def test_what_was_killed_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_module, "COPY_SEGMENT_ROWS", 4)
    whole, store, rows = build(tmp_path, pairs(40)), Store(tmp_path), np.arange(0, 40, 3)
    with monkeypatch.context() as patch:
        read: list[int] = []

        def failing(some: Int64) -> Any:
            read.extend(some.tolist())
            if len(read) > 8:
                raise OSError("killed")
            return AnchorSet.records(whole, some)

        patch.setattr(whole, "records", failing)
        with pytest.raises(OSError, match="killed"):
            publish_rows([(whole, rows)], store, "some", {"kind": "select"})
    again: list[int] = []
    monkeypatch.setattr(whole, "records", lambda some: again.extend(some.tolist()) or AnchorSet.records(whole, some))
    made = publish_rows([(whole, rows)], store, "some", {"kind": "select"})
    assert again == rows[8:].tolist()
    assert made.records(range(made.count)) == AnchorSet.records(whole, rows)
    assert not (tmp_path / "anchors" / "some" / "journal").exists()


def test_a_changed_source_is_not_copied(tmp_path: Path) -> None:
    whole = build(tmp_path, pairs(10))
    (table,) = (tmp_path / "anchors" / "toy" / "pairs").iterdir()
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.chmod(0o644)
    table.write_bytes(content)
    with pytest.raises(IntegrityError):
        publish_rows([(whole, np.arange(3))], Store(tmp_path), "some", {"kind": "select"})


# ---- the engine and the command line


@pytest.fixture
def toy(home: Path, hashing: None) -> Path:
    """Return a store with the sets `toy` and `vectors`, and let engines load fake encoders."""
    make_set(home).close()
    make_precomputed(home.parent / "pairs", home).close()
    return home


def select(cli: Cli, *arguments: object, ref: str = "toy") -> Ran:
    return cli("anchors", "select", ref, "--name", "few", *arguments)


def concept_file(folder: Path, content: str = "red_panda\nowl\nnewt\n\n") -> Path:
    path = folder / "concepts.txt"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    return path


def test_every_method_end_to_end(cli: Cli, toy: Path, tmp_path: Path) -> None:
    whole = Store(toy).open("toy")
    image, text = (whole.blocks(side) for side in ("image", "text"))
    prompts = [f"a photo of a {word}." for word in ("red panda", "owl", "newt")]
    vectors = Embeddings.from_raw(fake_text().forward(prompts)).values
    said = hashlib.sha256(canonical_json(["red_panda", "owl", "newt"])).hexdigest()
    about = {"count": 3, "sha256": said, "templates": ["a photo of a {}."]}
    asked: list[tuple[tuple[object, ...], Int64, dict[str, Any]]] = [
        (("random", "--seed", 5), selection.choose_at_random(20, 7, 5), {"seed": 5}),
        (("kmeans",), selection.choose_by_kmeans(image, 7), {"side": "image", "seed": 0}),
        (("kmeans", "--side", "text"), selection.choose_by_kmeans(text, 7), {"side": "text", "seed": 0}),
        (("kdpp",), selection.choose_by_kdpp(image, 7), {"side": "image"}),
        (
            ("concepts", "--concepts", concept_file(tmp_path)),
            selection.choose_by_concepts(text, vectors, 7),
            {"concepts": about},
        ),
    ]
    for seq, (arguments, rows, how) in enumerate(asked, start=1):
        ran = select(cli, "--size", 7, "--json", "--method", *arguments)
        assert ran.code == 0, ran.err
        few = Store(toy).open("few")
        assert few.records(range(7)) == whole.records(rows)
        origin = {"kind": "select", "from": "toy@1", "digest": whole.digest}
        operation = {**origin, "method": arguments[0], "size": 7, **how}
        assert few.manifest.operation == ran.json["operation"] == operation
        shown = {"name": "few", "version": few.version, "digest": few.digest, "anchors": 7}
        assert {key: ran.json[key] for key in shown} == shown
        assert few.manifest.seq == seq
    Store(toy).verify("few").raise_if_bad()
    again = select(cli, "--size", 7, "--json", "--method", *asked[-1][0])
    assert again.json["version"] == few.version  # the same choice is the same version
    assert cli("anchors", "info", "few").code == 0


def test_select_for_people(cli: Cli, toy: Path) -> None:
    ran = select(cli, "--method", "random", "--size", 3)
    few = Store(toy).open("few")
    assert ran.out == f"few@1: 3 anchors of toy@1 by random, digest {few.digest[:12]}\n"


def test_chosen_anchors_answer_as_themselves(toy: Path) -> None:
    everything = select_anchors("toy", method="kmeans", size=20, name="few", home=toy)
    assert everything.digest == Store(toy).open("toy").digest
    Store(toy).publish_profile("toy", "classify", {"aligner": "cca"}, "1")
    same = select_anchors("toy", method="kmeans", size=5, name="toy", home=toy)
    assert (same.count, same.manifest.seq, same.manifest.operation["from"]) == (5, 3, "toy@2")
    assert same.profiles == {}  # it was found for 20


def test_texts_that_repeat_need_no_file_and_no_encoder(cli: Cli, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "labelled"
    folder.mkdir()
    whose = np.array([0] * 9 + [1] * 6 + [2])
    np.save(folder / "img_emb_0.npy", unit(16, IMAGE_DIM, 0))
    np.save(folder / "text_emb_0.npy", np.eye(3, dtype=np.float32)[whose])
    assert cli("build-anchors", folder, "--name", "labelled").code == 0
    ran = select(cli, "--method", "concepts", "--size", 8, "--json", ref="labelled")
    assert ran.json["operation"]["concepts"] == {"count": 3, "source": "texts"}
    few = Store(home).open("few")
    assert np.concatenate(few.blocks("text")).argmax(axis=1).tolist().count(2) == 1
    assert sorted(np.concatenate(few.blocks("text")).sum(axis=0).tolist()) == [1, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "content", "message"),
    [
        (("--method", "random", "--size", 21), "", "1 to 20"),
        (("--method", "random", "--size", 0), "", "Invalid value for '--size'"),
        (("--method", "random", "--size", -3), "", "Invalid value for '--size'"),
        (("--method", "random", "--size", 10**30), "", "1 to 20"),
        (("--method", "random"), "", "Missing option '--size'"),
        (("--method", "magic", "--size", 3), "", "Invalid value for '--method'"),
        (("--method", "random", "--size", 3, "--seed", -1), "", "Invalid value for '--seed'"),
        (("--method", "random", "--size", 3, "--side", "text"), "", "random was given side"),
        (("--method", "kdpp", "--size", 3, "--seed", 1), "", "kdpp was given seed"),
        (("--method", "concepts", "--size", 3, "--seed", 1), "", "concepts was given seed"),
        (("--method", "kmeans", "--size", 3, "--concepts", "FILE"), "cat", "kmeans was given concepts"),
        (("--method", "concepts", "--size", 3), "", "the texts of toy@1 do not repeat"),
        (("--method", "concepts", "--size", 3, "--concepts", "nowhere"), "", "nowhere cannot be read"),
        (("--method", "concepts", "--size", 3, "--concepts", "."), "", ". cannot be read"),
        (("--method", "concepts", "--size", 3, "--concepts", "FILE"), "", "label 1 of 1 is blank"),
        (("--method", "concepts", "--size", 3, "--concepts", "FILE"), "cat\n\ndog\n", "label 2 of 3 is blank"),
        (("--method", "concepts", "--size", 3, "--concepts", "FILE"), "cat\ndog\0\n", "NUL"),
        (("--method", "concepts", "--size", 3, "--concepts", "FILE"), "cat\ncaf\udce9\n", "cannot be read"),
        (("--method", "concepts", "--size", 3, "--concepts", "FILE"), "cat\n cat\n", "comes 2 times"),
        (("--method", "random", "--size", 3, "--name", "../x"), "", "the anchor set name '../x'"),
    ],
)
def test_select_refuses(
    cli: Cli, toy: Path, tmp_path: Path, arguments: tuple[Any, ...], content: str, message: str
) -> None:
    file = concept_file(tmp_path, content)
    ran = select(cli, *(file if each == "FILE" else each for each in arguments))
    assert (ran.code, message in ran.err) == (2, True), ran.err
    assert not (toy / "anchors" / "few").exists()


def test_select_knows_what_there_is(cli: Cli, toy: Path, tmp_path: Path) -> None:
    ran = select(cli, "--method", "random", "--size", 3, ref="nothing")
    assert ran.code == 2 and "there is no anchor set 'nothing'" in ran.err
    given = ("--method", "concepts", "--size", 3, "--concepts", concept_file(tmp_path))
    ran = select(cli, *given, ref="vectors")
    assert ran.code == 2 and "precomputed" in ran.err
    usage = cli("anchors", "select", "--help").out
    assert all(method in usage for method in SELECTION_METHODS)
    with pytest.raises(UsageError, match="the method is 'magic'"):
        select_anchors("toy", method="magic", size=3, name="few", home=toy)  # type: ignore[arg-type]


def test_another_encoder_than_the_sets_is_refused(
    cli: Cli, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = fake_text(model="another")
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda spec, device: other)
    given = ("--method", "concepts", "--size", 3, "--concepts", concept_file(tmp_path))
    assert select(cli, *given).code == 4
    assert select(cli, "--method", "kmeans", "--size", 3).code == 0  # nothing is encoded
