"""Pairs put into a set: encoded alone, and what comes is a build of all of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.anchorset_sets import short_blocks
from support.engine_sets import IMAGE_DIM, TEXT_DIM, Fake, fake_image, fake_text
from support.running import Cli

from asif.anchorset import AnchorSet, Store
from asif.building import BuildOptions, build_anchor_set
from asif.building.add_pairs import SCRATCH_FOLDER
from asif.engine import add_pairs
from asif.errors import Conflict, EncoderMismatch, InputRefused
from asif.pairs import open_pairs

SIDES = ("image", "text")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect what the fake encoders are given."""
    seen: list[Any] = []
    real = Fake.forward

    def forward(self: Fake, inputs: Any) -> Any:
        seen.extend(inputs)
        return real(self, inputs)

    monkeypatch.setattr(Fake, "forward", forward)
    return seen


def row(number: int, **changed: Any) -> dict[str, Any]:
    usual = {"id": f"{number:03d}", "image": b"image %d" % number, "captions": [f"one {number}", f"two {number}"]}
    return {**usual, "source": "web" if number % 2 else None, **changed}


def parquet(folder: Path, rows: list[dict[str, Any]], name: str = "pairs") -> Path:
    path = folder / f"{name}.parquet"
    table = [{**one, "image": {"bytes": one["image"], "path": None}} for one in rows]
    pq.write_table(pa.Table.from_pylist(table), path)
    return path


def make(folder: Path, home: Path, rows: list[dict[str, Any]], name: str = "toy", **options: Any) -> AnchorSet:
    path = parquet(folder, rows, name)
    how = BuildOptions(**options)
    return build_anchor_set(
        open_pairs(path), Store(home), name, fake_image(), fake_text(), how, {"kind": "build"}
    ).anchors


def same(found: AnchorSet, expected: AnchorSet) -> None:
    assert (found.digest, found.count) == (expected.digest, expected.count)
    assert found.records(range(found.count)) == expected.records(range(expected.count))
    for side in SIDES:
        one, two = (np.concatenate(each.blocks(side)) for each in (found, expected))  # type: ignore[arg-type]
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(found.mean(side), expected.mean(side))  # type: ignore[arg-type]


BETWEEN = [row(number) for number in range(0, 40, 2)], [row(number) for number in range(1, 40, 4)]
AFTER = [row(number) for number in range(20)], [row(number) for number in range(20, 33)]
BEFORE = AFTER[1], AFTER[0]


@pytest.mark.parametrize("captions", ["mean", "all"])
@pytest.mark.parametrize("both", [BETWEEN, AFTER, BEFORE], ids=["between", "after", "before"])
def test_adding_pairs_is_building_with_them(
    home: Path, tmp_path: Path, hashing: None, encoded: list[Any], both: Any, captions: str, monkeypatch: Any
) -> None:
    short_blocks(monkeypatch, 8)
    old, new = both
    first = make(tmp_path, home, old, captions=captions)
    Store(home).remove("toy", [first.records([3])[0].id])
    encoded.clear()
    found = add_pairs("toy", parquet(tmp_path, new, "new"), home=home)
    assert len(encoded) == 3 * len(new)  # an image and two captions of each
    gone = first.records([3])[0]
    expected = make(tmp_path, home, old + new, "expected", captions=captions)
    same(found, Store(home).remove("expected", [gone.id]))
    assert found.manifest.operation == {
        "kind": "add",
        "pairs": len(new) * (1 + (captions == "all")),
        "replaced": 0,
        "rejected": 0,
    }
    assert (found.manifest.parent, found.manifest.rows_in) == (Store(home).open("toy@2").version, expected.count - 1)
    if both is AFTER and captions == "mean":
        shared = set(found.manifest.blocks) & set(Store(home).open("toy@2").manifest.blocks)
        assert len(shared) == 3  # all: what follows all others makes blocks of its own
    assert [entry.name for entry in Store(home).sets()] == ["expected", "toy"]
    assert list((home / SCRATCH_FOLDER / "anchors").iterdir()) == []
    Store(home).verify("toy").raise_if_bad()


def test_many_small_additions_leave_few_blocks_and_write_little(
    home: Path, tmp_path: Path, hashing: None, monkeypatch: Any
) -> None:
    short_blocks(monkeypatch, 16)
    monkeypatch.setattr("asif.anchorset.edit.insert.PAIRS_PER_RANGE", 8)
    rows = [row(number) for number in range(60)]
    found = make(tmp_path, home, rows[:12])
    written = 0
    for number in range(12, 60, 2):
        known = {entry.sha256 for entry in found.manifest.blocks}
        found = add_pairs("toy", parquet(tmp_path, rows[number : number + 2], "new"), home=home)
        written += sum(entry.rows for entry in found.manifest.blocks if entry.sha256 not in known)
    same(found, make(tmp_path, home, rows, "expected"))
    sizes = [entry.rows for entry in found.manifest.blocks]
    assert sizes == [12, 16, 16, 16]  # 48 rows, two at a time, joined as 2 + 2, 4 + 4, 8 + 8
    assert written == 3 * (2 + 4 + 2 + 8 + 2 + 4 + 2 + 16)
    Store(home).verify("toy").raise_if_bad()


