"""Removing pairs is building without them, for every reader (P14, P16)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.anchorset_sets import DIMS, dense, files
from support.edited_sets import EVERY, IDS, assert_same_set, publish
from support.examples import examples

from asif.aligners import Moments, make_aligner
from asif.anchorset import Store
from asif.anchorset.format.deletion_list import MAX_DELETED_RUNS
from asif.engine import cached_fit
from asif.errors import NotFound, UsageError


@pytest.mark.slow
@settings(max_examples=examples(40), deadline=None)
@given(
    st.lists(st.sets(st.sampled_from(IDS), max_size=25), min_size=1, max_size=3),
    st.sampled_from(["float16", "float32"]),
    st.sampled_from([7, 40, 100]),
)
def test_removing_pairs_gives_the_digest_of_a_build_without_them(gone: list[set[str]], dtype: str, cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder, patch("asif.anchorset.write.publish.MAX_BLOCK_ROWS", cut):
        root = Path(folder)
        publish(root, dtype=dtype)
        for some in gone:
            found = Store(root).remove("toy", some, missing_ok=True)
        left = [pair for pair in EVERY if not any(pair.id in some for some in gone)]
        if not left:
            return
        expected = publish(root / "other", left, dtype=dtype)
        assert (found.digest, found.count) == (expected.digest, len(left))
        assert found.records(range(found.count)) == left
        for side in DIMS:
            np.testing.assert_array_equal(dense(found, side), dense(expected, side))
            np.testing.assert_allclose(found.mean(side), expected.mean(side), rtol=0, atol=1e-15)
        assert Store(root).verify("toy").problems == ()
        found.close()
        expected.close()


@pytest.mark.parametrize("gone", [IDS[3:4], IDS[:1], IDS[-1:], IDS[::2], IDS[5:50], IDS[:-1]], ids=len)
def test_readers_see_what_a_build_without_them_has(home: Path, gone: list[str]) -> None:
    publish(home)
    found = Store(home).remove("toy", gone)
    expected = publish(home / "other", [pair for pair in EVERY if pair.id not in gone])
    assert_same_set(found, expected)
    assert (found.manifest.rows_in, found.manifest.parent) == (found.count, Store(home).open("toy@1").version)
    assert found.manifest.operation == {"kind": "remove", "pairs": len(gone)}
    assert Store(home).diff("toy@1", "toy").removed == tuple(gone)
    assert Store(home).open("toy@1").count == 60
    Store(home).verify("toy").raise_if_bad()


def test_few_deletions_are_views_and_cost_bytes(home: Path) -> None:
    publish(home)
    before = set(files(home))
    found = Store(home).remove("toy", [IDS[10], IDS[30]])
    (new,) = set(files(home)) - before
    assert new.parent.name == "versions"
    whole = Store(home).open("toy@1").blocks("image")[0]
    assert [len(piece) for piece in found.blocks("image")] == [10, 19, 29]
    for piece in found.blocks("image"):
        assert not piece.flags.owndata and not piece.flags.writeable
        assert type(piece.base) is not np.ndarray or piece.base.nbytes == whole.nbytes
    assert all(one is two for one, two in zip(found.blocks("text"), found.blocks("text"), strict=True))


def test_many_pieces_are_written_as_one(home: Path) -> None:
    publish(home)
    found = Store(home).remove("toy", IDS[1 : 2 * MAX_DELETED_RUNS : 2])
    assert len(found.blocks("image")) == MAX_DELETED_RUNS + 1
    again = Store(home).remove("toy", [IDS[40]])
    assert len(again.blocks("image")) == 1 and again.manifest.blocks[0].deleted == ()
    assert_same_set(
        again,
        publish(
            home / "other", [pair for pair in EVERY if pair.id not in {*IDS[1 : 2 * MAX_DELETED_RUNS : 2], IDS[40]}]
        ),
    )
    Store(home).verify("toy").raise_if_bad()


def test_sums_follow_a_removal_row_by_row(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.anchorset.format.anchor_set.MIN_ANCHORS_FOR_SUMS", 1)
    monkeypatch.setattr("asif.anchorset.write.publish.MAX_BLOCK_ROWS", 30)
    cached_fit.sum_anchors(publish(home))
    found = Store(home).remove("toy", [IDS[4], IDS[5], IDS[40]])
    kept = found.cached_sums()
    assert kept is not None and kept.added == [] and [len(image) for image, _ in kept.removed] == [2, 1]
    got, fresh = cached_fit.sum_anchors(found).as_arrays(), Moments.of(found).as_arrays()
    for name in fresh:
        np.testing.assert_allclose(got[name], fresh[name], rtol=0, atol=1e-12)
    Store(home).rollback("toy")
    Store(home).verify("toy").raise_if_bad()


def test_a_fit_to_other_pairs_is_not_taken_up(home: Path) -> None:
    before, described = publish(home), {"name": "ridge", "parameters": make_aligner("ridge").parameters}
    cached_fit.fit_aligner(make_aligner("ridge"), before)
    assert before.cached_fit(described) is not None
    after = Store(home).remove("toy", IDS[:2])
    assert after.cached_fit(described) is None
    assert after.cached_aligners("ridge")[0][1] == before.digest


def test_unknown_ids_and_all_pairs_are_refused(home: Path) -> None:
    publish(home)
    before = files(home)
    with pytest.raises(NotFound, match="has no 'nobody'"):
        Store(home).remove("toy", ["nobody", IDS[0]])
    with pytest.raises(UsageError, match="all 60 pairs of toy@1 would be removed"):
        Store(home).remove("toy", IDS)
    with pytest.raises(UsageError, match="neither"):
        Store(home).remove("toy")
    assert Store(home).remove("toy", ["nobody"], missing_ok=True).manifest.seq == 1
    assert Store(home).remove("toy", where="id = 'nobody'").manifest.seq == 1
    assert files(home) == before
    assert Store(home).remove("toy", ["nobody", IDS[0]], missing_ok=True).count == 59
