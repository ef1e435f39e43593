"""Sharded builds, with workers in this process: the set of a local build, whatever happens to workers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.build_fakes import OPERATION, FakeImages, FakeTexts, build_set, identity, reject_lines, some_rows, write_parquet
from support.worker_pools import InlinePool, Killed

from asif.anchorset import Store
from asif.building import BuildOptions, BuildResult
from asif.building.bad_rows import Tolerance
from asif.building.sharded.build import build_sharded_anchor_set
from asif.building.sharded.work import ShardingOptions
from asif.cluster.pool import ClusterOptions
from asif.errors import AsifError, EncoderMismatch, InputRefused, Interrupted
from asif.pairs import open_pairs


def make_fakes(image: FakeImages | None = None, text: FakeTexts | None = None) -> tuple[FakeImages, FakeTexts]:
    return image or FakeImages(), text or FakeTexts()


def build_sharded(
    path: Path,
    home: Path,
    *,
    actors: int = 2,
    shard_rows: int = 7,
    load: Callable[[], Any] = make_fakes,
    pool: Callable[..., Any] = InlinePool,
    **options: Any,
) -> BuildResult:
    return build_sharded_anchor_set(
        open_pairs(path),
        Store(home),
        "toy",
        {"image": "fake", "text": "fake"},
        load,
        BuildOptions(**options),
        OPERATION,
        ShardingOptions(ClusterOptions(actors), shard_rows),
        pool,
    )


def write_rows(path: Path, rows: list[tuple[str | None, bytes, tuple[str, ...]]]) -> Path:
    ids, images, captions = zip(*rows, strict=True)
    return write_parquet(path, list(images), list(map(list, captions)), id=list(ids))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Return a table of 61 rows: some bad, some equal, some of one id and image, across the ends of shards of 7."""
    rows = some_rows(60)
    rows[13:15] = [("run", b"one image", ("a",)), ("run", b"one image", ("b",))]
    rows[20:23] = [("long", b"long image", (f"caption {number}",)) for number in range(3)]
    rows[30] = ("bad", b"bad 30", ("caption",))
    rows[41] = rows[2]
    rows[52] = ("other id", rows[5][1], rows[5][2])
    return write_rows(tmp_path / "pairs.parquet", [*rows, ("id-004", b"conflict", ("x",))])


@pytest.mark.parametrize("shard_rows", [1, 7, 14, 61, 1000])
def test_sharded_set_equals_local(pairs: Path, tmp_path: Path, shard_rows: int) -> None:
    tolerant = Tolerance(number=5)
    local = build_set(open_pairs(pairs), tmp_path / "local", max_bad_rows=tolerant)
    built = build_sharded(pairs, tmp_path / "shards", actors=3, shard_rows=shard_rows, max_bad_rows=tolerant)
    assert identity(built.anchors) == identity(local.anchors)
    assert reject_lines(tmp_path / "shards", built.anchors) == reject_lines(tmp_path / "local", local.anchors)
    assert (built.joined, built.rows, built.anchors.manifest.rows_in) == (
        local.joined,
        local.rows,
        local.anchors.manifest.rows_in,
    )
    assert built.joined == 3
    assert not list((tmp_path / "shards" / "anchors" / "toy").glob("journal/*"))
