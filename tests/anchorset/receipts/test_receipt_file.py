"""The file of a receipt is checked before anything is removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.anchorset_sets import files
from support.edited_sets import publish
from support.receipt_cases import NAMES

from asif.anchorset import Store
from asif.errors import UsageError


@pytest.mark.parametrize("purged", [False, True])
def test_a_place_that_is_not_free_is_refused_before_anything(home: Path, purged: bool) -> None:
    publish(home)
    (home / "taken.json").write_text("mine")
    (home / "dangling").symlink_to(home / "nowhere")
    before = files(home)
    for place in ("taken.json", "dangling", "no/folder/r.json"):
        edit: Any = Store(home).purge if purged else Store(home).remove
        with pytest.raises(UsageError):
            edit("toy", NAMES, receipt=home / place)
    assert files(home) == before and (home / "taken.json").read_text() == "mine"


def test_nothing_removed_is_no_receipt(home: Path) -> None:
    publish(home)
    Store(home).remove("toy", ["nobody"], missing_ok=True, receipt=home / "r.json")
    Store(home).purge("toy", ["nobody"], missing_ok=True, receipt=home / "r.json")
    assert not (home / "r.json").exists()
