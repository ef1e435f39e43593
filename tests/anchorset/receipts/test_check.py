"""Check receipts against a set."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from support.anchorset_sets import build
from support.edited_sets import publish
from support.receipt_cases import GONE, NAMES

from asif.anchorset import Store
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.receipt_file import read_receipt
from asif.errors import UsageError


@pytest.fixture
def removal(home: Path) -> Receipt:
    publish(home)
    Store(home).remove("toy", NAMES, receipt=home / "r.json")
    return read_receipt(home / "r.json")


def test_a_set_that_is_not_as_told_is_found(home: Path, removal: Receipt) -> None:
    store, other = Store(home), hashlib.sha256(b"other").hexdigest()
    assert store.check_receipts("toy", [removal]).existing_versions == {removal.after.version}
    for wrong in ({"digest": removal.after.digest[:12] + other[12:]}, {"root": other}):
        (problem,) = store.check_receipts("toy", [replace(removal, after=replace(removal.after, **wrong))]).problems
        assert next(iter(wrong)) in problem.what
    with pytest.raises(UsageError, match="'other'"):
        store.check_receipts("toy", [replace(removal, name="other")])
    (problem,) = store.check_receipts("toy@1", [removal]).problems
    assert "has 2 of the rows" in problem.what and problem.path.name.startswith("000001-")
    store.put("toy", build(home / "new", GONE[:1]), "add")
    (problem,) = store.check_receipts("toy", [removal]).problems
    assert "has 1 of the rows" in problem.what
    store.remove("toy", NAMES[:1])
    store.gc("toy", 1)
    done = store.check_receipts("toy", [removal])
    assert done.problems == () and not done.existing_versions  # its own version is gone: the proof is all there is
