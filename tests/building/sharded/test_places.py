"""Finished shards in an object store without rename: an S3 of moto, with conditional puts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.build_fakes import OPERATION, FakeImages, FakeTexts, build_set, identity, some_rows, write_parquet
from support.worker_pools import InlinePool, Killed, stop_at

from asif.anchorset import Store
from asif.anchorset.write.shard_journal import ShardAttempt
from asif.building import BuildOptions, BuildResult
from asif.building.bad_rows import Tolerance
from asif.building.sharded.build import build_sharded_anchor_set
from asif.building.sharded.marks import Mark
from asif.building.sharded.places import ObjectPlace, open_place
from asif.building.sharded.work import ShardingOptions
from asif.cluster.pool import ClusterOptions
from asif.errors import Interrupted, UsageError
from asif.pairs import open_pairs
from asif.pairs.object_store import ObjectFolder

pytestmark = pytest.mark.slow
BUCKET = "s3://bucket/shards"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectFolder]:
    """Run an S3 in this process, with an empty bucket."""
    server = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[s3]' flask flask-cors")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    folder = ObjectFolder.connect(BUCKET)
    folder.place.fs.makedirs("bucket", exist_ok=True)
    folder.delete()
    yield folder
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    ids, images, captions = zip(*some_rows(40), strict=True)
    return write_parquet(tmp_path / "pairs.parquet", list(images), list(map(list, captions)), id=list(ids))


class PoisonImages(FakeImages):
    def forward(self, prepared: Any) -> Any:
        if b"image 17" in prepared:
            raise Killed
        return super().forward(prepared)


def load(image: type[FakeImages] = FakeImages) -> tuple[FakeImages, FakeTexts]:
    return image(), FakeTexts()


def build(pairs: Path, home: Path, pool: Any = InlinePool, loader: Any = load) -> BuildResult:
    sharding = ShardingOptions(ClusterOptions(2), 8, BUCKET)
    options = BuildOptions(max_bad_rows=Tolerance(number=2))
    what = {"image": "fake", "text": "fake"}, loader, options, OPERATION, sharding, pool
    return build_sharded_anchor_set(open_pairs(pairs), Store(home), "toy", *what)


def test_objects_are_created_once(bucket: ObjectFolder) -> None:
    assert bucket.read("a") is None
    assert bucket.create("a", b"first")
    assert not bucket.create("a", b"second")
    assert bucket.read("a") == b"first"
    bucket.write("b/c", b"more")
    assert bucket.list_names() == ["a", "b/c"]
    bucket.delete("b")
    bucket.delete("nothing")
    assert bucket.list_names() == ["a"]


def test_set_built_by_way_of_objects_equals_local(bucket: ObjectFolder, pairs: Path, tmp_path: Path) -> None:
    local = build_set(open_pairs(pairs), tmp_path / "local")
    built = build(pairs, tmp_path / "shards", stop_at(3, Killed))
    assert identity(built.anchors) == identity(local.anchors)
    assert bucket.list_names() == []  # orphans of dead attempts are swept


def test_interrupted_build_resumes_from_objects(bucket: ObjectFolder, pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        build(pairs, tmp_path / "shards", stop_at(4, KeyboardInterrupt))
    assert len([name for name in bucket.list_names() if "/done/" in name]) == 3
    for done in (tmp_path / "shards").rglob("done"):  # another machine has only what is in the store
        shutil.rmtree(done)
    built = build(pairs, tmp_path / "shards")
    assert built.resumed_at == 24
    assert identity(built.anchors) == identity(build_set(open_pairs(pairs), tmp_path / "local").anchors)


def test_second_attempt_at_a_shard_loses_and_leaves_nothing(bucket: ObjectFolder, tmp_path: Path) -> None:
    place = open_place(tmp_path, BUCKET, "0123456789abcdef" * 4)
    assert isinstance(place, ObjectPlace)
    found = []
    for name in ("one", "two"):
        with place.open_attempt(name) as (folder, marker):
            marker.write(Mark(0, 4))
            found.append(place.commit(ShardAttempt(folder, 0, "float16"), "shard", {"worker": name}))
    assert [shard.about["worker"] for shard in found] == ["one", "one"]
    assert place.folder.list_names() == ["attempts/one/shard.json", "done/shard"]


def test_row_that_kills_its_worker_is_found_by_marks_in_objects(
    bucket: ObjectFolder, pairs: Path, tmp_path: Path
) -> None:
    built = build(pairs, tmp_path, loader=partial(load, PoisonImages))
    assert [reject.row for reject in built.anchors.rejects()] == [17]


def test_builds_that_differ_do_not_share_objects(bucket: ObjectFolder, pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        build(pairs, tmp_path / "mean", stop_at(4, KeyboardInterrupt))
    sharding = ShardingOptions(ClusterOptions(2), 8, BUCKET)
    what = {"image": "fake", "text": "fake"}, load, BuildOptions(captions="first"), OPERATION, sharding, InlinePool
    built = build_sharded_anchor_set(open_pairs(pairs), Store(tmp_path / "first"), "toy", *what)
    assert built.resumed_at == 0
    assert built.anchors.digest == build_set(open_pairs(pairs), tmp_path, captions="first").anchors.digest
    assert build(pairs, tmp_path / "mean").resumed_at == 24


def test_exchange_is_a_url(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="for objects"):
        open_place(tmp_path, str(tmp_path), "0" * 64)
