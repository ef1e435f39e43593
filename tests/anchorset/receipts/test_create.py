"""Receipts of removals, written with the removal or later."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.anchorset_sets import build, pairs
from support.edited_sets import EVERY, publish
from support.examples import examples
from support.receipt_cases import GONE, NAMES, checked_by_the_book

from asif.anchorset import Store
from asif.anchorset.format.row_hash import hash_record
from asif.anchorset.receipts.create import read_sorted_hashes
from asif.anchorset.receipts.merkle import (
    MerkleTree,
)
from asif.anchorset.receipts.receipt_file import read_receipt
from asif.errors import NotFound, UsageError


@settings(max_examples=examples(25), deadline=None)
@given(st.sets(st.sampled_from(range(60)), min_size=1, max_size=25), st.sampled_from([7, 100]))
def test_removing_with_a_receipt_is_building_without(
    tmp_path_factory: pytest.TempPathFactory, rows: set[int], cut: int
) -> None:
    root = tmp_path_factory.mktemp("sets")
    with (
        patch("asif.anchorset.write.publish.MAX_BLOCK_ROWS", cut),
        patch("asif.anchorset.edit.row_ranges.MAX_BLOCK_ROWS", cut),
    ):
        publish(root)
        left = [pair for at, pair in enumerate(EVERY) if at not in rows]
        found = Store(root).remove("toy", [EVERY[at].id for at in rows], receipt=root / "r.json")
        expected = publish(root / "other", left)
        receipt = read_receipt(root / "r.json")
        assert receipt.after.digest == expected.digest == found.digest
        folder, _ = Store(root / "other")._find("toy")
        assert receipt.after.root == MerkleTree(read_sorted_hashes(folder, expected.manifest), receipt.bits).root
        assert list(receipt.removed) == sorted(hash_record(EVERY[at]) for at in rows)
        assert Store(root).check_receipts("toy", [receipt]).problems == ()
        assert Store(root).receipt("toy").to_bytes() == (root / "r.json").read_bytes()
        checked_by_the_book((root / "r.json").read_bytes())
        found.close()
        expected.close()


def test_a_receipt_can_be_made_later(home: Path) -> None:
    publish(home)
    store = Store(home)
    with pytest.raises(NotFound, match="nothing, is not there"):
        store.receipt("toy")
    store.remove("toy", NAMES[:1])
    store.remove("toy", NAMES[1:])
    assert len(store.receipt("toy").removed) == 1
    both = store.receipt("toy", before="1")
    assert sorted(both.removed) == sorted(map(hash_record, GONE)) and both.before.count == 60
    with pytest.raises(UsageError, match="has 2 pairs that"):
        store.receipt("toy@1", before="3")
    store.put("toy", build(home / "new", pairs(1, start=900)), "add")
    with pytest.raises(UsageError, match="has 1 pairs that"):
        store.receipt("toy")
    with pytest.raises(UsageError, match="has all pairs that"):
        store.receipt("toy", before="4")
    publish(home, EVERY[:9], dtype="float32")
    with pytest.raises(UsageError, match="more than pairs: dtype"):
        store.receipt("toy", before="4")
    store.gc("toy", 1)
    with pytest.raises(NotFound, match="a purge writes its receipt"):
        store.receipt("toy")
