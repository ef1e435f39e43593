"""Sharded builds, with workers in this process: the set of a local build, whatever happens to workers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.build_fakes import (
    OPERATION,
    FakeImages,
    FakeTexts,
    build_set,
    identity,
    reject_lines,
    some_rows,
    write_parquet,
)
from support.worker_pools import InlinePool, Killed, stop_at

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
    return write_rows(tmp_path / "pairs.parquet", list_rows())


def list_rows() -> list[tuple[str | None, bytes, tuple[str, ...]]]:
    rows = some_rows(61)
    rows[13:15] = [("run", b"one image", ("a",)), ("run", b"one image", ("b",))]
    rows[20:23] = [("long", b"long image", (f"caption {number}",)) for number in range(3)]
    rows[30] = ("bad", b"bad 30", ("caption",))
    rows[41] = rows[2]
    rows[52] = ("other id", rows[5][1], rows[5][2])
    return rows


@pytest.mark.parametrize("shard_rows", [1, 7, 14, 61, 1000])
def test_sharded_set_equals_local(tmp_path: Path, shard_rows: int) -> None:
    pairs = write_rows(tmp_path / "pairs.parquet", [*list_rows()[:60], ("id-004", b"conflict", ("x",))])
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


@pytest.mark.parametrize("options", [{"captions": "all"}, {"captions": "first"}, {"dedup": "keep"}, {"limit": 40}])
def test_options_do_what_they_do_locally(pairs: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    tolerant = {"max_bad_rows": Tolerance(number=9), **options}
    local = build_set(open_pairs(pairs), tmp_path / "local", **tolerant)
    built = build_sharded(pairs, tmp_path / "shards", **tolerant)
    assert identity(built.anchors) == identity(local.anchors)
    assert reject_lines(tmp_path / "shards", built.anchors) == reject_lines(tmp_path / "local", local.anchors)


def test_rows_of_one_pair_that_are_apart_join_across_shards(tmp_path: Path) -> None:
    rows = some_rows(40)
    rows[33] = (rows[1][0], rows[1][1], ("a later caption",))
    rows[3] = ("bad", b"bad image", ("first",))
    rows[35] = ("bad", b"bad image", ("second",))
    rows[38] = ("bad", b"bad image", ("first",))
    path, tolerant = write_rows(tmp_path / "pairs.parquet", rows), Tolerance(number=9)
    local = build_set(open_pairs(path), tmp_path / "local", max_bad_rows=tolerant)
    built = build_sharded(path, tmp_path / "shards", max_bad_rows=tolerant)
    assert identity(built.anchors) == identity(local.anchors)
    assert reject_lines(tmp_path / "shards", built.anchors) == reject_lines(tmp_path / "local", local.anchors)
    assert (built.joined, local.joined) == (1, 1)
    assert {row for row, _ in reject_lines(tmp_path / "shards", built.anchors)} == {3, 35, 38}


def test_too_many_bad_rows_stop_the_build_and_keep_shards(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="bad rows"):
        build_sharded(pairs, tmp_path, max_bad_rows=Tolerance(number=0))
    seen = FakeImages()
    built = build_sharded(pairs, tmp_path, load=partial(make_fakes, seen), max_bad_rows=Tolerance(number=9))
    assert built.resumed_at > 0
    assert len(seen.seen) < built.anchors.count


# ---- workers that die


class Deaths:
    """Kill workers in the calls `encode` whose numbers are given, after they have written their segments."""

    def __init__(self, *numbers: int) -> None:
        self.numbers, self.count = numbers, 0

    def __call__(self, worker: int, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "encode":
            self.count += 1
            if self.count in self.numbers:
                raise Killed


def test_dead_workers_are_replaced_and_only_their_shards_are_done_again(pairs: Path, tmp_path: Path) -> None:
    tolerant = Tolerance(number=9)
    local = build_set(open_pairs(pairs), tmp_path / "local", max_bad_rows=tolerant)
    deaths, pools = Deaths(1, 2, 5, 9), list[InlinePool]()

    def open_pool(*arguments: Any) -> InlinePool:
        pools.append(InlinePool(*arguments, before=deaths))
        return pools[0]

    built = build_sharded(pairs, tmp_path / "shards", pool=open_pool, max_bad_rows=tolerant)
    assert identity(built.anchors) == identity(local.anchors)
    assert deaths.count == 9 + 4  # shards, and one more attempt for each death
    assert pools[0].closed


class PoisonImages(FakeImages):
    """Kill the worker that encodes, or prepares, some contents."""

    def __init__(self, poison: frozenset[bytes], *, prepare: bool = False) -> None:
        super().__init__()
        self.poison, self.kills_in_prepare = poison, prepare

    def forward(self, prepared: Any) -> Any:
        if not self.kills_in_prepare and self.poison & set(prepared):
            raise Killed
        return super().forward(prepared)


def make_poisoned(poison: frozenset[bytes]) -> tuple[FakeImages, FakeTexts]:
    return PoisonImages(poison), FakeTexts()


def test_row_that_kills_its_worker_is_quarantined_and_named(
    pairs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    poison, tolerant = frozenset([b"image 17", b"image 50"]), Tolerance(number=9)
    pools = list[InlinePool]()

    def open_pool(*arguments: Any) -> InlinePool:
        pools.append(InlinePool(*arguments))
        return pools[0]

    built = build_sharded(
        pairs, tmp_path, pool=open_pool, load=partial(make_poisoned, poison), max_bad_rows=tolerant, shard_rows=20
    )
    found = dict(reject_lines(tmp_path, built.anchors))
    assert {row: found[row] for row in (17, 50)} == dict.fromkeys((17, 50), "killed its worker 3 times")
    assert "row 17 killed its worker three times" in caplog.text
    local = build_set(open_pairs(pairs), tmp_path / "local", max_bad_rows=tolerant)
    ids = {record.id for record in local.anchors} - {record.id for record in built.anchors}
    assert ids == {"id-017", "id-050"}
    assert sum(method == "encode" for _, method, _ in pools[0].calls) == 4 + 4 + 4  # no shard is tried without end
    with pytest.raises(InputRefused, match="row 17: killed its worker 3 times"):
        build_sharded(pairs, tmp_path / "strict", load=partial(make_poisoned, poison), max_bad_rows=Tolerance(number=1))


def test_workers_that_die_at_no_particular_row_end_the_build(pairs: Path, tmp_path: Path) -> None:
    always = partial(InlinePool, before=Deaths(*range(1, 1000)))
    with pytest.raises(AsifError, match="died 20 times in the shard"):
        build_sharded(pairs, tmp_path, pool=always)


# ---- attempts that are late, slow, or differ


def test_late_attempt_is_dropped(pairs: Path, tmp_path: Path) -> None:
    """An attempt that was thought dead commits after the one that replaced it."""
    late = list[tuple[Any, tuple[Any, ...]]]()

    def lose_first(pool: InlinePool, worker: int, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "encode" and not late:
            late.append((pool.made[worker], arguments))
            raise Killed
        if method == "encode" and len(late) == 1 and arguments[0].shard != late[0][1][0].shard:
            found = late[0][0].encode(*late[0][1])  # the shard has been committed by then
            assert found.about["plan"] == late[0][0].plan.digest
            late.append((None, ()))

    def open_pool(*arguments: Any) -> InlinePool:
        pool = InlinePool(*arguments)
        pool.before = partial(lose_first, pool)
        return pool

    local = build_set(open_pairs(pairs), tmp_path / "local", max_bad_rows=Tolerance(number=9))
    built = build_sharded(pairs, tmp_path / "shards", actors=1, pool=open_pool, max_bad_rows=Tolerance(number=9))
    assert len(late) == 2
    assert identity(built.anchors) == identity(local.anchors)


def test_attempt_after_the_end_of_the_build_leaves_nothing(pairs: Path, tmp_path: Path) -> None:
    kept = list[Any]()

    def keep(worker: int, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "encode" and not kept:
            kept.append(arguments)

    pools = list[InlinePool]()

    def open_pool(*arguments: Any) -> InlinePool:
        pools.append(InlinePool(*arguments, before=keep))
        return pools[0]

    build_sharded(pairs, tmp_path, pool=open_pool, max_bad_rows=Tolerance(number=9))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((AsifError, OSError)):
        pools[0].made[0].encode(*kept[0])
    assert sorted(tmp_path.rglob("*")) == before


def test_worker_with_another_encoder_is_refused(pairs: Path, tmp_path: Path) -> None:
    models = iter(["fake", "newer"])

    def load() -> tuple[FakeImages, FakeTexts]:
        return FakeImages(model=next(models)), FakeTexts()

    with pytest.raises(EncoderMismatch, match="worker 1 has another image encoder: model: 'newer', not 'fake'"):
        build_sharded(pairs, tmp_path, load=load)
    assert not (tmp_path / "anchors" / "toy" / "versions").exists()


def test_shards_of_another_encoder_are_not_resumed(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputRefused):
        build_sharded(pairs, tmp_path, max_bad_rows=Tolerance(number=0))
    with pytest.raises(EncoderMismatch, match="model: 'fake', not 'newer'"):
        build_sharded(pairs, tmp_path, load=partial(make_fakes, FakeImages(model="newer")))


# ---- resumed builds


def test_interrupted_build_resumes(pairs: Path, tmp_path: Path) -> None:
    tolerant = Tolerance(number=9)
    with pytest.raises(Interrupted, match="3 shards of 61 rows finished"):
        build_sharded(pairs, tmp_path / "shards", pool=stop_at(4, KeyboardInterrupt), max_bad_rows=tolerant)
    local = build_set(open_pairs(pairs), tmp_path / "local", max_bad_rows=tolerant)
    done = list[int]()
    built = build_sharded_anchor_set(
        open_pairs(pairs),
        Store(tmp_path / "shards"),
        "toy",
        {"image": "fake", "text": "fake"},
        make_fakes,
        BuildOptions(max_bad_rows=tolerant),
        OPERATION,
        ShardingOptions(ClusterOptions(2), 7),
        InlinePool,
        done.append,
    )
    assert identity(built.anchors) == identity(local.anchors)
    assert built.resumed_at >= 3 * 7 - 2
    assert done[-1] == 61
    assert done == sorted(done)


def test_changed_input_is_refused_by_name(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        build_sharded(pairs, tmp_path, pool=stop_at(3, KeyboardInterrupt))
    write_rows(pairs, some_rows(61))
    with pytest.raises(InputRefused, match=r"pairs\.parquet has changed since the plan"):
        build_sharded(pairs, tmp_path)
    built = build_sharded(pairs, tmp_path, resume=False)
    assert built.anchors.count == 61


def test_input_that_changes_during_a_build_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for part in range(3):
        rows = [(f"{part}-{name}", image + b"%d" % part, captions) for name, image, captions in some_rows(30)]
        write_rows(folder / f"part-{part}.parquet", rows)
    touched = list[int]()

    def touch(worker: int, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "encode" and arguments[0].shard.start >= 60 and not touched:
            touched.append(1)
            data = bytearray((folder / "part-2.parquet").read_bytes())
            (folder / "part-2.parquet").write_bytes(data)

    with pytest.raises(InputRefused, match=r"part-2\.parquet has changed"):
        build_sharded(folder, tmp_path, pool=partial(InlinePool, before=touch), shard_rows=30)


def test_damaged_shard_is_done_again(pairs: Path, tmp_path: Path) -> None:
    tolerant = Tolerance(number=9)
    with pytest.raises(Interrupted):
        build_sharded(pairs, tmp_path / "shards", pool=stop_at(4, KeyboardInterrupt), max_bad_rows=tolerant)
    block = min((tmp_path / "shards").rglob("done/*/000000.safetensors"))
    data = bytearray(block.read_bytes())
    data[-1] ^= 1
    block.write_bytes(data)
    local = build_set(open_pairs(pairs), tmp_path / "local", max_bad_rows=tolerant)
    built = build_sharded(pairs, tmp_path / "shards", max_bad_rows=tolerant)
    assert identity(built.anchors) == identity(local.anchors)
    assert built.resumed_at == pytest.approx(2 * 7, abs=2)


def test_workers_are_told_little_about_each_shard(pairs: Path, tmp_path: Path) -> None:
    import pickle

    sizes = list[int]()

    def measure(worker: int, method: str, arguments: tuple[Any, ...]) -> None:
        sizes.append(len(pickle.dumps(arguments)))

    build_sharded(pairs, tmp_path, pool=partial(InlinePool, before=measure), max_bad_rows=Tolerance(number=9))
    assert max(sizes) < 600


def test_full_disk_of_a_worker_ends_the_build_and_is_resumed(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from asif.anchorset.format import blocks
    from asif.anchorset.write import journal_segment
    from asif.errors import OutOfSpace

    tolerant, count = Tolerance(number=9), [0]

    def write(path: Path, block: blocks.AnchorBlock, dtype: str) -> None:
        count[0] += 1
        if count[0] == 4:
            path.write_bytes(b"half a block")
            raise OSError(errno.ENOSPC, "No space left on device")
        blocks.write_block(path, block, dtype)

    monkeypatch.setattr(journal_segment, "write_block", write)
    with pytest.raises(OutOfSpace, match="no room left"):
        build_sharded(pairs, tmp_path / "shards", max_bad_rows=tolerant)
    journal = next((tmp_path / "shards" / "anchors" / "toy" / "journal").glob("*/attempts"))
    assert not list(journal.iterdir())  # room is made at once
    local = build_set(open_pairs(pairs), tmp_path / "local", max_bad_rows=tolerant)
    built = build_sharded(pairs, tmp_path / "shards", max_bad_rows=tolerant)
    assert built.resumed_at >= 3 * 7 - 2
    assert identity(built.anchors) == identity(local.anchors)


def test_rows_in_memory_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    from asif.errors import UsageError
    from asif.pairs.in_memory import open_in_memory

    table = pa.table({"image": [b"one"], "caption": ["a"]})
    source = open_in_memory(table, lambda image: image, {}, tmp_path)
    with pytest.raises(UsageError, match="rows in memory"):
        build_sharded_anchor_set(
            source, Store(tmp_path), "toy", {}, make_fakes, BuildOptions(), OPERATION, ShardingOptions(), InlinePool
        )


def test_two_builds_of_one_plan_do_not_run_at_once(pairs: Path, tmp_path: Path) -> None:
    from asif.errors import Busy

    refused = list[bool]()

    def start_another(worker: int, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "encode" and not refused:
            with pytest.raises(Busy, match="another build"):
                build_sharded(pairs, tmp_path, max_bad_rows=Tolerance(number=9))
            refused.append(True)

    build_sharded(pairs, tmp_path, pool=partial(InlinePool, before=start_another), max_bad_rows=Tolerance(number=9))
    assert refused