@pytest.mark.parametrize("captions", ["mean", "all"])
def test_updating_pairs_is_building_with_the_new_ones(home: Path, tmp_path: Path, hashing: None, captions: str) -> None:
    make(tmp_path, home, AFTER[0], captions=captions)
    new = [row(3, captions=["another"]), row(4, image=b"other"), row(5), row(6, source="book")]
    found = add_pairs("toy", parquet(tmp_path, new, "new"), kind="update", home=home)
    rest = [one for one in AFTER[0] if one["id"] not in {each["id"] for each in new}]
    same(found, make(tmp_path, home, rest + new, "expected", captions=captions))
    assert Store(home).diff("toy@1", "toy").added == ()
    assert len(Store(home).diff("toy@1", "toy").removed) == (captions == "all")  # the second caption of pair 3
    Store(home).verify("toy").raise_if_bad()


def test_what_is_there_already_makes_no_version(home: Path, tmp_path: Path, hashing: None) -> None:
    before = make(tmp_path, home, AFTER[0])
    path = parquet(tmp_path, AFTER[0][:4], "new")
    assert add_pairs("toy", path, home=home).version == before.version
    assert add_pairs("toy", path, kind="update", home=home).version == before.version
    assert add_pairs("toy", parquet(tmp_path, AFTER[0][:4] + AFTER[1], "more"), home=home).count == 33


def test_ids_that_do_not_fit_are_refused(home: Path, tmp_path: Path, hashing: None) -> None:
    make(tmp_path, home, AFTER[0])
    with pytest.raises(InputRefused, match="1 ids belong to other pairs in toy@1: '003'"):
        add_pairs("toy", parquet(tmp_path, [row(3, source="x"), row(50)], "new"), home=home)
    with pytest.raises(InputRefused, match="toy@1 has no '050'"):
        add_pairs("toy", parquet(tmp_path, [row(3, source="x"), row(50)], "new"), kind="update", home=home)
    assert len(Store(home).log("toy")) == 1


def test_other_encoders_and_other_input_are_refused(
    home: Path, tmp_path: Path, hashing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, home, AFTER[0])
    vectors = tmp_path / "vectors"
    vectors.mkdir()
    for side, dim in (("img", IMAGE_DIM), ("text", TEXT_DIM)):
        np.save(vectors / f"{side}_emb_0.npy", np.ones((3, dim), np.float32))
    with pytest.raises(InputRefused, match="what toy@1 was made of: images and captions"):
        add_pairs("toy", vectors, home=home)
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: fake_text(model="other"))
    with pytest.raises(EncoderMismatch, match="model: 'fake' in the set, 'other' here"):
        add_pairs("toy", parquet(tmp_path, AFTER[1], "new"), home=home)
    assert len(Store(home).log("toy")) == 1


def test_vectors_are_added_to_vectors(home: Path, tmp_path: Path) -> None:
    from asif.engine import build_anchors

    random = np.random.default_rng(0)
    sides = {f"{name}_embedding": random.standard_normal((9, dim)) for name, dim in (("image", 4), ("text", 3))}

    def part(some: slice, name: str) -> Path:
        columns = {side: pa.array(values[some].astype(np.float32).tolist()) for side, values in sides.items()}
        texts = {"id": [f"{at}" for at in range(9)][some], "caption": [f"text {at}" for at in range(9)][some]}
        pq.write_table(pa.table({**texts, **columns}), tmp_path / f"{name}.parquet")
        return tmp_path / f"{name}.parquet"

    build_anchors(part(slice(0, 6), "old"), "toy", home=home)
    found = add_pairs("toy", part(slice(6, 9), "new"), home=home)
    same(found, build_anchors(part(slice(0, 9), "all"), "expected", home=home).anchors)


def test_what_was_encoded_survives_a_conflict(
    home: Path, tmp_path: Path, hashing: None, encoded: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, home, AFTER[0])
    path = parquet(tmp_path, AFTER[1], "new")
    real = Store.put

    def late(store: Store, *given: Any) -> AnchorSet:
        monkeypatch.setattr(Store, "put", real)
        opened = Store(home).open("toy")
        Store(home).remove("toy", ["000"])
        monkeypatch.setattr(Store, "open", lambda self, ref: opened)
        try:
            return real(store, *given)
        finally:
            monkeypatch.undo()

    monkeypatch.setattr(Store, "put", late)
    with pytest.raises(Conflict, match="but the current version is 000002"):
        add_pairs("toy", path, home=home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: fake_image())
        patch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: fake_text())
        patch.setattr(Fake, "forward", None)  # nothing is encoded again
        found = add_pairs("toy", path, home=home)
    same(found, make(tmp_path, home, AFTER[0][1:] + AFTER[1], "expected"))


