"""Galleries that workers build and update: those of one process."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.build_fakes import FakeImages, FakeTexts, identity
from support.galleries import AN_HOUR_AGO, galleries, some_files, write_files
from support.galleries import build as build_here
from support.galleries import update as update_here
from support.worker_pools import InlinePool, Killed, stop_at

from asif.building.gallery import GalleryChanges, GalleryOptions, GalleryResult, GallerySource, update_gallery_version
from asif.building.gallery.deferred import DeferredEncoder
from asif.building.sharded.gallery import ShardedUpdate, build_sharded_gallery
from asif.building.sharded.work import ShardingOptions
from asif.cluster.pool import ClusterOptions
from asif.errors import Interrupted, UsageError

SHARDING = ShardingOptions(ClusterOptions(2), 7)
COUNTS = ("added", "changed", "renamed", "removed", "unchanged", "rejected")


def build_sharded(
    folder: Any, home: Path, encoder: Any = None, side: Any = "image", pool: Any = InlinePool, **options: Any
) -> GalleryResult:
    source, chosen = GallerySource.open([folder], side), GalleryOptions(**options)
    origin = source.describe_origin(chosen.limit, chosen.where, chosen.thumbnails)
    fake = encoder or (FakeImages() if side == "image" else FakeTexts())
    how = chosen, origin, SHARDING, pool
    return build_sharded_gallery(source.pairs, galleries(home), "g", side, "fake", lambda: fake, *how)


def update_sharded(
    folder: Any, home: Path, encoder: Any = None, pool: Any = InlinePool, **options: Any
) -> GalleryChanges:
    source, chosen = GallerySource.open([folder], "image"), GalleryOptions(**options)
    origin = source.describe_origin(chosen.limit, chosen.where, chosen.thumbnails)
    fake = encoder or FakeImages()
    deferred = DeferredEncoder(fake.spec, fake.fingerprint, fake.dim, lambda: fake)
    encode = ShardedUpdate(lambda: deferred, SHARDING, pool)
    return update_gallery_version(source.pairs, galleries(home), "g", fake, chosen, origin, encode=encode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of 30 files, of which one is bad and two are equal."""
    write_files(tmp_path / "photos", {**some_files(30), "bad.jpg": b"bad image", "copy.jpg": b"image 3"})
    return tmp_path / "photos"


@pytest.mark.parametrize("options", [{}, {"where": "id like 'odd/%'"}, {"limit": 20}, {"dtype": "float32"}])
def test_sharded_gallery_equals_local(folder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    local = build_here(folder, tmp_path / "local", **options)
    built = build_sharded(folder, tmp_path / "shards", **options)
    assert identity(built.opened) == identity(local.opened)
    assert built.opened.rejects() == local.opened.rejects()
    assert (built.rows, built.opened.manifest.rows_in) == (local.rows, local.opened.manifest.rows_in)


def test_gallery_of_texts_equals_local(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("".join(f"text {row % 25}\n" for row in range(40)))
    local = build_here(tmp_path / "texts.txt", tmp_path / "local", side="text")
    built = build_sharded(tmp_path / "texts.txt", tmp_path / "shards", side="text")
    assert identity(built.opened) == identity(local.opened)


def test_known_content_is_not_encoded_again(folder: Path, tmp_path: Path) -> None:
    first = build_sharded(folder, tmp_path)
    seen = FakeImages()
    again = build_sharded(folder, tmp_path, seen)
    assert again.opened.digest == first.opened.digest
    assert not seen.seen


def change(folder: Path) -> None:
    """Change, add, rename and remove files."""
    write_files(folder, {"odd/001.jpg": b"changed", "new.jpg": b"new", "odd/renamed.jpg": b"image 5"}, age=5)
    for name in ("odd/005.jpg", "even/006.jpg"):
        os.unlink(folder / name)
    os.utime(folder / "odd" / "007.jpg", (AN_HOUR_AGO - 9, AN_HOUR_AGO - 9))


def test_sharded_update_equals_local(folder: Path, tmp_path: Path) -> None:
    for home in ("local", "shards"):
        build_here(folder, tmp_path / home)
    change(folder)
    seen = FakeImages()
    local, found = update_here(folder, tmp_path / "local"), update_sharded(folder, tmp_path / "shards", seen)
    assert identity(found.opened) == identity(local.opened)
    assert {name: getattr(found, name) for name in COUNTS} == {name: getattr(local, name) for name in COUNTS}
    assert sorted(seen.seen) == [b"changed", b"new"]
    again = update_sharded(folder, tmp_path / "shards")
    assert again.opened.version == found.opened.version
    assert again.unchanged == found.opened.count


def test_update_needs_the_gallery_on_each_worker(folder: Path, tmp_path: Path) -> None:
    build_here(folder, tmp_path)

    def hide(worker: int, method: str, arguments: tuple[Any, ...]) -> None:
        if (tmp_path / "galleries").exists():
            (tmp_path / "galleries" / "g" / "versions").rename(tmp_path / "galleries" / "g" / "gone")

    with pytest.raises(UsageError, match="a worker cannot open g@"):
        update_sharded(folder, tmp_path, pool=partial(InlinePool, before=hide))


def test_interrupted_update_resumes(folder: Path, tmp_path: Path) -> None:
    for home in ("local", "shards"):
        build_here(folder, tmp_path / home)
    change(folder)
    with pytest.raises(Interrupted):
        update_sharded(folder, tmp_path / "shards", pool=stop_at(4, KeyboardInterrupt))
    local, found = update_here(folder, tmp_path / "local"), update_sharded(folder, tmp_path / "shards")
    assert identity(found.opened) == identity(local.opened)
    assert {name: getattr(found, name) for name in COUNTS} == {name: getattr(local, name) for name in COUNTS}
    assert found.rows < 33


def test_dead_workers_do_not_change_a_gallery(folder: Path, tmp_path: Path) -> None:
    local = build_here(folder, tmp_path / "local")
    built = build_sharded(folder, tmp_path / "shards", pool=stop_at(2, Killed))
    assert identity(built.opened) == identity(local.opened)
