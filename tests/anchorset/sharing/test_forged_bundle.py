"""Bundles whose manifest or tables lie are refused whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.anchorset_sets import build, pairs
from support.bundles import exported, imported, left, member, members, packed, resealed

from asif.errors import IntegrityError
from asif.pairs.pair import PairRecord
from asif.pairs.records import write_records


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    home = tmp_path_factory.mktemp("small")
    build(home, pairs(5))
    return exported(home)


def make_gallery(manifest: dict[str, Any]) -> None:
    """Make the manifest one of a gallery of images."""
    for sides in (manifest["dims"], manifest["encoders"]):
        del sides["text"]
    manifest.update(kind="gallery", features=["gallery"], captions="none", origin={})


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a gallery": make_gallery,
    "a name that leads out": lambda m: m.update(name="../x"),
    "a path for a block": lambda m: m["blocks"][0].update(sha256="../../../../etc/passwd"),
    "a huge block": lambda m: m["blocks"][0].update(size=1 << 62),
    "huge dimensions": lambda m: m["dims"].update(image=1 << 40),
    "a table of another size": lambda m: m["blocks"][0]["pairs"].update(size=7),
    "hidden rows": lambda m: (
        m["blocks"][0].update(deleted=[0, 1]),
        m.update(count=4, rows_in=4, features=["deletions"]),
    ),
    "rejects": lambda m: m.update(rejects={"sha256": "0" * 64, "size": 3}, rejected=1, rows_in=6),
    "another digest": lambda m: m.update(digest="0" * 64),
    "another count": lambda m: m.update(count=6, rows_in=6),
    "a block twice": lambda m: (m["blocks"].append(m["blocks"][0]), m.update(count=10, rows_in=10)),
    "other encoders": lambda m: m["encoders"]["image"]["fingerprint"].update(model="evil"),
    "a future format": lambda m: m.update(format=2),
    "an unknown feature": lambda m: m.update(features=["thumbs"]),
}


@pytest.mark.parametrize("lie", LIES)
def test_manifests_that_lie(home: Path, archive: bytes, lie: str) -> None:
    assert resealed(archive, lambda manifest: None) == archive
    with pytest.raises(IntegrityError) as caught:
        imported(home, resealed(archive, LIES[lie]))
    assert ("upgrade" in caught.value.fix) == (lie in ("a future format", "an unknown feature"))
    assert ("gallery" in caught.value.came) == (lie == "a gallery")
    assert left(home) == []


def find_numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each number in a manifest, in the order of its fields."""
    if isinstance(value, (dict, list)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from find_numbers(each, (*path, key))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield path


def set_number(manifest: dict[str, Any], path: tuple[Any, ...], number: Any) -> None:
    inner: Any = manifest
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = number


@pytest.mark.parametrize("number", [10**299, 2**35, 2**63, -1, 1.5, "1", True])
def test_any_number_of_a_manifest_is_bounded(home: Path, archive: bytes, number: Any) -> None:
    paths = list(find_numbers(json.loads(members(archive)[0][1])))
    assert {("seq",), ("dims", "text"), ("blocks", 0, "size"), ("blocks", 0, "pairs", "size")} <= set(paths)
    for path in paths:
        if (path, number) == (("seq",), 2**35):
            continue  # a bundle may come from any version
        with pytest.raises(IntegrityError):
            imported(home, resealed(archive, partial(set_number, path=path, number=number)))
        assert left(home) == []


@pytest.mark.parametrize(
    "lie",
    [
        lambda m: m.update(created="\x1b]0;title\x07"),
        lambda m: m["operation"].update({"source": ["a", {"b\x1b[2J": "c"}]}),
        lambda m: m["encoders"]["text"].update(spec="st:\x9b31m"),
        lambda m: m.update(profiles={"classify": "asif"}),
        lambda m: m.update(profiles={"classify": {"aligner": 10**300}}),
    ],
)
def test_text_that_rules_a_terminal_and_odd_profiles(
    home: Path, archive: bytes, lie: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(IntegrityError, match="the manifest has"):
        imported(home, resealed(archive, lie))
    assert left(home) == []


def with_table(home: Path, write: Callable[[Path], object], change: Callable[[dict[str, Any]], object] = bool) -> bytes:
    """Make an archive whose table of pairs is another file, hashes and all."""
    from asif.anchorset.format.atomic_io import hash_file

    build(home, pairs(5))
    data = exported(home)
    write(home / "table")
    sha256, size = hash_file(home / "table")
    content = (home / "table").read_bytes()
    shutil.rmtree(home)
    lying = resealed(data, lambda m: (m["blocks"][0].update(pairs={"sha256": sha256, "size": size}), change(m)))
    items = members(lying)
    return packed([*items[:2], member(f"anchors/pairs/{sha256}.parquet", content)])


def write_numbers(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    five = list(range(5))
    columns: dict[str, Any] = dict.fromkeys(("id", "image_sha256", "source", "licence", "url"), five)
    pq.write_table(pa.table({**columns, "captions": [[one] for one in five]}), path)


def long(records: list[PairRecord], size: int = 1 << 20) -> list[PairRecord]:
    return [replace(pair, url="x" * size) for pair in records]


TABLES: dict[str, Callable[[Path], object]] = {
    "other pairs": lambda path: write_records(path, pairs(5, start=100)),
    "fewer pairs": lambda path: write_records(path, pairs(4)),
    "no parquet": lambda path: path.write_bytes(b"\x80\x04cos\nsystem\n."),
    "columns of numbers": write_numbers,
    "no captions": lambda path: write_records(path, [replace(pair, captions=()) for pair in pairs(5)]),
    "no caption": lambda path: write_records(path, [replace(pair, captions=("a", None)) for pair in pairs(5)]),  # type: ignore[arg-type]
    "one text in all rows": lambda path: write_records(path, long(pairs(5))),
    "a long text": lambda path: write_records(path, [*pairs(4), *long(pairs(1), 3 << 20)]),
}


@pytest.mark.parametrize("table", TABLES)
def test_tables_that_lie(home: Path, tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.pairs.records.MAX_TABLE_BYTES", 2 << 20)
    data = with_table(tmp_path / "made", TABLES[table])
    assert len(data) < 20_000
    with pytest.raises(IntegrityError):
        imported(home, data)
    assert left(home) == []
