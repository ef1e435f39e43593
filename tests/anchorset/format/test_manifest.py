"""Manifests: damaged, strange, or written by a newer asif."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.anchorset_files import reseal
from support.anchorset_sets import files

from asif.anchorset import Manifest, Store
from asif.errors import IntegrityError, UnknownFormat


def test_any_changed_byte_of_a_manifest_is_found(root: Path) -> None:
    (data, *_) = [path.read_bytes() for path in files(root / "anchors/toy/versions")]
    for at in range(len(data)):
        for flip in (1, 0x20):
            with pytest.raises(IntegrityError):
                Manifest.from_bytes(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :], "here")


STRANGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "count": lambda m: m.update(count=8),
    "rows_in": lambda m: m.update(rows_in=99),
    "a boolean": lambda m: m.update(rejected=True),
    "a float": lambda m: m.update(count=9.0),
    "rejects": lambda m: m.update(rejects=None),
    "dtype": lambda m: m.update(dtype="object"),
    "captions": lambda m: m.update(captions="median"),
    "dims": lambda m: m["dims"].update(image=0),
    "huge dims": lambda m: m["dims"].update(image=1 << 70),
    "other dims": lambda m: m["dims"].update(image=7),
    "name": lambda m: m.update(name="../x"),
    "another name": lambda m: m.update(name="other"),
    "parent": lambda m: m.update(parent="../../x"),
    "a path for a block": lambda m: m["blocks"][0].update(sha256="../../../../etc/passwd"),
    "a path for pairs": lambda m: m["blocks"][0]["pairs"].update(sha256="/etc/passwd"),
    "a path for rejects": lambda m: m["rejects"].update(sha256="../aliases"),
    "rows": lambda m: m["blocks"][0].update(rows=0),
    "size": lambda m: m["blocks"][0].update(size=-1),
    "no blocks": lambda m: m.update(blocks=[], count=0),
    "blocks": lambda m: m.update(blocks={}),
    "block": lambda m: m.update(blocks=["x"]),
    "encoders": lambda m: m.update(encoders=[]),
    "fingerprint": lambda m: m["encoders"]["text"].update(fingerprint="x"),
    "seq": lambda m: m.update(seq=7),
    "digest": lambda m: m.update(digest="0" * 64),
    "missing": lambda m: m.pop("operation"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_manifest_is_refused(root: Path, name: str) -> None:
    path = reseal(root / "anchors/toy", STRANGE[name])
    with pytest.raises(IntegrityError) as caught:
        Store(root).open("toy")
    assert not isinstance(caught.value, UnknownFormat)
    assert caught.value.exit_code == 5
    assert any(problem.path in (path, *files(root)) for problem in Store(root).verify("toy").problems)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"nul", b'{"format":1', b"\xff", b"[" * 100_000, b'{"format":NaN}', b'{"a":"\\ud800"}', b"{}"]
)
def test_what_is_no_manifest_is_refused(root: Path, data: bytes) -> None:
    files(root / "anchors/toy/versions")[-1].write_bytes(data)
    with pytest.raises(IntegrityError):
        Store(root).open("toy")
    assert Store(root).verify("toy").problems


FUTURE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "format": lambda m: (m.clear(), m.update(format=2, whatever=[1])),
    "feature": lambda m: (m.update(features=["holograms"]), m.pop("blocks")),
}


@pytest.mark.parametrize("name", FUTURE)
def test_a_newer_format_or_feature_is_refused_before_anything_else(root: Path, name: str) -> None:
    reseal(root / "anchors/toy", FUTURE[name])
    with pytest.raises(UnknownFormat, match="upgrade asif") as caught:
        Store(root).open("toy")
    assert caught.value.exit_code == 5
    assert Store(root).open("toy@1").count == 6  # the older version is readable still
    (entry,) = Store(root).sets()
    assert entry.error is not None
    assert "upgrade asif" in entry.error


def test_fields_of_a_later_asif_do_not_matter(root: Path) -> None:
    digest = Store(root).open("toy").digest
    reseal(root / "anchors/toy", lambda m: m.update(later={"field": 1}))
    assert Store(root).open("toy").digest == digest
    assert Store(root).verify("toy").problems == ()
