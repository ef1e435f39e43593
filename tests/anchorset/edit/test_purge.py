"""Compacting, deleting versions, and purging pairs, after which no file of the set has them (P16)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from anchorset.edit.test_transaction import EVERY, IDS, publish, same
from support.anchorset_sets import build, files, short_blocks
from support.running import Cli

from asif.aligners import make_aligner
from asif.anchorset import Store, find_rows
from asif.anchorset.format.row_hash import row_hash
from asif.engine import cached_fit
from asif.errors import Conflict, IntegrityError, NotFound, UsageError
from asif.pairs.pair import PairRecord
from asif.pairs.records import read_records


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be short."""
    short_blocks(monkeypatch, 16)


def left_on_disk(home: Path, record: PairRecord) -> list[Path]:
    """Return the files that have a pair: its row hash or its captions, compressed in tables or not."""
    found = []
    for path in files(home):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += repr(read_records(path)).encode()
        if row_hash(record) in content or record.id.encode() in content or record.captions[0].encode() in content:
            found.append(path)
    return found


# ---- compact


def test_compacting_changes_bytes_alone(home: Path) -> None:
    publish(home)
    gone = [*IDS[3:5], *IDS[16:30], IDS[50]]
    Store(home).remove("toy", gone)
    described = {"name": "ridge", "parameters": make_aligner("ridge").parameters}
    cached_fit.fit(make_aligner("ridge"), Store(home).open("toy"))
    found = Store(home).compact("toy")
    same(found, publish(home / "other", [pair for pair in EVERY if pair.id not in gone]))
    assert [entry.deleted for entry in found.manifest.blocks] == [()] * 3  # 14 + 2, 16, 11
    assert [entry.rows for entry in found.manifest.blocks] == [16, 16, 11]
    assert found.manifest.blocks[1] in Store(home).open("toy@1").manifest.blocks
    assert found.kept_fit(described) is not None  # the same rows: nothing is fitted again
    assert Store(home).compact("toy").version == found.version
    Store(home).verify("toy").raise_if_bad()


# ---- gc


def test_versions_that_nobody_needs_are_deleted(home: Path) -> None:
    versions = [publish(home, EVERY[:count]).version for count in (10, 30, 20, 40, 60)]
    store = Store(home)
    store.alias("toy", "best", "2")
    cached_fit.fit(make_aligner("ridge"), store.open("toy@1"))
    cached_fit.fit(make_aligner("ridge"), store.open("toy@2"))
    store.alias("toy", "current", "4")
    before = {path: path.stat().st_size for path in files(home)}
    swept = store.gc("toy", 1)
    assert swept.versions == (versions[0], versions[2])
    assert [entry.version for entry in store.log("toy")] == [versions[4], versions[3], versions[1]]
    after = set(files(home))
    assert (swept.files, swept.bytes) == (len(before) - len(after), sum(before[p] for p in before.keys() - after))
    assert len(list((home / "anchors/toy/fits").iterdir())) == 1
    for at, count in ((1, 30), (3, 40), (4, 60)):
        assert store.open(f"toy@{versions[at]}").records(range(count)) == EVERY[:count]
    store.verify("toy").raise_if_bad()
    assert store.gc("toy", 1) == replace(swept, versions=(), files=0, bytes=0)


def test_strays_are_deleted_and_an_open_set_stays_mapped(home: Path) -> None:
    opened = publish(home, EVERY[:20])
    stored = np.concatenate(opened.blocks("image")).copy()
    publish(home, EVERY[30:])
    (home / "anchors/toy/blocks" / f"{'0' * 64}.safetensors").write_bytes(b"stray")
    assert Store(home).gc("toy", 1).versions == (opened.version,)
    np.testing.assert_array_equal(np.concatenate(opened.blocks("image")), stored)
    Store(home).verify("toy").raise_if_bad()


