"""An archive that is not as it was written is refused whole."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.anchorset_sets import build, pairs
from support.bundles import exported, imported, left, member, members, packed, replace_info
from support.edited_sets import EVERY
from support.examples import examples

from asif.anchorset import Manifest
from asif.errors import InputRefused, IntegrityError
from asif.pairs.pair import PairRecord


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    home = tmp_path_factory.mktemp("small")
    build(home, pairs(5))
    return exported(home)


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_refused(archive: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(archive) - 1))
    bit = data.draw(st.integers(0, 7))
    with tempfile.TemporaryDirectory() as home:
        changed = archive[:at] + bytes([archive[at] ^ 1 << bit]) + archive[at + 1 :]
        with pytest.raises((IntegrityError, InputRefused)) as caught:
            imported(Path(home), changed)
        assert caught.value.exit_code == (3 if at < 100 else 5)  # within the name of the first file
        assert left(Path(home)) == []


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cut_archive_says_what_is_missing(archive: bytes, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as home:
        for end in (1, 511, 513, len(archive) - 1, data.draw(st.integers(1, len(archive) - 1))):
            with pytest.raises(IntegrityError) as caught:
                imported(Path(home), archive[:end])
            assert any(word in caught.value.came for word in ("ends", "not end"))
            assert left(Path(home)) == []
        with pytest.raises(InputRefused, match="is empty"):
            imported(Path(home), b"")


STRANGERS = {
    "dots": member("../../x"),
    "dots within": member("anchors/../../x"),
    "absolute": member("/tmp/x"),
    "a symlink": member("anchors/blocks", kind=tarfile.SYMTYPE, link="/tmp"),
    "a hard link": member("anchors/blocks/x", kind=tarfile.LNKTYPE, link="/etc/passwd"),
    "a device": member("anchors/x", kind=tarfile.CHRTYPE),
    "a pipe": member("anchors/x", kind=tarfile.FIFOTYPE),
    "a folder": member("anchors/blocks", kind=tarfile.DIRTYPE),
    "a sparse file": member("anchors/x", kind=tarfile.GNUTYPE_SPARSE),
    "a pax header": member("anchors/x", kind=tarfile.XHDTYPE),
    "a long name": member("x" * 99),
    "a look-alike": member("\u0430nchors/x"),
    "one file more": member("anchors/notes.txt"),
    "NUL": member("anchors/blocks/x\0.safetensors"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("place", ["first", "second", "in place of a block", "last"])
def test_archives_of_strangers(home: Path, archive: bytes, stranger: str, place: str) -> None:
    items = members(archive)
    assert packed(items) == archive
    added: list[Any] = {
        "first": [STRANGERS[stranger], *items],
        "second": [items[0], STRANGERS[stranger], *items[1:]],
        "in place of a block": [items[0], STRANGERS[stranger], *items[2:]],
        "last": [*items, STRANGERS[stranger]],
    }[place]
    with pytest.raises((IntegrityError, InputRefused)) as caught:
        imported(home, packed(added, tarfile.GNU_FORMAT))
    assert caught.value.exit_code == (3 if place == "first" else 5)
    assert left(home) == []
    assert sorted(path.name for path in home.parent.iterdir()) == [home.name]


def test_other_forms_of_the_same_tar(home: Path, archive: bytes) -> None:
    items = members(archive)
    double, swapped = [*items, items[-1]], [items[0], *items[:0:-1]]
    later = [(replace_info(items[0][0], mtime=1), items[0][1]), *items[1:]]
    for other in (double, swapped, later, items[:-1], items[1:]):
        with pytest.raises((IntegrityError, InputRefused)):
            imported(home, packed(other))
    for data in (
        archive + b"x",
        archive + bytes(512),
        archive[:-512],
        b"\x1f\x8b" + archive,
        b"PK" + archive,
        b"no tar",
    ):
        with pytest.raises((IntegrityError, InputRefused)):
            imported(home, data)
    assert left(home) == []


def test_the_manifest_of_an_archive_is_one(archive: bytes) -> None:
    (info, data), *rest = members(archive)
    manifest = Manifest.from_bytes(data, "here")
    assert [one.name for one, _ in rest] == [
        f"anchors/blocks/{manifest.blocks[0].sha256}.safetensors",
        f"anchors/pairs/{manifest.blocks[0].pairs.sha256}.parquet",
    ]
    assert (info.name, info.mtime, info.uid, info.mode) == ("anchors/manifest.json", 0, 0, 0o644)
    assert isinstance(EVERY[0], PairRecord)
