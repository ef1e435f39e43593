"""The anchor set on disk: what is stored comes back, and what names it depends on the pairs and encoders alone."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
from support.anchorset_sets import DIMS, ENCODERS, build, dense, files, pairs, vectors

from asif.anchorset import Manifest, Store, default_home, verify
from asif.anchorset.format.blocks import numpy_dtype
from asif.errors import NotFound
from asif.pairs.pair import PairRecord, Reject

DTYPES = ["float16", "float32", "bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_stored_values_come_back_in_order_of_ids(tmp_path: Path, dtype: str) -> None:
    items: list[PairRecord | Reject] = list(pairs(40))
    items[5] = Reject(5, None, "image is empty")
    opened = build(tmp_path, items, dtype=dtype)
    expected = sorted((item for item in items if isinstance(item, PairRecord)), key=lambda pair: pair.id.encode())
    assert opened.records(range(opened.count)) == expected
    assert opened.records([38, 0, 38]) == [expected[38], expected[0], expected[38]]
    for side in DIMS:
        stored = np.concatenate(opened.blocks(side))
        assert stored.dtype == numpy_dtype(dtype)
        exact = vectors(expected, side).astype(numpy_dtype(dtype)).astype(np.float32)
        np.testing.assert_array_equal(stored.astype(np.float32), exact)
        np.testing.assert_allclose(opened.mean(side), exact.astype(np.float64).mean(axis=0), rtol=0, atol=1e-15)
        assert opened.fingerprint(side) == ENCODERS[side].fingerprint
        assert opened.encoder_spec(side) == ENCODERS[side].spec
    manifest = opened.manifest
    assert (manifest.rows_in, manifest.count, manifest.rejected, manifest.parent) == (40, 39, 1, None)
    assert opened.dims == DIMS
    assert opened.ref == "toy@1"
    assert opened.version == f"000001-{opened.digest[:12]}"
    report = Store(tmp_path).verify("toy")
    assert report.problems == ()
    assert report.files == len(files(tmp_path))
    assert report.bytes == sum(f.stat().st_size for f in files(tmp_path))


def test_removing_a_pair_is_building_without_it(tmp_path: Path) -> None:
    records = pairs(12)
    whole = build(tmp_path / "whole", records)
    without = build(tmp_path / "without", records[:4] + records[5:])
    rejected: list[PairRecord | Reject] = list(records)
    rejected[4] = Reject(4, records[4].id, "removed")
    assert build(tmp_path / "rejected", rejected).digest == without.digest != whole.digest


def test_the_digest_names_pairs_encoders_dtype_and_captions(tmp_path: Path) -> None:
    records = pairs(4)
    digests = {
        build(tmp_path / "0", records).digest,
        build(tmp_path / "1", records, dtype="float32").digest,
        build(tmp_path / "2", records, captions="first").digest,
        *(
            build(tmp_path / field, [dataclasses.replace(records[0], **{field: value}), *records[1:]]).digest
            for field, value in {
                "id": "other",
                "captions": ("other",),
                "image_sha256": "0" * 64,
                "source": "other",
                "licence": "other",
                "url": "other",
            }.items()
        ),
    }
    assert len(digests) == 9


def test_versions_follow_one_another_and_share_blocks(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = build(tmp_path, pairs(5))
    second = build(tmp_path, pairs(6))
    assert (second.manifest.seq, second.manifest.parent) == (2, first.version)
    assert build(tmp_path, pairs(6)).version == second.version  # nothing changed: no third version
    third = build(tmp_path, pairs(5))
    assert (third.manifest.seq, third.digest, third.manifest.blocks) == (3, first.digest, first.manifest.blocks)
    opened = {
        ref: store.open(ref).version for ref in ("toy", "toy@current", "toy@1", "toy@000002", f"toy@{first.version}")
    }
    assert list(opened.values()) == [third.version, third.version, first.version, second.version, first.version]
    np.testing.assert_array_equal(dense(first, "text"), dense(third, "text"))
    assert len(list((tmp_path / "anchors/toy/blocks").iterdir())) == 2
    assert store.verify("toy").versions == (first.version, second.version, third.version)
    assert store.verify("toy@2").versions == (second.version,)
    assert store.verify("toy").problems == store.verify("toy@2").problems == ()


def test_an_open_set_stays_what_it_is(tmp_path: Path) -> None:
    opened = build(tmp_path, pairs(4))
    before = dense(opened, "image")
    build(tmp_path, pairs(5))
    np.testing.assert_array_equal(dense(opened, "image"), before)
    image = opened.blocks("image")[0]
    opened.close()
    np.testing.assert_array_equal(image.astype(np.float32), before)
    for use in (lambda: opened.blocks("image"), lambda: opened.mean("image"), lambda: opened.records([0])):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_readers_see_whole_versions_while_another_writes(tmp_path: Path) -> None:
    digests = [build(tmp_path / "plain", pairs(count)).digest for count in range(1, 13)]
    build(tmp_path, pairs(1))
    writer = threading.Thread(target=lambda: [build(tmp_path, pairs(count)) for count in range(2, 13)])
    writer.start()
    seen = []
    while writer.is_alive() or not seen or seen[-1] != 12:
        with Store(tmp_path).open("toy") as opened:
            assert opened.digest == digests[opened.count - 1]
            assert len(opened.records(range(opened.count))) == opened.count == len(dense(opened, "text"))
            seen.append(opened.count)
    writer.join()
    assert seen == sorted(seen)


def test_rows_out_of_range(tmp_path: Path) -> None:
    opened = build(tmp_path, pairs(4))
    assert opened.records([]) == []
    for rows in ([4], [-1], [0, 99]):
        with pytest.raises(IndexError):
            opened.records(rows)


def test_a_set_can_be_opened_by_path(tmp_path: Path) -> None:
    opened = build(tmp_path, pairs(4))
    moved = tmp_path / "elsewhere"
    (tmp_path / "anchors/toy").rename(moved)
    for ref in (str(moved), f"{moved}@1", f"{moved}@current"):
        assert Store(tmp_path).open(ref).digest == opened.digest
    assert verify(moved).problems == ()
    with pytest.raises(NotFound):
        Store(tmp_path).open(str(tmp_path))
    with pytest.raises(NotFound):
        verify(tmp_path)


def test_not_found_names_what_there_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(NotFound, match="none yet"):
        store.open("toy")
    version = build(tmp_path, pairs(2)).version
    with pytest.raises(NotFound, match="one of: toy"):
        store.open("other")
    for ref in ("toy@best", "toy@7", "toy@000007-0123456789ab"):
        with pytest.raises(NotFound, match=f"one of: current, {version}"):
            store.open(ref)


def test_the_list_says_what_is_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.sets() == []
    opened = build(tmp_path, pairs(4))
    (entry,) = store.sets()
    assert (entry.name, entry.version, entry.count, entry.dims) == ("toy", opened.version, 4, DIMS)
    assert entry.encoders == {"image": "timm:stub", "text": "st:stub"}
    assert entry.error is None
    assert entry.aliases == {"current": opened.version}
    assert entry.created == opened.manifest.created
    assert entry.size == store.size("toy") == sum(file.stat().st_size for file in files(tmp_path))


def test_the_manifest_comes_back(tmp_path: Path) -> None:
    manifest = build(tmp_path, pairs(4)).manifest
    assert Manifest.from_bytes(manifest.to_bytes(), "here") == manifest


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASIF_HOME", "/somewhere/else")
    assert default_home() == Path("/somewhere/else")
    monkeypatch.delenv("ASIF_HOME")
    assert default_home().name == "asif"