def test_an_old_version_is_refused_before_anything_is_encoded(
    home: Path, tmp_path: Path, hashing: None, encoded: list[Any]
) -> None:
    make(tmp_path, home, AFTER[0])
    Store(home).remove("toy", ["000"])
    encoded.clear()
    with pytest.raises(Conflict, match="but the current version is 000002"):
        add_pairs("toy@1", parquet(tmp_path, AFTER[1], "new"), home=home)
    assert encoded == []


@pytest.mark.parametrize("spoil", ["a block is gone", "a byte is another"])
def test_what_was_encoded_and_is_damaged_is_encoded_again(
    home: Path, tmp_path: Path, hashing: None, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    make(tmp_path, home, AFTER[0])
    path = parquet(tmp_path, AFTER[1], "new")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", None)
        with pytest.raises(TypeError):
            add_pairs("toy", path, home=home)
    (block,) = (home / SCRATCH_FOLDER).rglob("*.safetensors")
    data = block.read_bytes()
    block.unlink()
    if spoil == "a byte is another":
        at = data.index(np.float16(1).tobytes()[:1], 600)
        block.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    same(add_pairs("toy", path, home=home), make(tmp_path, home, AFTER[0] + AFTER[1], "expected"))
    assert list((home / SCRATCH_FOLDER / "anchors").iterdir()) == []


def test_many_additions_at_once_are_all_there(home: Path, tmp_path: Path, hashing: None) -> None:
    make(tmp_path, home, AFTER[0])
    parts = [parquet(tmp_path, [row(number)], f"new-{number}") for number in range(50, 62)]

    def add(path: Path) -> None:
        while True:
            try:
                add_pairs("toy", path, home=home)
                return
            except Conflict:
                continue

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, parts))
    same(
        Store(home).open("toy"), make(tmp_path, home, AFTER[0] + [row(number) for number in range(50, 62)], "expected")
    )


def test_commands(home: Path, tmp_path: Path, hashing: None, cli: Cli) -> None:
    make(tmp_path, home, AFTER[0])
    done = cli(
        "anchors",
        "add",
        "toy",
        parquet(tmp_path, [*AFTER[1], row(90, image=b"bad")], "new"),
        "--max-bad-rows",
        1,
        "--json",
    )
    assert done.json["operation"] == {"kind": "add", "pairs": 13, "replaced": 0, "rejected": 1}
    assert cli("anchors", "add", "toy", parquet(tmp_path, [row(91, image=b"bad")], "bad")).code == 3
    changed = parquet(tmp_path, [row(3, captions=["x"])], "changed")
    assert cli("anchors", "add", "toy", changed).code == 3
    assert cli("anchors", "update", "toy", changed).out.startswith("toy@3: 1 pairs updated, 33 now")
    assert cli("anchors", "update", "toy@1", changed).code == 1


def test_rows_are_limited_and_a_dry_run_encodes_nothing(
    home: Path, tmp_path: Path, hashing: None, encoded: list[Any], cli: Cli
) -> None:
    make(tmp_path, home, AFTER[0])
    path = parquet(tmp_path, AFTER[1], "new")
    encoded.clear()
    estimate = cli("anchors", "add", "toy", path, "--limit", 5, "--dry-run", "--json").json
    assert (estimate["rows"], encoded, Store(home).open("toy").count) == (5, [], 20)
    assert cli("anchors", "add", "toy", path, "--limit", 5).code == 0
    same(Store(home).open("toy"), make(tmp_path, home, AFTER[0] + AFTER[1][:5], "expected"))
    same(add_pairs("toy", path, limit=9, home=home), make(tmp_path, home, AFTER[0] + AFTER[1][:9], "expected"))


def test_pairs_are_encoded_again_where_that_is_meant(
    home: Path, tmp_path: Path, hashing: None, encoded: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, home, AFTER[0])
    path = parquet(tmp_path, AFTER[1], "new")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", lambda *_: pytest.fail("published"))
        with pytest.raises(pytest.fail.Exception):
            add_pairs("toy", path, home=home)
    encoded.clear()
    add_pairs("toy", path, resume=False, home=home)
    assert len(encoded) == 3 * len(AFTER[1])


def test_exact_repeats_are_kept_or_dropped(home: Path, tmp_path: Path, hashing: None) -> None:
    make(tmp_path, home, AFTER[0])
    new = [row(50), {**row(50), "id": "other"}]
    assert add_pairs("toy", parquet(tmp_path, new, "a"), dedup="keep", max_bad_rows=0, home=home).count == 22
    Store(home).rollback("toy")
    assert add_pairs("toy", parquet(tmp_path, new, "b"), max_bad_rows=0, home=home).count == 21
