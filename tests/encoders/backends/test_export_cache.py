"""The cache of exports: complete or not there, checked, removable, and shared by processes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asif.encoders.backends import export_cache
from asif.encoders.backends.export_cache import Export, ExportCache, ExportRecord, make_key
from asif.encoders.backends.sealed_files import read_sealed, write_sealed

KEY = make_key({"weights": "a"})
RECORD = ExportRecord("timm:tiny", "image", 4, {"library": "timm", "dtype": "float32"}, {"torch": "2"})
REFERENCE = np.eye(2, 4, dtype=np.float32)


def write(folder: Path, content: bytes = b"model") -> Mapping[str, Any]:
    (folder / "model.onnx").write_bytes(content)
    return {"is_english_only": True}


@pytest.fixture
def exports(tmp_path: Path) -> ExportCache:
    return ExportCache(tmp_path / "exports")


def add(exports: ExportCache, content: bytes = b"model") -> Export:
    return exports.add(KEY, RECORD, lambda folder: write(folder, content), REFERENCE)


def test_an_export_is_read_back(exports: ExportCache) -> None:
    assert exports.find(KEY) is None
    made = add(exports)
    found = exports.find(KEY)
    assert found is not None and found.record == made.record and found.sha256 == made.sha256
    assert found.record.settings == {"is_english_only": True} and found.model.read_bytes() == b"model"
    assert np.array_equal(found.read_reference(), REFERENCE)
    assert [path.name for path in exports.root.iterdir()] == [KEY]


def test_the_hash_is_that_of_the_model_not_of_the_reference(exports: ExportCache, tmp_path: Path) -> None:
    others = ExportCache(tmp_path / "others")
    same = others.add(KEY, RECORD, write, -REFERENCE)
    assert same.sha256 == add(exports).sha256
    assert ExportCache(tmp_path / "third").add(KEY, RECORD, lambda folder: write(folder, b"x")).sha256 != same.sha256


@pytest.mark.parametrize("name", ["model.onnx", "export.json", "reference.npy"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove", "foreign"])
def test_a_damaged_export_is_none_and_is_made_again(
    exports: ExportCache, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    path = add(exports).folder / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes({"flip": content, "truncate": content[:-1], "empty": b"", "foreign": b"[1, 2]"}[damage])
    assert exports.find(KEY) is None
    assert "is damaged" in caplog.text and name in caplog.text
    again = add(exports, b"other")
    assert again.model.read_bytes() == b"other"
    assert [each.name for each in exports.root.iterdir()] == [KEY]


def test_the_first_of_two_processes_wins(exports: ExportCache) -> None:
    """The second one finds a complete export where it wants to put its own."""

    def write_late(folder: Path) -> Mapping[str, Any]:
        add(exports, b"first")
        return write(folder, b"second")

    assert exports.add(KEY, RECORD, write_late, REFERENCE).model.read_bytes() == b"first"
    assert [each.name for each in exports.root.iterdir()] == [KEY]


def test_a_failure_makes_room_for_an_export(exports: ExportCache) -> None:
    failed = ExportRecord("timm:tiny", "image", 4, {}, {"torch": "1"}, failure="an operator")
    assert exports.add(KEY, failed).record.failure == "an operator"
    assert add(exports).record.failure is None


def test_what_fails_half_way_leaves_nothing(exports: ExportCache) -> None:
    def fail(folder: Path) -> Mapping[str, Any]:
        write(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        exports.add(KEY, RECORD, fail, REFERENCE)
    assert exports.find(KEY) is None and not list(exports.root.iterdir())


def test_folders_of_killed_processes_are_removed_when_old(exports: ExportCache) -> None:
    exports.root.mkdir()
    old, young = exports.root / ".tmp-1-old", exports.root / ".tmp-2-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 3600,) * 2)
    add(exports)
    assert young.is_dir() and not old.exists()


def test_sealed_json_is_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, {"a": [1, "é"]})
    assert read_sealed(path) == {"a": [1, "é"]}
    for at in range(len(content := path.read_bytes())):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ValueError):  # noqa: PT011 - of json, of utf-8 or of the checksum
            read_sealed(path)


def test_keys_depend_on_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_cache, "EXPORT_FORMAT", 2)
    assert make_key({"weights": "a"}) != KEY
