"""Permissions: files of the user's own store are closed to others, those of any other store as the umask says (P34)."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from support.anchorset_sets import build, pairs
from support.bundles import exported, imported

from asif.anchorset import Store
from asif.anchorset.receipts.receipt_file import read_receipt
from asif.pairs.pair import PairRecord, Reject

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="permissions as Unix has them")


def use_store(home: Path) -> None:
    """Build, add, remove, import, fit, purge, and leave a build unfinished."""
    items: list[PairRecord | Reject] = [*pairs(5), Reject(5, None, "image is empty")]
    build(home, items).close()
    store = Store(home)
    store.remove("toy", [pairs(1)[0].id])
    with store.open("toy") as opened:
        assert opened.cache_fit({"name": "x", "parameters": {}}, {"a": np.zeros(2)})
    imported(home, exported(home), "copy").close()
    store.alias("toy", "best", "1")
    store.journal("toy", {"dtype": "float16", "input": "other"}).close()


def read_modes(home: Path) -> set[tuple[bool, str]]:
    paths = [home, *home.rglob("*")]
    assert len(paths) > 25
    return {(path.is_dir(), oct(stat.S_IMODE(path.stat().st_mode))) for path in paths}


def test_the_own_store_is_closed_to_others(own: Path, tmp_path: Path) -> None:
    use_store(own)
    assert read_modes(own) == {(True, "0o700"), (False, "0o600")}
    assert stat.S_IMODE(own.parent.stat().st_mode) == 0o755
    Store(own).remove("copy", [pairs(2)[1].id], receipt=tmp_path / "receipt.json")
    assert stat.S_IMODE((tmp_path / "receipt.json").stat().st_mode) == 0o644
    assert read_receipt(tmp_path / "receipt.json").removed


def test_a_store_made_earlier_is_closed_when_it_is_written(own: Path) -> None:
    own.mkdir(parents=True)
    own.chmod(0o755)
    assert Store(own).sets() == [] and stat.S_IMODE(own.stat().st_mode) == 0o755
    build(own, pairs(3)).close()
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


@pytest.mark.parametrize("by_variable", [True, False])
def test_other_stores_keep_the_umask(by_variable: bool, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_variable:
        monkeypatch.setenv("ASIF_HOME", str(own))
    home = own if by_variable else own.parent / "shared"
    use_store(home)
    assert read_modes(home) == {(True, "0o755"), (False, "0o644")}
