"""Receipts on the command line."""

from __future__ import annotations

from pathlib import Path

from support.edited_sets import publish
from support.receipt_cases import GONE, NAMES
from support.running import Cli

from asif.anchorset.format.row_hash import hash_record


def test_commands(home: Path, cli: Cli, tmp_path: Path) -> None:
    publish(home)
    removed, later, purged = (tmp_path / f"{name}.json" for name in ("removed", "later", "purged"))
    assert cli("anchors", "remove", "toy", "--id", NAMES[0], "--receipt", removed, "--dry-run").code == 2
    done = cli("anchors", "remove", "toy", "--id", NAMES[0], "--receipt", removed, "--json")
    assert done.json["receipt"] == str(removed) and removed.exists()
    assert cli("anchors", "remove", "toy", "--id", NAMES[1], "--receipt", removed).code == 2
    assert cli("anchors", "receipt", "toy", later).code == 0 and later.read_bytes() == removed.read_bytes()
    assert cli("anchors", "receipt", "toy", later).code == 2
    found = cli("anchors", "verify", "toy", "--receipt", removed, "--json").json
    assert found["problems"] == [] and found["receipts"][0]["removed"] == 1 and "searched" not in found
    assert cli("anchors", "remove", "toy", "--id", NAMES[0], "--purge", "--receipt", purged).code == 0
    text = cli("anchors", "verify", "toy", "--receipt", removed, "--receipt", purged)
    assert text.code == 0 and "1 more were erased from older ones" in text.out and "searched: " in text.out
    found = cli("anchors", "verify", "toy", "--receipt", purged, "--json").json
    assert found["receipts"][0]["purged"] and found["searched"]["files"] > 4
    strays = [home / "stray", home / "anchors/toy/blocks/stray"]
    for stray in strays:
        stray.write_bytes(hash_record(GONE[0]))
    bad = cli("anchors", "verify", "toy", "--receipt", purged, "--json")
    assert bad.code == 5 and len(bad.json["problems"]) == 3 and str(strays[0]) in " ".join(bad.json["problems"])
    assert f"wrong: {strays[0]}: still holds" in cli("anchors", "verify", "toy", "--receipt", purged).out
    purged.write_bytes(purged.read_bytes().replace(b'"bits":1', b'"bits":0'))
    assert cli("anchors", "verify", "toy", "--receipt", purged).code == 5
    assert cli("anchors", "verify", "toy", "--receipt", tmp_path / "none.json").code == 2
