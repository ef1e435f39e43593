"""Building from Python: pairs from memory, options as keywords; the set is that of the same pairs in parquet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.build_fakes import FakeImages, FakeTexts, identity, rejects, write_parquet

import asif
from asif.building import BuildOptions, Tolerance
from asif.engine import add_pairs
from asif.errors import InputRefused, UsageError
from asif.pairs import open_pairs

COUNT = 40
IMAGES = [b"image %d" % number for number in range(COUNT)]
CAPTIONS = [[f"caption {number}", "ein Bär"][: 1 + number % 2] for number in range(COUNT)]
PAIRS = list(zip(IMAGES, CAPTIONS, strict=True))


@pytest.fixture
def fakes(home: Path, monkeypatch: pytest.MonkeyPatch) -> FakeImages:
    """Let builds load fake encoders; return that of images, which notes what it encodes."""
    images, texts = FakeImages(), FakeTexts()
    for place in ("asif.engine.build", "asif.engine.encoder_pool"):
        monkeypatch.setattr(f"{place}.load_image_encoder", lambda *_: images)
        monkeypatch.setattr(f"{place}.load_text_encoder", lambda *_: texts)
    return images


def build(pairs: Any, **options: Any) -> asif.AnchorSet:
    return asif.build_anchors(pairs, "toy", **options).anchors


def test_the_set_is_that_of_the_same_pairs_in_parquet(fakes: FakeImages, home: Path, tmp_path: Path) -> None:
    expected = identity(build(write_parquet(tmp_path / "pairs.parquet", IMAGES, CAPTIONS)))
    rows = [{"image": image, "captions": captions} for image, captions in PAIRS]
    for pairs in (PAIRS, iter(PAIRS), rows, pa.Table.from_pylist(rows), open_pairs(tmp_path / "pairs.parquet")):
        found = build(pairs)
        assert identity(found) == expected
        assert found.manifest.operation["source"] in ("pairs in memory", str(tmp_path / "pairs.parquet"))
    assert sorted(os.listdir(home)) == ["anchors", "cache"]


def test_a_build_from_memory_resumes(fakes: FakeImages, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.building.build.SEGMENT_ROWS", 10)
    whole = identity(build(PAIRS, resume=False))
    fakes.seen.clear()
    forward = fakes.forward

    def fail_late(prepared: Any) -> Any:
        if len(fakes.seen) >= 20:
            raise KeyboardInterrupt
        return forward(prepared)

    monkeypatch.setattr(fakes, "forward", fail_late)
    with pytest.raises(asif.AsifError, match="stopped at row 20 of 40"):
        asif.build_anchors(iter(PAIRS), "other")
    monkeypatch.setattr(fakes, "forward", forward)
    fakes.seen.clear()
    built = asif.build_anchors(iter(PAIRS), "other")
    assert (built.resumed_at, len(fakes.seen)) == (20, 20)
    assert identity(built.anchors) == whole


def test_options_are_keywords(fakes: FakeImages, home: Path) -> None:
    every = build(PAIRS, captions="all", dtype="float32")
    assert (every.count, every.manifest.dtype, every.manifest.captions) == (60, "float32", "all")
    assert build(PAIRS, limit=7).count == 7
    doubled = [(image, "one caption") for image in IMAGES[:3]] * 2
    assert (build(doubled).count, build(doubled, dedup="keep").count) == (3, 6)
    given = BuildOptions(dtype="float32", limit=5, max_bad_rows=Tolerance(number=3))
    both = build(PAIRS, options=given, limit=6)
    assert (both.count, both.manifest.dtype) == (6, "float32")
    named = [{"a": image, "b": captions, "caption": "not this"} for image, captions in PAIRS]
    assert build(named, columns={"captions": "b"}).digest == build(PAIRS).digest


def endless() -> Iterator[Any]:
    number = 0
    while True:
        yield b"image %d" % number, f"caption {number}"
        number += 1


def test_an_endless_iterable_has_a_limit(fakes: FakeImages, home: Path) -> None:
    assert build(endless(), limit=25).count == 25


def test_bad_rows_are_counted_and_limited(fakes: FakeImages, home: Path) -> None:
    rows = [*PAIRS, (b"bad", "a caption"), (None, "a caption"), (b"image", None)]
    with pytest.raises(InputRefused, match="1 bad rows"):
        build(rows)
    for most in (3, "3", "10%", Tolerance(number=3)):
        found = build(rows, max_bad_rows=most)
        assert (found.count, found.manifest.rejected) == (40, 3)
        assert rejects(home, found) == {40: "bad bytes", 41: "image is null", 42: "caption is null"}


def test_pairs_from_memory_are_added(fakes: FakeImages, home: Path) -> None:
    whole = build(PAIRS).digest
    build(PAIRS[:30])
    assert add_pairs("toy", iter(PAIRS[30:])).digest == whole


@pytest.mark.parametrize(
    ("options", "came"),
    [
        ({"captions": "average"}, "captions is 'average'"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"dedup": "none"}, "dedup is 'none'"),
        ({"limit": 0}, "limit is 0"),
        ({"max_bad_rows": "many"}, "--max-bad-rows is 'many'"),
    ],
)
def test_options_that_do_not_exist(fakes: FakeImages, options: Any, came: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(PAIRS, **options)
    assert caught.value.came == came
    assert fakes.seen == []


def test_an_open_source_has_its_columns(fakes: FakeImages, tmp_path: Path) -> None:
    source = open_pairs(write_parquet(tmp_path / "pairs.parquet", IMAGES, CAPTIONS))
    with pytest.raises(UsageError, match="columns or a split of a source that is open"):
        build(source, columns={"image": "x"})


def test_a_split_of_several(fakes: FakeImages, tmp_path: Path) -> None:
    for name, rows in (("train", 3), ("test", 2)):
        write_parquet(tmp_path / f"{name}.parquet", IMAGES[:rows], CAPTIONS[:rows])
    assert build(tmp_path, split="test").count == 2
    with pytest.raises(UsageError, match="the split 'test' of pairs in memory"):
        build(PAIRS, split="test")


def test_a_set_for_notebooks(fakes: FakeImages) -> None:
    anchors = build(PAIRS)
    assert len(anchors) == anchors.count == 40
    assert list(anchors) == anchors.records(range(40)) and len({record.id for record in anchors}) == 40
    assert repr(anchors) == f"<AnchorSet toy@{anchors.version}: 40 anchors>"
    page = anchors._repr_html_()
    assert f"<tr><th>anchors</th><td>{anchors.ref}</td></tr>" in page and "<td>40</td>" in page
    assert "timm:fake, 6 dimensions" in page and anchors.digest[:12] in page


def test_html_is_escaped(fakes: FakeImages, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.model = "<script>alert(1)</script>"
    page = build(PAIRS)._repr_html_()
    assert "<script>" not in page and "timm:&lt;script&gt;alert(1)&lt;/script&gt;" in page
