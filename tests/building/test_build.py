"""Builds: what becomes of pairs, compared with the plain definition, and the command around it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.build_fakes import (
    SIDES,
    FakeImages,
    FakeTexts,
    ListSource,
    anchor_ids,
    build_set,
    draw_vector,
    identity,
    list_source,
    reject_lines,
    rejects,
    some_rows,
    stored_rows,
    unit,
    write_parquet,
)
from support.build_images import random_png
from support.dry_run import dry_run
from support.examples import examples
from support.running import Ran

from asif.aligners import Hubness, make_aligner
from asif.anchorset import Store
from asif.building import BuildOptions, Tolerance
from asif.building.expected_digest import compare_source
from asif.building.head import HeadSource
from asif.building.recipe import HeadRecipe
from asif.building.recipe_file import list_recipes, read_recipe
from asif.encoders import ClassifierHead, ImageEncoder, TextEncoder
from asif.engine import build_anchors
from asif.errors import InputRefused, UsageError
from asif.pairs import Pair, Reject, open_pairs
from asif.vectors import Float32, Side

# captions


def defined(captions: str, rows: Sequence[Any]) -> dict[str, tuple[tuple[str, ...], Any, Any]]:
    """Say what a build is, plainly: {id: (captions, image vector, text vector)}."""
    anchors: dict[str, tuple[tuple[str, ...], Any, Any]] = {}
    for name, image, texts in rows:
        each = [unit(draw_vector(text.encode(), "text")) for text in texts]
        shown = unit(draw_vector(image, "image"))
        if captions == "mean":
            anchors[name] = texts, shown, unit(np.mean(each, axis=0))
        elif captions == "first":
            anchors[name] = texts[:1], shown, each[0]
        else:
            anchors |= {f"{name}#{at}": (texts[at : at + 1], shown, each[at]) for at in range(len(texts))}
    return dict(sorted(anchors.items()))


@pytest.mark.parametrize("captions", ["mean", "first", "all"])
def test_captions(tmp_path: Path, captions: Any) -> None:
    rows = some_rows(11)
    anchors = build_set(list_source(*rows), tmp_path, captions=captions, dtype="float32").anchors
    expected = defined(captions, rows)
    assert anchor_ids(anchors) == list(expected)
    assert len(expected) == {"mean": 11, "first": 11, "all": 16}[captions]
    assert [record.captions for record in anchors.records(range(anchors.count))] == [e[0] for e in expected.values()]
    for at, side in enumerate(SIDES):
        np.testing.assert_allclose(stored_rows(anchors, side), [each[1 + at] for each in expected.values()], atol=2e-7)


def test_a_caption_is_encoded_once_in_a_segment(tmp_path: Path) -> None:
    text = FakeTexts()
    build_set(list_source(*[(str(row), b"%d" % row, ("a dog", f"{row % 3}")) for row in range(9)]), tmp_path, text=text)
    assert text.seen == ["0", "1", "2", "a dog"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_stored_values_are_the_computed_ones_rounded(tmp_path: Path, dtype: str) -> None:
    rows = some_rows(9)
    exact = build_set(list_source(*rows), tmp_path, name="exact", dtype="float32").anchors
    anchors = build_set(list_source(*rows), tmp_path, dtype=dtype).anchors
    as_type = {"float16": np.float16, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16}[dtype]
    for side in SIDES:
        assert stored_rows(anchors, side).dtype == as_type
        assert np.array_equal(stored_rows(anchors, side), stored_rows(exact, side).astype(as_type))


# ids and duplicates


def test_ids_are_kept_or_made_from_the_content(tmp_path: Path) -> None:
    rows: list[Any] = [("mine", b"x", ("a dog",)), (None, b"y", ("a dog",)), (None, b"y", ("a cat",))]
    anchors = build_set(list_source(*rows), tmp_path).anchors
    assert "mine" in anchor_ids(anchors)
    assert {len(name) for name in anchor_ids(anchors)} == {4, 16}
    other_order = build_set(list_source(*rows[::-1]), tmp_path, name="other").anchors
    assert anchor_ids(other_order) == anchor_ids(anchors)


def test_equal_pairs_are_dropped_or_kept_as_said(tmp_path: Path) -> None:
    rows: list[Any] = [
        ("b", b"x", ("a dog",)),
        ("a", b"x", ("a dog",)),
        ("a", b"x", ("a dog",)),
        ("c", b"x", ("a cat",)),
        ("c", b"y", ("a bird",)),
        (None, b"z", ("a cow",)),
        (None, b"z", ("a cow",)),
    ]
    exact = build_set(list_source(*rows), tmp_path, max_bad_rows=Tolerance(1.0)).anchors
    assert (exact.count, exact.manifest.rows_in, exact.manifest.rejected) == (3, 7, 4)
    found = rejects(tmp_path, exact)
    assert {row: found[row] for row in (0, 2)} == {0: "duplicate of a", 2: "duplicate of the same id"}
    assert sorted(found.values()).count("id used by another pair") == 1
    kept = build_set(list_source(*rows), tmp_path, name="kept", dedup="keep", max_bad_rows=Tolerance(1.0)).anchors
    assert [name for name in anchor_ids(kept) if name.startswith("row")] == ["row-5", "row-6"]
    assert (kept.count, kept.manifest.rejected) == (5, 2)  # an id names one pair, whatever is kept


def test_an_id_of_two_pairs_is_a_bad_row(tmp_path: Path) -> None:
    rows: list[Any] = [("a", b"x", ("a dog",)), ("b", b"y", ("a cat",)), ("a", b"z", ("a bird",))]
    with pytest.raises(InputRefused, match=r"1 bad rows \(row 2: id used by another pair\)"):
        build_set(list_source(*rows), tmp_path)
    assert build_set(list_source(*rows), tmp_path, max_bad_rows=Tolerance(number=1)).anchors.count == 2


@pytest.mark.parametrize("captions", ["mean", "first", "all"])
def test_rows_of_one_id_and_image_are_one_pair_with_all_captions(tmp_path: Path, captions: Any) -> None:
    texts = [("a dog",), ("a cat", "ein Bär"), ("x",)]
    long: list[Any] = [(f"{at // 3}", b"%d" % (at // 3), texts[at % 3]) for at in range(1200 * 3)]
    whole: list[Any] = [(f"{at}", b"%d" % at, ("a dog", "a cat", "ein Bär", "x")) for at in range(1200)]
    joined = build_set(list_source(*long), tmp_path, name="long", captions=captions)
    assert identity(joined.anchors) == identity(build_set(list_source(*whole), tmp_path, captions=captions).anchors)
    assert (joined.anchors.manifest.rejected, joined.joined) == (0, 0 if captions == "all" else 2400)


def write_apart(path: Path, pairs: int, captions: int = 3, bad: int | None = None) -> Path:
    """Write all first captions, then all second ones; the image of one pair may be bad."""
    names = [pair for _ in range(captions) for pair in range(pairs)]
    images = [b"bad" if pair == bad else b"%d" % pair for pair in names]
    texts = [f"caption {number} of {pair}" for number in range(captions) for pair in range(pairs)]
    return write_parquet(path, images, texts, image_id=names)


@pytest.mark.parametrize("captions", ["mean", "first", "all"])
def test_rows_of_one_pair_may_be_apart(tmp_path: Path, captions: Any) -> None:
    source = open_pairs(write_apart(tmp_path / "a.parquet", 700, bad=5))
    built = build_set(source, tmp_path, captions=captions, max_bad_rows=Tolerance(number=3))
    rows: list[Any] = [
        (f"{pair}", b"%d" % pair, tuple(f"caption {number} of {pair}" for number in range(3)))
        for pair in range(700)
        if pair != 5
    ]
    assert identity(built.anchors) == identity(
        build_set(list_source(*rows), tmp_path, name="whole", captions=captions).anchors
    )
    assert built.joined == (0 if captions == "all" else 2 * 699)
    assert rejects(tmp_path, built.anchors) == dict.fromkeys((5, 705, 1405), "bad bytes")
    compared = compare_source(source, built.anchors)
    assert (compared.digest, compared.missing, compared.more) == (built.anchors.digest, (), ())
    with pytest.raises(InputRefused, match="3 bad rows"):
        build_set(source, tmp_path, name="strict", captions=captions, max_bad_rows=Tolerance(number=2))


def test_rows_apart_of_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "1.png").write_bytes(b"1")
    rows = [f"{row % 2},{row % 2}.png,caption {row}" for row in range(6)]
    (tmp_path / "metadata.csv").write_text("\n".join(["image_id,file_name,caption", *rows]))
    built = build_set(open_pairs(tmp_path), tmp_path / "home", max_bad_rows=Tolerance(number=3))
    assert (built.anchors.count, built.anchors.manifest.rejected, built.joined) == (1, 3, 2)
    compared = compare_source(open_pairs(tmp_path), built.anchors)
    assert (compared.pairs, compared.digest, compared.rejected) == (1, built.anchors.digest, 3)


def test_a_limit_takes_no_captions_of_later_rows(tmp_path: Path) -> None:
    built = build_set(open_pairs(write_apart(tmp_path / "a.parquet", 6)), tmp_path, limit=9)
    found = {record.id: len(record.captions) for record in built.anchors.records(range(6))}
    assert found == {"0": 2, "1": 2, "2": 2, "3": 1, "4": 1, "5": 1} and built.joined == 3


def test_a_build_of_rows_apart_resumes(tmp_path: Path) -> None:
    source = open_pairs(write_apart(tmp_path / "a.parquet", 700, bad=5))
    texts = FakeTexts(odd={"caption 0 of 600": []})  # an error in the second segment
    with pytest.raises(ValueError, match="inhomogeneous"):
        build_set(source, tmp_path, text=texts, max_bad_rows=Tolerance(number=3))
    images = FakeImages()
    resumed = build_set(source, tmp_path, image=images, max_bad_rows=Tolerance(number=3))
    assert resumed.resumed_at == 512 and len(images.seen) == 700 - 512
    whole = build_set(source, tmp_path, name="whole", max_bad_rows=Tolerance(number=3))
    assert identity(resumed.anchors) == identity(whole.anchors) and resumed.joined == whole.joined == 2 * 699
    assert rejects(tmp_path, resumed.anchors) == dict.fromkeys((5, 705, 1405), "bad bytes")


def test_ids_of_several_images_are_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [b"%d" % row for row in range(100)], ["x"] * 100, id=[*range(50)] * 2)
    images = FakeImages()
    with pytest.raises(InputRefused, match=r"2 bad rows \(row 50: id used by another pair; row 51"):
        build_set(open_pairs(path), tmp_path, image=images, max_bad_rows=Tolerance(number=1))
    assert images.seen == []


def test_equal_images_of_an_id_in_several_files_are_no_conflict(tmp_path: Path) -> None:
    """Rows 0 and 2 are the same pair; row 4 has another image."""
    for name, content in (("0", b"x"), ("1", b"y"), ("2", b"x"), ("4", b"z")):
        (tmp_path / f"{name}.png").write_bytes(content)
    rows = ["a,0.png,one", "b,1.png,two", "a,2.png,one"]
    (tmp_path / "metadata.csv").write_text("\n".join(["image_id,file_name,caption", *rows, "b,1.png,three"]))
    built = build_set(open_pairs(tmp_path), tmp_path / "home", max_bad_rows=Tolerance(number=0))
    assert (built.anchors.count, built.anchors.manifest.rejected, built.joined) == (2, 1, 1)
    (tmp_path / "metadata.csv").write_text("\n".join(["image_id,file_name,caption", *rows, "b,4.png,four"]))
    with pytest.raises(InputRefused, match=r"1 bad rows \(row 3: id used by another pair\)"):
        build_set(open_pairs(tmp_path), tmp_path / "home", max_bad_rows=Tolerance(number=0))


def test_every_row_of_a_pair_with_a_bad_image_is_rejected(tmp_path: Path) -> None:
    rows: list[Any] = [("a", b"bad 1", ("a dog",)), ("a", b"bad 1", ("a cat",)), ("b", b"y", ("x",))]
    built = build_set(list_source(*rows), tmp_path, max_bad_rows=Tolerance(1.0))
    assert sorted(rejects(tmp_path, built.anchors)) == [0, 1]
    with pytest.raises(InputRefused, match="2 bad rows"):
        build_set(list_source(*rows), tmp_path, name="strict", max_bad_rows=Tolerance(number=1))


words = st.sampled_from(["a dog", "a cat", "ein Bär", "x"])
row_cells = st.tuples(
    st.sampled_from([None, None, "a", "b", "c"]),
    st.sampled_from([b"1", b"2", b"3", b"bad 4", b"nan"]),
    st.lists(words, min_size=1, max_size=3).map(tuple),
)


@pytest.mark.slow
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(row_cells, min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.sampled_from(["mean", "first", "all"]),
)
def test_the_order_of_rows_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], random: Any, captions: Any
) -> None:
    """P6: the digest and every stored value, where an id has no image twice: captions keep their order."""
    rows = list(
        {(name, image) if name else at: (name, image, texts) for at, (name, image, texts) in enumerate(rows)}.values()
    )
    shuffled = list(rows)
    random.shuffle(shuffled)
    image = FakeImages(odd={b"nan": [np.nan] * 6}, batch=3)
    home, options = tmp_path_factory.mktemp("shuffled"), {"captions": captions, "max_bad_rows": Tolerance(1.0)}
    found: list[Any] = []
    for name, some in (("one", rows), ("two", shuffled)):
        try:
            anchors = build_set(list_source(*some), home, image, name=name, **options).anchors
            reasons = sorted(reason for _, reason in reject_lines(home, anchors))
            found.append(
                (
                    anchors.digest,
                    anchor_ids(anchors),
                    reasons,
                    *(stored_rows(anchors, side).tobytes() for side in SIDES),
                )
            )
        except InputRefused as error:
            found.append(error.came.replace("'two'", "'one'"))
    assert found[0] == found[1]


def test_shuffled_pairs_and_the_real_encoders(
    tmp_path: Path, image_encoder: ImageEncoder, text_encoder: TextEncoder
) -> None:
    rng = np.random.default_rng(2)
    rows: list[Any] = [
        (
            None,
            random_png(row, *rng.integers(8, 90, 2)),
            (f"thing {row}", "a", f"and {row * row} more of them")[row % 3 :],
        )
        for row in range(37)
    ]
    first = build_set(list_source(*rows), tmp_path, image_encoder, text_encoder, captions="mean").anchors
    order = rng.permutation(len(rows))
    second = build_set(list_source(*[rows[at] for at in order]), tmp_path, image_encoder, text_encoder, "other").anchors
    assert first.digest == second.digest
    assert first.count == 37
    for side in SIDES:
        assert stored_rows(first, side).tobytes() == stored_rows(second, side).tobytes()
    assert np.abs(np.linalg.norm(stored_rows(first, "image").astype(np.float64), axis=1) - 1).max() < 1e-3


def test_the_digest_does_not_depend_on_segments_and_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests, blocks = set(), set()
    for rows in (512, 1, 7, 16):
        monkeypatch.setattr("asif.building.build.SEGMENT_ROWS", rows)
        anchors = build_set(
            list_source(*some_rows(16)), tmp_path, FakeImages(batch=1 + rows % 5), name=f"by-{rows}"
        ).anchors
        digests.add(anchors.digest)
        blocks |= {entry.sha256 for entry in anchors.manifest.blocks}
    assert len(digests) == len(blocks) == 1


# bad rows


def test_the_limit_counts_rows(tmp_path: Path) -> None:
    rows: list[Any] = [("a", b"bad 1", ("x",)), *some_rows(9)]
    anchors = build_set(list_source(*rows), tmp_path, limit=4, max_bad_rows=Tolerance(number=1)).anchors
    assert (anchors.manifest.rows_in, anchors.count) == (4, 3)
    assert build_set(list_source(*rows), tmp_path, limit=99, max_bad_rows=Tolerance(number=1)).anchors.count == 9


@pytest.mark.parametrize(
    ("text", "allowed"),
    [("0", 0), ("25", 25), ("1%", 10), ("0%", 0), ("100%", 1000), ("0.15%", 1)],
)
def test_tolerance(text: str, allowed: int) -> None:
    assert Tolerance.parse(text).allowed(1000) == allowed


@pytest.mark.parametrize("text", ["", "%", "-1", "101%", "-1%", "nan%", "inf%", "1.5", "one", "1 %%"])
def test_no_tolerance(text: str) -> None:
    with pytest.raises(UsageError, match="pass for example 1% or 25"):
        Tolerance.parse(text)


ODD: dict[str, Any] = {"nan": np.nan, "inf": np.inf, "zero": 0.0}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("captions", ["mean", "first", "all"])
def test_unusable_vectors_are_rejected_and_never_stored(tmp_path: Path, side: Side, captions: Any) -> None:
    """P7."""
    rows: list[Any] = [(name, name.encode(), (name, "more")) for name in ("a", *ODD, "b")]
    whole, part = ({name: [value] * width for name, value in ODD.items()} for width in (6, 4))
    image = FakeImages(odd={name.encode(): row for name, row in whole.items()} if side == "image" else {})
    text = FakeTexts(odd=part if side == "text" else {})
    anchors = build_set(
        list_source(*rows), tmp_path, image, text, captions=captions, max_bad_rows=Tolerance(number=3)
    ).anchors
    expected = defined(captions, [rows[0], rows[-1]])
    assert anchor_ids(anchors) == list(expected)
    assert list(rejects(tmp_path, anchors)) == [1, 2, 3]
    assert all(reason.startswith(f"{side} embedding is ") for reason in rejects(tmp_path, anchors).values())
    if side == "image":
        assert [reason.removeprefix("image embedding is ") for reason in rejects(tmp_path, anchors).values()] == [
            "not finite",
            "not finite",
            "zero",
        ]
    for each in SIDES:
        values = stored_rows(anchors, each).astype(np.float64)
        np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=2e-3)
    with pytest.raises(InputRefused, match=f"3 bad rows .*row 1: {side} embedding is"):
        build_set(
            list_source(*rows), tmp_path, image, text, "strict", captions=captions, max_bad_rows=Tolerance(number=2)
        )


def test_captions_that_cancel_out(tmp_path: Path) -> None:
    text = FakeTexts(odd={"up": [0, 1, 0, 0], "down": [0, -2, 0, 0]})
    rows: list[Any] = [("a", b"1", ("up", "down")), ("b", b"2", ("up",))]
    anchors = build_set(list_source(*rows), tmp_path, text=text, max_bad_rows=Tolerance(number=1)).anchors
    assert rejects(tmp_path, anchors) == {0: "text embedding is zero"}
    assert anchor_ids(anchors) == ["b"]


def test_vectors_of_any_length_and_one_pair(tmp_path: Path) -> None:
    """The smallest and the largest float32 are directions like any other."""
    tiny, huge = np.float32(1e-38), np.float32(3e38)
    image = FakeImages(odd={b"1": [tiny, tiny, 0, 0, 0, 0], b"2": [huge, -huge, 0, 0, 0, 0]})
    anchors = build_set(list_source(("a", b"1", ("x",)), ("b", b"2", ("y",))), tmp_path, image, dtype="float32").anchors
    np.testing.assert_allclose(
        stored_rows(anchors, "image")[:, :2], np.array([[1, 1], [1, -1]]) / np.sqrt(2), rtol=1e-6
    )
    assert build_set(list_source(("a", b"1", ("x",))), tmp_path, name="one").anchors.count == 1


def test_rows_that_their_source_left_out_are_not_bad(tmp_path: Path) -> None:
    items = [
        Reject(0, None, "status: failed_to_download"),
        Pair(1, "a", b"x", ("y",)),
        Reject(2, None, "image is null"),
    ]
    anchors = build_set(ListSource(items), tmp_path, max_bad_rows=Tolerance(number=1)).anchors
    assert (anchors.manifest.rows_in, anchors.manifest.rejected) == (3, 2)
    with pytest.raises(InputRefused, match=r"1 bad rows \(row 2: image is null\)"):
        build_set(ListSource(items, identity="again"), tmp_path, max_bad_rows=Tolerance(number=0))


def test_no_rows_and_no_good_rows(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="has no rows"):
        build_set(list_source(), tmp_path)
    with pytest.raises(InputRefused, match=r"none of 2 rows can become an anchor .*bad 1 bytes"):
        build_set(list_source(("a", b"bad 1", ("x",)), ("b", b"bad 1", ("x",))), tmp_path, max_bad_rows=Tolerance(1.0))
    assert Store(tmp_path).sets() == []


def test_a_source_that_ends_early_is_refused(tmp_path: Path) -> None:
    source = replace(list_source(*some_rows(5)), rows=9)
    with pytest.raises(InputRefused, match="ended after 5 rows") as caught:
        build_set(source, tmp_path)
    assert caught.value.expected.startswith("9 rows")


# precomputed vectors and heads


def test_precomputed_vectors(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    image, text = rng.standard_normal((30, 5)).astype(np.float32), rng.standard_normal((30, 3)).astype(np.float32)
    image[7], text[8, 1] = 0, np.nan
    table = {"image_embedding": pa.array(list(image)), "text_embedding": pa.array(list(text))}
    pq.write_table(pa.table({"id": [f"{row:02}" for row in range(30)], **table}), tmp_path / "pairs.parquet")
    options = BuildOptions(max_bad_rows=Tolerance(number=2), dtype="float32")
    anchors = build_anchors(tmp_path / "pairs.parquet", "toy", options=options, home=tmp_path).anchors
    good = [row for row in range(30) if row not in (7, 8)]
    assert list(rejects(tmp_path, anchors)) == [7, 8]
    for side, raw in (("image", image), ("text", text)):
        np.testing.assert_allclose(stored_rows(anchors, side), [unit(raw[row]) for row in good], atol=1e-7)
        assert anchors.encoder_spec(side) == "precomputed"


HEAD = ClassifierHead(
    np.eye(3, 6, dtype=np.float32) * 7, ("n1", "n2", "n3"), ("tench", "cat, tabby", "{name}"), ("a fish", "b", "c")
)


def test_anchors_from_a_head(tmp_path: Path) -> None:
    source = HeadSource(Path("head"), HEAD, ("{name}: {definition}", "a photo of {name}"))
    anchors = build_set(source, tmp_path, captions="mean", dtype="float32").anchors
    assert anchor_ids(anchors) == ["n1", "n2", "n3"]
    assert np.array_equal(stored_rows(anchors, "image"), np.eye(3, 6, dtype=np.float32))
    wanted = [unit(draw_vector(text.encode(), "text")) for text in ("tench: a fish", "a photo of tench")]
    np.testing.assert_allclose(stored_rows(anchors, "text")[0], unit(np.mean(wanted, axis=0)), atol=2e-7)
    assert anchors.records([1])[0].captions == ("cat, tabby: b", "a photo of cat, tabby")
    changed = replace(source, head=replace(HEAD, prototypes=HEAD.prototypes * np.float32(2)))
    assert len({source.identity, changed.identity, replace(source, captions=("{name}",)).identity}) == 3
    with pytest.raises(UsageError, match="'a photo' names no class"):
        HeadSource(Path("head"), HEAD, ("a photo",))


def test_recipes(tmp_path: Path) -> None:
    path = list_recipes()["imagenet-head"]
    recipe = read_recipe(path)
    assert isinstance(recipe, HeadRecipe)
    assert (recipe.name, recipe.encoders["image"], recipe.captions) == (
        "imagenet-head",
        "embedded:efficientnet-lite0",
        ("{name}: {definition}", "a photo of a {short}."),
    )
    tuned = recipe.profiles["classify"]
    assert make_aligner(tuned["aligner"]).name == "fused" and Hubness(**tuned["hubness"]).method == "none"
    (tmp_path / "recipe.toml").write_text('colour = "blue"\n' + path.read_text())
    with pytest.raises(UsageError, match="'colour'"):
        read_recipe(tmp_path / "recipe.toml")


# the command


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = some_rows(20)
    return write_parquet(
        tmp_path / "pairs.parquet", [row[1] for row in rows], [row[2] for row in rows], id=[r[0] for r in rows]
    )


pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.usefixtures("fakes")
def test_the_command_says_what_it_did(asif_build: Callable[..., Ran], pairs: Path, home: Path) -> None:
    said = asif_build(pairs, "--name", "toy")
    assert (said.code, said.err) == (
        0,
        f"{pairs}: parquet (Hugging Face)\n  20 rows, {pairs.stat().st_size:,} bytes in 1 file\n"
        "  image: image\n  captions: captions\n  id: id\n",
    )
    digest = Store(home).open("toy").digest
    assert said.out.startswith(f"toy@1: 20 anchors, digest {digest[:12]}\n  20 in = 20 kept + 0 rejected; ")
    found = asif_build(
        pairs, "--name", "other", "--json", "--dtype", "bfloat16", "--captions", "all", "--limit", 6
    ).json
    opened = Store(home).open("other")
    assert found.pop("seconds") > 0
    assert 0 <= found.pop("encoder_share") <= 1
    stages = found.pop("stages")
    assert list(stages) == ["read", "decode", "encode_images", "encode_texts", "write"]
    assert all(0 <= share <= 1 for share in stages.values())
    assert stages[found.pop("slowest_stage")] == max(stages.values())
    assert found.pop("decoders") >= 2
    assert found == {
        "name": "other",
        "version": opened.version,
        "digest": opened.digest,
        "anchors": 9,
        "rows_in": 9,  # captions, where each of them is an anchor
        "rejected": 0,
        "already_built": False,
        "resumed_at_row": 0,
        "bytes": Store(home).size("other"),
    }
    assert stored_rows(opened, "text").dtype == ml_dtypes.bfloat16


@pytest.mark.usefixtures("fakes")
def test_a_column_can_be_named(asif_build: Callable[..., Ran], tmp_path: Path, home: Path) -> None:
    path = write_parquet(tmp_path / "p.parquet", [b"1", b"2"], ["a dog", "a cat"], remark=["ein Hund", "eine Katze"])
    assert asif_build(path, "--name", "toy", "--column", "captions=remark").code == 0
    assert {record.captions for record in Store(home).open("toy").records([0, 1])} == {("ein Hund",), ("eine Katze",)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["PAIRS"], "Missing option '--name'"),
        (["PAIRS", "--name", "../x"], "the anchor set name '../x'"),
        (["PAIRS", "--name", "../x", "--dry-run"], "the anchor set name '../x'"),
        (["--name", "toy"], "neither PAIRS nor --from-head"),
        (["PAIRS", "--name", "toy", "--from-head", "timm:resnet18"], "PAIRS and --from-head"),
        (["nowhere.parquet", "--name", "toy"], "nowhere.parquet does not exist"),
        (["PAIRS", "--name", "toy", "--column", "captions=remark"], "remark"),
        (["PAIRS", "--name", "toy", "--column", "colour=captions"], "colour"),
        (["PAIRS", "--name", "toy", "--column", "captions"], "captions"),
        (["PAIRS", "--name", "toy", "--max-bad-rows", "many"], "--max-bad-rows is 'many'"),
        (["PAIRS", "--name", "toy", "--limit", "0"], "'--limit': 0"),
        (["PAIRS", "--name", "toy", "--image-encoder", "resnet18"], "the image encoder is 'resnet18'"),
        (["PAIRS", "--name", "toy", "--text-encoder", "timm:resnet18"], "the text encoder is 'timm:resnet18'"),
        (["--name", "toy", "--from-head", "resnet18"], "the image encoder is 'resnet18'"),
        (["--name", "toy", "--from-head", "timm:resnet18", "--dry-run"], "--from-head with --dry-run"),
        (
            ["--name", "toy", "--from-head", "timm:resnet18", "--limit", "3", "--captions", "all", "--fresh"],
            "--from-head with --captions, --resume, --limit",
        ),
    ],
)
def test_a_call_that_makes_no_sense(
    asif_build: Callable[..., Ran],
    fakes: tuple[FakeImages, FakeTexts],
    pairs: Path,
    home: Path,
    arguments: list[str],
    said: str,
) -> None:
    ran = asif_build(*[str(pairs) if argument == "PAIRS" else argument for argument in arguments])
    assert ran.code == 2
    assert said in ran.err
    assert ran.out == ""
    assert not home.exists()
    assert fakes[0].seen == []


def test_a_dry_run_loads_no_model(pairs: Path, home: Path) -> None:
    ran = dry_run(str(pairs), "--json")
    assert ran.code == 0, ran.err
    assert ran.err.endswith("[]\n")
    size = 20 * ((1280 + 384) * 2 + 32 + 150)
    assert ran.json == {"rows": 20, "seconds": round(20 / 50 + 20 / 200, 1), "bytes": size, "measured": False}
    assert not home.exists()
    (home / "cache").mkdir(parents=True)
    rates = {"embedded:efficientnet-lite0": 2.0, "embedded:all-minilm-l6-v2": 4.0}
    (home / "cache" / "rates.json").write_text(json.dumps(rates))
    ran = dry_run(str(pairs), "--limit", "8", "--dtype", "float32")
    assert ran.out == "8 rows, about 6 s (at speeds measured here), about 0.1 MB on disk\n"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", "null", '{"a": "x"}', '{"a": null}', '{"a": -1, "b": 0}', "\ud83d"]
)
def test_damaged_rates_are_no_rates(tmp_path: Path, content: str) -> None:
    from asif.building.estimate import read_encoder_rates

    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "rates.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    assert read_encoder_rates(tmp_path) == {}


def test_speeds_are_remembered(asif_build: Callable[..., Ran], fakes: Any, tmp_path: Path, home: Path) -> None:
    from asif.building.estimate import read_encoder_rates

    path = write_parquet(
        tmp_path / "p.parquet", [b"%d" % row for row in range(40)], [f"text {row}" for row in range(40)]
    )
    fakes[0].seconds = {"encoding": 0.01}
    assert asif_build(path, "--name", "toy").code == 0
    rates = read_encoder_rates(home)
    assert rates.keys() == {"timm:fake", "sentence-transformers:fake"}
    assert 100 < rates["timm:fake"] < 400  # 40 images in ten batches of 10 ms


def test_a_build_of_other_encoders_is_another_set(tmp_path: Path) -> None:
    first = build_set(list_source(*some_rows(4)), tmp_path).anchors
    again = build_set(list_source(*some_rows(4)), tmp_path).anchors
    assert (again.version, again.digest) == (first.version, first.digest)
    other = build_set(list_source(*some_rows(4)), tmp_path, FakeImages(model="other")).anchors
    assert other.digest != first.digest
    assert other.manifest.parent == first.version


def test_vectors_are_float32_until_they_are_stored(tmp_path: Path) -> None:
    """A mean of captions is taken of unit vectors: a long one does not drown a short one."""
    text = FakeTexts(odd={"long": [1000, 0, 0, 0], "short": [0, 0.001, 0, 0]})
    anchors = build_set(list_source(("a", b"1", ("long", "short"))), tmp_path, text=text, dtype="float32").anchors
    found: Float32 = stored_rows(anchors, "text")[0]
    np.testing.assert_allclose(found, np.array([1, 1, 0, 0]) / np.sqrt(2), rtol=1e-6)
