"""Sums over anchors that are kept beside a set: taken up, followed from version to version, and checked."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from support.anchorset_sets import pairs
from support.engine_sets import IMAGE_DIM, TEXT_DIM, fake_image, fake_text

from asif.aligners import Moments, make_aligner
from asif.aligners.moments import find_moments
from asif.anchorset import AnchorSet, EncoderInfo, Store
from asif.engine import cached_fit
from asif.errors import IntegrityError
from asif.vectors import Embeddings

CUT = 8
EVERY = [
    Embeddings.from_raw(np.random.default_rng(side).standard_normal((200, dim)) + 0.2).values
    for side, dim in enumerate((IMAGE_DIM, TEXT_DIM))
]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be short, and sums over few anchors be worth a file."""
    monkeypatch.setattr("asif.anchorset.write.publish.MAX_BLOCK_ROWS", CUT)
    monkeypatch.setattr("asif.anchorset.format.anchor_set.MIN_ANCHORS_FOR_SUMS", 1)


def publish(home: Path, rows: slice) -> AnchorSet:
    """Publish some of the pairs; blocks that versions have in common are one file."""
    start, stop, _ = rows.indices(200)
    image, text = fake_image(), fake_text()
    with Store(home).journal("toy", {"dtype": "float16", "rows": [start, stop]}) as journal:
        records = [replace(one, id=f"{start + at:03d}") for at, one in enumerate(pairs(stop - start, start=start))]
        journal.append(records, *(side[rows] for side in EVERY), [], stop - start)
        return journal.publish(
            image=EncoderInfo(image.spec, image.fingerprint),
            text=EncoderInfo(text.spec, text.fingerprint),
            dtype="float16",
            captions="mean",
            operation={"kind": "build", "source": "test"},
            asif_version="0.0.test",
            dedup="keep",
        )


def find_sum_files(home: Path) -> list[Path]:
    return sorted((home / "anchors" / "toy" / "fits").glob("*"))


def assert_same_moments(found: Moments, anchors: AnchorSet) -> None:
    """Compare with fresh sums: within 1e-12 of the largest entry."""
    fresh = Moments.of(anchors)
    assert found.count == fresh.count == anchors.count
    for field in fields(Moments)[1:]:
        got, expected = getattr(found, field.name), getattr(fresh, field.name)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rows that are summed, call by call."""
    counted: list[int] = []
    real = Moments.over.__func__  # type: ignore[attr-defined]

    def over(cls: type[Moments], blocks: object, engine: str = "auto") -> Moments:
        found: Moments = real(cls, blocks, engine)
        counted.append(found.count)
        return found

    monkeypatch.setattr(Moments, "over", classmethod(over))
    return counted


def test_sums_are_taken_once_and_then_taken_up(home: Path, reads: list[int]) -> None:
    anchors = publish(home, slice(0, 40))
    cached_fit.fit_aligner(make_aligner("cca"), anchors)
    cached_fit.fit_aligner(make_aligner("procrustes"), anchors)
    assert reads == [40] and len(find_sum_files(home)) == 3
    again = Store(home).open("toy")
    cached_fit.fit_aligner(make_aligner("0.5*ridge+asif(k=3)"), again)
    assert reads == [40]
    assert_same_moments(find_moments(again), again)
    Store(home).verify("toy").raise_if_bad()


def test_a_fit_from_kept_sums_is_the_same(home: Path) -> None:
    fitted = [cached_fit.fit_aligner(make_aligner("cca(size=3)"), publish(home, slice(0, 40)))]
    for path in find_sum_files(home):
        if "cca" in path.read_bytes()[:300].decode(errors="replace"):
            path.unlink()
    fitted.append(cached_fit.fit_aligner(make_aligner("cca(size=3)"), Store(home).open("toy")))
    one, two = (each.arrays() for each in fitted)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_an_aligner_without_maps_sums_nothing(home: Path, reads: list[int]) -> None:
    cached_fit.fit_aligner(make_aligner("asif"), publish(home, slice(0, 40)))
    assert reads == [] and find_sum_files(home) == []


@pytest.mark.parametrize(
    ("before", "after", "read"),
    [
        (slice(0, 40), slice(0, 80), [40]),
        (slice(0, 80), slice(0, 40), [40]),  # as many rows as there are: they are summed anew
        (slice(0, 80), slice(0, 56), [24]),
        (slice(0, 84), slice(0, 77), [5, 12]),  # blocks that end elsewhere are other blocks
        (slice(0, 40), slice(80, 120), [40]),
    ],
    ids=["added", "halved", "removed", "both", "others"],
)
def test_sums_follow_an_edit(home: Path, reads: list[int], before: slice, after: slice, read: list[int]) -> None:
    cached_fit.fit_aligner(make_aligner("cca"), publish(home, before))
    reads.clear()
    anchors = publish(home, after)
    found = cached_fit.sum_anchors(anchors)
    assert reads == read
    assert_same_moments(found, anchors)
    reads.clear()
    assert_same_moments(cached_fit.sum_anchors(Store(home).open("toy")), anchors)
    assert reads == [anchors.count]  # by the comparison alone
    Store(home).verify("toy").raise_if_bad()


@pytest.mark.slow
def test_fifty_edits_do_not_drift(home: Path, reads: list[int]) -> None:
    for at in range(50):
        anchors = publish(home, slice(0, 80 + 8 * (at % 7)))
        found = cached_fit.sum_anchors(anchors)
    assert reads[0] == 80
    assert max(reads[1:]) <= 48  # the rows that an edit changed, never all of them
    assert found.count == anchors.count == 80
    assert_same_moments(found, anchors)


def test_the_nearest_version_is_followed(home: Path, reads: list[int]) -> None:
    for stop in (40, 120):
        cached_fit.sum_anchors(publish(home, slice(0, stop)))
    reads.clear()
    cached_fit.sum_anchors(publish(home, slice(0, 112)))
    assert reads == [8]


def test_any_changed_byte_is_found_and_rows_are_summed_anew(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    anchors = publish(home, slice(0, 40))
    cached_fit.sum_anchors(anchors)
    (path,) = find_sum_files(home)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in (0, 9, len(whole) - 1, *rng.integers(0, len(whole), 20).tolist()):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        assert str(path) in str(Store(home).verify("toy").problems)
        caplog.clear()
        assert_same_moments(cached_fit.sum_anchors(anchors), anchors)
        assert "cached sums are not used" in caplog.text
        assert path.read_bytes() == whole
    path.write_bytes(b"")
    following = publish(home, slice(0, 48))  # whose nearest sums are those
    caplog.clear()
    assert_same_moments(cached_fit.sum_anchors(following), following)
    assert "cached sums are not used" in caplog.text


def test_a_block_that_is_gone_is_not_taken_away(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    cached_fit.sum_anchors(publish(home, slice(0, 80)))
    old = {entry.sha256 for entry in Store(home).open("toy").manifest.blocks}
    anchors = publish(home, slice(0, 56))
    for sha256 in old - {entry.sha256 for entry in anchors.manifest.blocks}:
        (home / "anchors" / "toy" / "blocks" / f"{sha256}.safetensors").unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        anchors.cached_sums()
    assert_same_moments(cached_fit.sum_anchors(anchors), anchors)
    assert "is missing" in caplog.text


def test_sums_over_few_anchors_are_not_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.anchorset.format.anchor_set.MIN_ANCHORS_FOR_SUMS", 41)
    cached_fit.sum_anchors(publish(home, slice(0, 40)))
    assert find_sum_files(home) == []
    cached_fit.sum_anchors(publish(home, slice(0, 41)))
    assert len(find_sum_files(home)) == 1
