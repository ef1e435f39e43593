"""Receipts of purges, also of killed ones, and what the store remembers outside the set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from support.anchorset_sets import build
from support.edited_sets import EVERY, IDS, assert_same_set, publish
from support.receipt_cases import GONE, NAMES, checked_by_the_book

from asif.anchorset import Store
from asif.anchorset.format.row_hash import hash_record, serialize_record
from asif.anchorset.receipts.receipt_file import read_receipt
from asif.encoders.text_cache import TextCache, hash_text
from asif.engine import purge_pairs
from asif.errors import AsifError, UsageError


@pytest.mark.parametrize("when", ["before the receipt", "before the sweep", "within the sweep", "after all"])
def test_a_killed_purge_is_finished_with_its_receipt(home: Path, when: str) -> None:
    publish(home)
    store, place = Store(home), home / "r.json"
    store.remove("toy", [IDS[50]])
    first = store.open("toy").version
    where = {
        "before the receipt": "write_receipt",
        "before the sweep": "delete_versions",
        "within the sweep": "delete_versions",
    }
    if when in where:
        with patch(f"asif.anchorset.edit.purge.{where[when]}", side_effect=stopping(when)), pytest.raises(Killed):
            store.purge("toy", NAMES, receipt=place)
        assert place.exists() == (when != "before the receipt")
        assert (first in [entry.version for entry in store.log("toy")]) == (when != "within the sweep")
    else:
        store.purge("toy", NAMES, receipt=place)
    written = place.read_bytes() if place.exists() else None
    found, _ = store.purge("toy", NAMES, receipt=place)  # the same call
    receipt = read_receipt(place)
    assert written in (None, place.read_bytes())
    assert receipt.before.version == first and list(receipt.removed) == sorted(map(hash_record, GONE))
    assert receipt.erased == () and len(receipt.embeddings) == 4
    assert [entry.version for entry in store.log("toy")] == [found.version] == [receipt.after.version]
    assert store.check_receipts("toy", [receipt]).problems == ()
    assert_same_set(found, publish(home / "other", [pair for pair in EVERY if pair not in (*GONE, EVERY[50])]))
    with pytest.raises(UsageError, match="there already"):
        store.purge("toy", [IDS[1]], receipt=place)  # other pairs, but the same receipt
    assert store.open("toy").version == found.version


class Killed(Exception):
    """The process ends here."""


def stopping(when: str) -> Any:
    from asif.anchorset.edit.gc import delete_versions

    def stop(folder: Any, doomed: Any) -> Any:
        if when == "before the receipt" or not doomed:
            return delete_versions(folder, doomed)
        if when == "within the sweep":
            for version in sorted(doomed):
                folder.version_file(version).unlink()
        raise Killed

    return Killed if when == "before the receipt" else stop


def test_rows_of_older_versions_are_erased(home: Path) -> None:
    publish(home)
    store = Store(home)
    store.put("toy", build(home.parent / "new", [replace(GONE[0], captions=("other words",))]), "update")
    store.remove("toy", [IDS[50]])
    store.purge("toy", [NAMES[0]], receipt=home / "r.json")
    receipt = read_receipt(home / "r.json")
    assert receipt.removed == (hash_record(replace(GONE[0], captions=("other words",))),)
    assert receipt.erased == (hash_record(GONE[0]),) and len(receipt.embeddings) == 4
    checked_by_the_book((home / "r.json").read_bytes())
    store.remove("toy", [NAMES[1]])
    store.purge("toy", [NAMES[1]], receipt=home / "hidden.json")
    hidden = read_receipt(home / "hidden.json")
    assert hidden.removed == () and hidden.erased == (hash_record(GONE[1]),)
    assert hidden.before.digest == hidden.after.digest == store.open("toy").digest
    checked_by_the_book((home / "hidden.json").read_bytes())
    assert store.check_receipts("toy", [receipt, hidden]).problems == ()


def test_what_the_store_remembers_beside_the_set_is_purged_too(home: Path) -> None:
    opened = publish(home)
    texts = opened.fingerprint("text").digest
    cache = TextCache(home / "cache" / "texts.sqlite")
    said = {caption: np.full(3, at, np.float32) for at, caption in enumerate(["kept", *GONE[0].captions], 5)}
    cache.put(texts, said)
    states = [home / "cache" / "training" / f"{start}-x.safetensors" for start in (opened.digest[:12], "0" * 12)]
    for state in states:
        state.parent.mkdir(exist_ok=True)
        state.write_bytes(b"weights")
    (home / "cache/tokens/toy").mkdir(parents=True)
    (home / "cache/tokens/toy/pairs.jsonl").write_bytes(serialize_record(GONE[1]) + b"\n")
    done = purge_pairs("toy", NAMES, receipt=home / "r.json", home=home)
    assert [problem.path.name for problem in done.residues] == ["pairs.jsonl"]
    assert [state.exists() for state in states] == [False, True]
    assert list(cache.get(texts, list(said), 3)) == ["kept"]
    for caption in GONE[0].captions:
        assert hash_text(texts, caption) not in cache.path.read_bytes()
        assert said[caption].tobytes() not in cache.path.read_bytes()
    (home / "cache/texts.sqlite").write_bytes(b"no database at all, but long enough to be looked at")
    with pytest.raises(AsifError, match="cannot be deleted"):
        purge_pairs("toy", [IDS[0]], home=home)
    assert IDS[0] not in [pair.id for pair in Store(home).open("toy").pairs(0)]  # nothing was deleted: run it again
    cache.path.unlink()
    assert purge_pairs("toy", [IDS[0]], home=home).swept.versions