def test_nothing_is_deleted_where_a_version_cannot_be_read(home: Path) -> None:
    for count in (10, 20, 30):
        publish(home, EVERY[:count])
    files(home / "anchors/toy/versions")[2].write_bytes(b"{}")
    before = files(home)
    with pytest.raises(IntegrityError):
        Store(home).gc("toy", 2)
    with pytest.raises(UsageError):
        Store(home).gc("toy", 0)
    assert files(home) == before


# ---- purge


@pytest.mark.parametrize("how", ["current", "hidden", "older", "updated"])
def test_what_is_purged_is_nowhere_on_disk(home: Path, how: str) -> None:
    publish(home, EVERY[:50])
    publish(home)
    gone, store = [EVERY[7], EVERY[33]], Store(home)
    if how == "hidden":
        store.remove("toy", [pair.id for pair in gone])
    if how == "older":
        publish(home, [pair for pair in EVERY if pair not in gone])
    if how == "updated":
        store.put("toy", build(home / "new", [replace(pair, captions=("x",)) for pair in gone]), "update")
    publish(home / "untouched", EVERY[:3])
    assert all(left_on_disk(home / "anchors", pair) for pair in gone)
    said: list[str] = []
    found, swept = store.purge("toy", [pair.id for pair in gone], saying=lambda erased: said.extend(erased.versions))
    assert not any(left_on_disk(home / "anchors", pair) for pair in gone)
    assert list(swept.versions) == said and len(said) == 2 + (how in ("hidden", "updated"))
    same(found, publish(home / "other", [pair for pair in EVERY if pair not in gone]))
    assert store.open("toy").version == found.version
    store.verify("toy").raise_if_bad()
    with pytest.raises(NotFound, match="in all of its versions"):
        store.purge("toy", [gone[0].id])
    assert store.purge("toy", [gone[0].id], missing_ok=True)[1].versions == ()


def test_versions_without_the_pairs_stay(home: Path) -> None:
    first = publish(home, EVERY[:10]).version
    publish(home)
    found, swept = Store(home).purge("toy", where=f"id = '{IDS[20]}'")
    assert [entry.version for entry in Store(home).log("toy")] == [found.version, first] and len(swept.versions) == 1
    assert find_rows(found, where=f"id = '{IDS[20]}'").tolist() == []
    assert found.manifest.operation == {"kind": "purge", "pairs": 1}


def test_what_may_not_be_purged(home: Path) -> None:
    publish(home)
    Store(home).alias("toy", "best", "1")
    Store(home).remove("toy", [IDS[0]])
    before = files(home)
    with pytest.raises(UsageError, match="the alias 'best' points at 000001"):
        Store(home).purge("toy", [IDS[0]])
    with pytest.raises(UsageError, match="all 59 pairs"):
        Store(home).purge("toy", where="id != ''")
    with pytest.raises(Conflict):
        Store(home).purge("toy@1", [IDS[0]])
    assert files(home) == before
    Store(home).alias("toy", "best", "current")
    Store(home).alias("toy", "best", "2")
    with pytest.raises(UsageError, match="'best'") as caught:
        Store(home).purge("toy", [IDS[0]])  # version 2 hides it, but has it
    assert "compact the set, move the alias" in caught.value.fix
    Store(home).compact("toy")
    Store(home).alias("toy", "best", "current")
    Store(home).purge("toy", [IDS[0]])
    assert not left_on_disk(home / "anchors", EVERY[0])


# ---- the command line


def test_commands(home: Path, cli: Cli) -> None:
    publish(home)
    done = cli("anchors", "remove", "toy", "--id", IDS[4], "--purge", "--json")
    assert done.json["removed"] == 1 and "versions that hold the pairs are deleted: 000001-" in done.err
    assert cli("anchors", "remove", "toy", "--id", IDS[5], "--purge", "--dry-run").code == 2
    cli("anchors", "remove", "toy", "--id", IDS[6])
    assert "59 anchors" not in cli("anchors", "compact", "toy").out
    assert len(cli("anchors", "gc", "toy", "--keep", 1, "--json").json["versions"]) == 2
    assert cli("anchors", "gc", "toy", "--keep", 1).out.startswith("toy: deleted 0 versions, 0 files")
