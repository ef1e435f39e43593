"""What is exported comes back, without what was removed (P20)."""

from __future__ import annotations

import io
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.anchorset_sets import build, short_blocks
from support.bundles import exported, imported, left
from support.edited_sets import EVERY, IDS, assert_same_set
from support.examples import examples
from support.running import Cli

from asif.anchorset import Store
from asif.anchorset.format.row_hash import hash_record
from asif.pairs.pair import Reject


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be short."""
    short_blocks(monkeypatch, 16)


@settings(max_examples=examples(8), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gone=st.lists(st.sampled_from(IDS), max_size=25), dtype=st.sampled_from(["float16", "float32", "bfloat16"]))
def test_a_set_comes_back_without_what_was_removed(gone: list[str], dtype: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        home, other = Path(place) / "home", Path(place) / "other"
        made = build(home, [*EVERY, Reject(60, "bad", "image is null")], dtype=dtype)
        if gone:
            made = Store(home).remove("toy", gone)
        data = exported(home)
        assert data == exported(home) == exported(home, f"toy@{made.version}")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            content = b"".join(tar.extractfile(one).read() for one in tar)  # type: ignore[union-attr]
        for pair in EVERY:
            assert (hash_record(pair) in content) == (pair.id not in gone)
        found = imported(other, data)
        assert_same_set(found, made)
        assert [found.manifest.encoders, found.manifest.captions] == [made.manifest.encoders, made.manifest.captions]
        assert (found.manifest.rows_in, found.manifest.rejected, found.manifest.parent) == (found.count, 0, None)
        assert found.manifest.operation["made_by"] == made.manifest.operation
        Store(other).verify("toy").raise_if_bad()
        assert left(other) == ["toy"]
        assert Store(other).open("toy").records(range(found.count)) == [pair for pair in EVERY if pair.id not in gone]


def test_the_command_line(home: Path, cli: Cli, tmp_path: Path) -> None:
    made = build(home, EVERY)
    file = tmp_path / "toy.tar"
    ran = cli("anchors", "export", "toy", file, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json == {
        "name": "toy", "version": made.version, "digest": made.digest, "anchors": 60, "file": str(file),
        "bytes": file.stat().st_size,
    }  # fmt: skip
    assert file.read_bytes() == exported(home)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    other = tmp_path / "other"
    ran = cli("anchors", "import", file, "--home", other, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert (ran.json["published"], ran.json["digest"], ran.json["operation"]["from"]) == (True, made.digest, "toy.tar")
    ran = cli("anchors", "import", file, "--home", other, "--json")
    assert ran.code == 0 and ran.json["published"] is False
    ran = cli("anchors", "import", "-", "--home", other, "--name", "piped", stdin=file.read_bytes())
    assert ran.code == 0 and ran.out.startswith("piped@1: 60 anchors from stdin")
    ran = cli("anchors", "list", "--home", other, "--json")
    assert [line["name"] for line in ran.lines] == ["piped", "toy"]
    assert "one of: piped, toy\n" in cli("anchors", "info", "none", "--home", other).err
    ran = cli("anchors", "log", "toy", "--home", other, "--json")
    assert [line["operation"]["kind"] for line in ran.lines] == ["import"]
    ran = cli("anchors", "export", "toy", file)
    assert ran.code == 2 and "exists" in ran.err
    assert cli("anchors", "export", "toy", tmp_path / "none" / "x.tar").code == 2
    assert cli("anchors", "export", "toy", "-", "--json").code == 2
    assert cli("anchors", "import", tmp_path / "none.tar").code == 2
    assert cli("anchors", "import", tmp_path).code == 2


def test_where_the_pairs_lay_is_nobodys_business(home: Path) -> None:
    made = build(home, EVERY[:3])
    operation = {"kind": "build", "source": "/home/ann/private/pets.parquet", "input": "0" * 64}
    manifest = replace(made.manifest, operation=operation, seq=2, parent=made.version)
    (home / "anchors/toy/versions" / f"{manifest.version}.json").write_bytes(manifest.to_bytes())
    data = exported(home, "toy@2")
    assert b"ann" not in data and b"pets.parquet" in data and made.version.encode() not in data


def test_profiles_come_along(home: Path, tmp_path: Path) -> None:
    build(home, EVERY)
    Store(home).publish_profile("toy", "classify", {"aligner": "cca(lambda=3)"}, "0")
    assert imported(tmp_path, exported(home)).profiles == {"classify": {"aligner": "cca(lambda=3)"}}


def test_a_damaged_set_is_not_exported(home: Path, cli: Cli, tmp_path: Path) -> None:
    made = build(home, EVERY)
    block = home / "anchors/toy/blocks" / f"{made.manifest.blocks[1].sha256}.safetensors"
    data = bytearray(block.read_bytes())
    data[-1] ^= 1
    block.write_bytes(data)
    ran = cli("anchors", "export", "toy", tmp_path / "toy.tar")
    assert ran.code == 5 and block.name in ran.err
    assert [path for path in tmp_path.iterdir() if path != home] == []
