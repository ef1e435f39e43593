"""Edits on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.anchorset_sets import short_blocks
from support.edited_sets import IDS, publish
from support.running import Cli

from asif.anchorset import Store


def test_remove(home: Path, tmp_path: Path, cli: Cli) -> None:
    publish(home)
    (tmp_path / "ids").write_text(f"{IDS[1]}\n{IDS[2]}\n")
    dry = cli("anchors", "remove", "toy", "--id", IDS[0], "--ids-file", tmp_path / "ids", "--dry-run", "--json").lines
    assert [line["id"] for line in dry] == IDS[:3] and len(Store(home).log("toy")) == 1
    assert (
        "3 pairs of 60 would"
        in cli("anchors", "remove", "toy", "--id", IDS[0], "--ids-file", tmp_path / "ids", "--dry-run").out
    )
    done = cli("anchors", "remove", "toy", "--id", IDS[0], "--ids-file", tmp_path / "ids", "--json").json
    assert (done["removed"], done["anchors"]) == (3, 57)
    assert cli("anchors", "remove", "toy", "--id", IDS[0]).code == 2
    ok = cli("anchors", "remove", "toy", "--id", IDS[0], "--missing-ok")
    assert ok.code == 0 and "nothing was changed" in ok.err and Store(home).open("toy").manifest.seq == 2
    assert "toy@3: " in cli("anchors", "remove", "toy", "--where", f"id = '{IDS[3]}'").out
    assert cli("anchors", "remove", "toy@2", "--id", IDS[9]).code == 1
    for wrong in ([], ["--id", "x", "--where", "id = 'x'"], ["--where", "id = 'x'", "--missing-ok"], ["--where", "id"]):
        assert cli("anchors", "remove", "toy", *wrong).code == 2
    assert "remove 1 pairs" in cli("anchors", "log", "toy").out


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be short."""
    short_blocks(monkeypatch, 16)


def test_purge_compact_and_gc(home: Path, cli: Cli) -> None:
    publish(home)
    done = cli("anchors", "remove", "toy", "--id", IDS[4], "--purge", "--json")
    assert done.json["removed"] == 1 and "versions that hold the pairs are deleted: 000001-" in done.err
    assert cli("anchors", "remove", "toy", "--id", IDS[5], "--purge", "--dry-run").code == 2
    cli("anchors", "remove", "toy", "--id", IDS[6])
    assert "59 anchors" not in cli("anchors", "compact", "toy").out
    assert len(cli("anchors", "gc", "toy", "--keep", 1, "--json").json["versions"]) == 2
    assert cli("anchors", "gc", "toy", "--keep", 1).out.startswith("toy: deleted 0 versions, 0 files")
