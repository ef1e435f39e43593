"""What a receipt proves, and that a changed or forged one is refused (P16)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.edited_sets import publish
from support.receipt_cases import GONE, NAMES, checked_by_the_book, hashes, plain_root, receipt_of

from asif.anchorset import Store
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.receipt_file import read_receipt
from asif.errors import IntegrityError, UnknownFormat
from asif.vectors import dump_checksummed


@pytest.fixture
def removal(home: Path) -> Receipt:
    publish(home)
    Store(home).remove("toy", NAMES, receipt=home / "r.json")
    return read_receipt(home / "r.json")


@settings(deadline=None)
@given(
    st.sets(st.integers(0, 300), min_size=2, max_size=200),
    st.integers(1, 30),
    st.sets(st.integers(301, 400), max_size=5),
    st.sampled_from([1, 3, 32]),
)
def test_a_receipt_holds_by_the_book(numbers: set[int], some: int, erased: set[int], per_group: int) -> None:
    gone = set(sorted(numbers)[:: max(2, len(numbers) // some)])
    with patch("asif.anchorset.receipts.merkle.GROUP_SIZE", per_group):
        made = receipt_of(numbers, gone, erased)
        data = made.to_bytes()
        assert Receipt.from_bytes(data, "here") == made
    checked = checked_by_the_book(data, per_group)
    rows = [row.tobytes() for row in np.array(hashes(numbers - gone))]
    assert made.after.root == plain_root(rows, made.bits)
    assert len(checked["removed"]) == len(gone) and len(checked["erased"]) == len(erased)


def test_a_receipt_repeats_nothing_that_was_removed(home: Path, removal: Receipt) -> None:
    said = (home / "r.json").read_text()
    for pair in GONE:
        for word in (pair.id, *pair.captions, pair.image_sha256, pair.url or "https:"):
            assert word not in said
    assert {"frozen", "Backups", "forged", "removed, not purged"} <= {
        word for word in ("frozen", "Backups", "forged", "removed, not purged") if word in " ".join(removal.limits)
    }
    assert set(removal.code) == {"asif", "numpy", "python"} and removal.time.endswith("Z")


@given(st.data())
def test_any_changed_byte_is_found(data: st.DataObject) -> None:
    whole = receipt_of(set(range(40)), {3, 5}, {301}).to_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    with pytest.raises(IntegrityError):
        Receipt.from_bytes(changed, "here")
    with pytest.raises(IntegrityError):
        Receipt.from_bytes(whole[:at], "here")


Change = Callable[[dict[str, Any]], object]


ROW = hashlib.sha256(b"7").hexdigest()


FORGERIES: dict[str, Change] = {
    "a row more": lambda r: r.update(removed=sorted([*r["removed"], ROW])),
    "a row less": lambda r: r["removed"].pop(),
    "a row that is there": lambda r: r.update(erased=sorted([*r["erased"], ROW])),
    "rows out of order": lambda r: r["removed"].reverse(),
    "a row twice": lambda r: r["erased"].append(r["removed"][0]),
    "a group less": lambda r: r["groups"].pop(),
    "a group with another row": lambda r: r["groups"].__setitem__(0, r["groups"][0] + ROW),
    "a group without a row": lambda r: r["groups"].__setitem__(0, r["groups"][0][64:]),
    "a group cut short": lambda r: r["groups"].__setitem__(0, r["groups"][0][2:]),
    "no hexadecimal": lambda r: r["groups"].__setitem__(0, "zz"),
    "a number among rows": lambda r: r["removed"].__setitem__(0, 7),
    "a short row": lambda r: r["removed"].__setitem__(0, "ab"),
    "a sibling less": lambda r: r["siblings"].pop(),
    "a sibling more": lambda r: r["siblings"].append(ROW),
    "another sibling": lambda r: r["siblings"].__setitem__(0, ROW),
    "other bits": lambda r: r.update(bits=r["bits"] + 1),
    "too many bits": lambda r: r.update(bits=33),
    "another count": lambda r: (r["before"].update(count=41), r["after"].update(count=39)),
    "counts that do not add up": lambda r: r["after"].update(count=39),
    "another root before": lambda r: r["before"].update(root=ROW),
    "another root after": lambda r: r["after"].update(root=ROW),
    "another digest": lambda r: r["after"].update(digest=ROW),
    "another version": lambda r: r["after"].update(version="../../x"),
    "another operation": lambda r: r["operation"].update(pairs=9),
    "not purged": lambda r: r.update(purged=False),
    "a field more": lambda r: r.update(note="trust me"),
    "a field less": lambda r: r.pop("time"),
    "another kind": lambda r: r.update(kind="asif anchors"),
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
def test_a_sealed_forgery_is_found(change: Change) -> None:
    with patch("asif.anchorset.receipts.merkle.GROUP_SIZE", 8):
        fields = json.loads(receipt_of(set(range(40)), {3, 5}, {301, 302}).to_bytes())
        assert len(fields["groups"][0]) > 128 and fields["bits"] == 3
        assert Receipt.from_bytes(resealed(fields), "here")
        change(fields)
        with pytest.raises(IntegrityError):
            Receipt.from_bytes(resealed(fields), "here")


def resealed(fields: dict[str, Any]) -> bytes:
    return dump_checksummed({name: value for name, value in fields.items() if name != "checksum"})


def test_a_newer_receipt_is_not_guessed_at() -> None:
    fields = json.loads(receipt_of({1, 2}, {1}, set()).to_bytes())
    with pytest.raises(UnknownFormat, match="format 2"):
        Receipt.from_bytes(resealed({**fields, "format": 2}), "here")
