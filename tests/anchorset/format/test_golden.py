"""Anchor sets written by earlier versions of asif stay readable, value for value (P9).

Written by `PYTHONPATH=tests python tests/anchorset/format/test_golden.py` when they were new; never again for a
released format.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from support.anchorset_sets import DIMS, build, dense, pairs, vectors
from support.build_fakes import FakeImages, draw_vector, unit
from support.build_images import random_png
from support.engine_sets import fake_image, make_set
from support.galleries import build as build_gallery
from support.galleries import update, write_files
from support.paths import TESTS

from asif.anchorset import Gallery, Store, verify
from asif.anchorset.format.blocks import numpy_dtype
from asif.pairs.pair import Reject

GOLDEN = TESTS / "golden" / "anchorset-format1"
DIGESTS = {
    "float16": "8b1e7141c2a89d69562397a5c609e0c2f1a30ae64dd5cecdca7cabb3ac140653",
    "float32": "17e0a83545f5027be8097758f5417a57e6f5eef40e58aede7079b39b8c14182d",
    "bfloat16": "bee91a7860b2754f812a00ad11b0fff2b4c7ea5b035dfc05df15b50465a528ec",
}
EDITED, LEFT = "golden-deletions", "794c0a4f90bed94a86e0804509c9ec6d547d0f705b205142531074287ae311c0"
GONE = [sorted(pair.id for pair in pairs(20))[at] for at in (2, 3, 13)]
PIECES, PUT = "golden-pieces", "c9f172322edf4fce4817d2d11b6f9ed0d2737c047da0cdea397248e50bff5466"
COLLECTION, COLLECTED = "golden-gallery", "f33e3e0acb29fe69409fc50b65f6cefaaf0d5b6469c2632574100665285d8803"
MODALITIES, PAIRED = "golden-modalities", "9ca631b54b0b824d5b31a0efa79ebe5433ff1460c6a2e2be09f1b301c0c870aa"
BETWEEN = [sorted(pairs(20), key=lambda pair: pair.id)[at] for at in (4, 11)]
ITEMS = [*pairs(5), Reject(5, "x-1", "image is null")]


@pytest.mark.parametrize("dtype", DIGESTS)
def test_format_1_stays_readable(tmp_path: Path, dtype: str) -> None:
    folder = GOLDEN / "anchors" / f"golden-{dtype}"
    opened = Store(tmp_path).open(f"{folder}@1")
    records = sorted(pairs(5), key=lambda pair: pair.id)
    assert opened.digest == DIGESTS[dtype]
    assert opened.records(range(5)) == records
    assert opened.manifest.created == "2025-01-01T00:00:00Z"
    for side in DIMS:
        stored = vectors(records, side).astype(numpy_dtype(dtype)).astype(np.float32)
        np.testing.assert_array_equal(dense(opened, side), stored)
        np.testing.assert_allclose(opened.mean(side), stored.mean(axis=0, dtype=np.float64), rtol=0, atol=1e-15)
    assert verify(folder).problems == ()


@pytest.mark.parametrize("dtype", DIGESTS)
def test_the_same_pairs_give_the_same_digest_and_blocks_today(tmp_path: Path, dtype: str) -> None:
    opened = build(tmp_path, ITEMS, name=f"golden-{dtype}", dtype=dtype)
    golden = Store(GOLDEN).open(f"golden-{dtype}")
    assert opened.digest == golden.digest
    assert [block.sha256 for block in opened.manifest.blocks] == [block.sha256 for block in golden.manifest.blocks]


def test_format_1_with_deletion_lists_stays_readable(tmp_path: Path) -> None:
    folder = GOLDEN / "anchors" / EDITED
    opened, first = Store(tmp_path).open(str(folder)), Store(tmp_path).open(f"{folder}@1")
    records = sorted(pairs(20), key=lambda pair: pair.id)
    left = [pair for pair in records if pair.id not in GONE]
    assert first.records(range(20)) == records and opened.records(range(17)) == left
    assert opened.digest == build(tmp_path, left, name=EDITED).digest == LEFT
    assert [entry.deleted for entry in opened.manifest.blocks] == [(2, 2, 9, 1)]
    assert opened.manifest.blocks[0].sha256 == first.manifest.blocks[0].sha256
    for side in DIMS:
        np.testing.assert_array_equal(dense(opened, side), vectors(left, side).astype(np.float16).astype(np.float32))
    assert verify(folder).problems == ()


def test_format_1_with_pieces_stays_readable(tmp_path: Path) -> None:
    folder = GOLDEN / "anchors" / PIECES
    opened, first = Store(tmp_path).open(str(folder)), Store(tmp_path).open(f"{folder}@1")
    records = sorted(pairs(20), key=lambda pair: pair.id)
    assert first.records(range(18)) == [pair for pair in records if pair not in BETWEEN]
    assert opened.records(range(20)) == records
    assert opened.digest == build(tmp_path, records, name=PIECES).digest == PUT
    assert [(entry.count, entry.deleted) for entry in opened.manifest.blocks] == [
        (4, (4, 14)),
        (1, (1, 1)),
        (6, (0, 4, 6, 8)),
        (1, (0, 1)),
        (8, (0, 10)),
    ]
    assert len(opened.manifest.files) == 2 and opened.manifest.files[0] == first.manifest.blocks[0]
    for side in DIMS:
        np.testing.assert_array_equal(dense(opened, side), vectors(records, side).astype(np.float16).astype(np.float32))
    assert verify(folder).problems == ()


def test_format_1_with_galleries_stays_readable(tmp_path: Path) -> None:
    folder = GOLDEN / "galleries" / COLLECTION
    opened, first = Gallery(str(folder)), Gallery(f"{folder}@1")
    pictures = {f"{'even' if seed % 2 == 0 else 'odd'}/{seed}.png": random_png(seed) for seed in range(4)}
    assert {item.id: item.sha256 for item in first} == {name: sha256(each) for name, each in pictures.items()}
    pictures["odd/renamed.png"] = pictures.pop("odd/1.png")
    assert {item.id: item.sha256 for item in opened} == {name: sha256(each) for name, each in pictures.items()}
    assert opened.digest == COLLECTED and opened.encoder_spec == "timm:fake"
    assert [item.label for item in opened] == ["even", "even", "odd", "odd"]
    assert opened.records([3])[0].uri == "/tmp/photos/odd/renamed.png"
    for row, item in enumerate(opened):
        vector = unit(draw_vector(pictures[item.id], "image"))
        np.testing.assert_array_equal(np.concatenate(opened.vectors)[row], np.asarray(vector, np.float32).astype("<f2"))
        assert (opened.thumbnail(row) or b"")[8:12] == b"WEBP"
    assert [reject.id for reject in opened.rejects()] == ["cut.png"]
    assert opened.verify().problems == () == first.verify().problems
    write_files(tmp_path / "photos", pictures)
    assert build_gallery(tmp_path / "photos", tmp_path).opened.digest == COLLECTED


def test_format_1_with_modalities_stays_readable(tmp_path: Path) -> None:
    folder = GOLDEN / "anchors" / MODALITIES
    opened = Store(tmp_path).open(str(folder))
    assert opened.manifest.modalities == {"image": "audio", "text": "text"}
    assert b'"features":["modalities"]' in (folder / "versions" / f"{opened.version}.json").read_bytes()
    assert opened.records(range(5)) == sorted(pairs(5), key=lambda pair: pair.id)
    assert opened.digest == make_set(tmp_path, MODALITIES, fake_image(modality="audio"), count=5).digest == PAIRED
    assert verify(folder).problems == ()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_gallery() -> None:
    """Write the gallery alone."""
    from asif.anchorset.edit import transaction
    from asif.anchorset.write import publish

    publish.current_utc_time = transaction.current_utc_time = lambda: "2025-01-01T00:00:00Z"
    photos = Path("/tmp/photos")
    pictures = {f"{'even' if seed % 2 == 0 else 'odd'}/{seed}.png": random_png(seed) for seed in range(4)}
    write_files(photos, {**pictures, "cut.png": random_png(0)[:99]})
    build_gallery(photos, GOLDEN, FakeImages(pictures=True), COLLECTION, thumbnails=True)
    (photos / "odd/1.png").rename(photos / "odd/renamed.png")
    changed = update(photos, GOLDEN, FakeImages(pictures=True), COLLECTION, thumbnails=True)
    sys.stdout.write(f"{COLLECTION} {changed.opened.digest}\n")
    (GOLDEN / "galleries" / COLLECTION / ".lock").unlink()
    for folder in (photos, GOLDEN / "adding"):
        shutil.rmtree(folder)


def write_pieces(scratch: Path) -> None:
    """Write the set with pieces alone."""
    from asif.anchorset.edit import insert, transaction
    from asif.anchorset.write import publish

    publish.current_utc_time = transaction.current_utc_time = lambda: "2025-01-01T00:00:00Z"
    insert.PAIRS_PER_RANGE = 4
    build(GOLDEN, [pair for pair in pairs(20) if pair not in BETWEEN], name=PIECES)
    sys.stdout.write(f"{PIECES} {Store(GOLDEN).put(PIECES, build(scratch, BETWEEN), 'add').digest}\n")
    (GOLDEN / "anchors" / PIECES / ".lock").unlink()


def write_modalities() -> None:
    """Write the set of sounds and texts alone."""
    from asif.anchorset.write import publish

    publish.current_utc_time = lambda: "2025-01-01T00:00:00Z"
    made = make_set(GOLDEN, MODALITIES, fake_image(modality="audio"), count=5)
    sys.stdout.write(f"{MODALITIES} {made.digest}\n")
    (GOLDEN / "anchors" / MODALITIES / ".lock").unlink()


def write_golden() -> None:
    from asif.anchorset.edit import transaction
    from asif.anchorset.write import publish

    publish.current_utc_time = transaction.current_utc_time = lambda: "2025-01-01T00:00:00Z"
    for dtype in DIGESTS:
        opened = build(GOLDEN, ITEMS, name=f"golden-{dtype}", dtype=dtype)
        (GOLDEN / "anchors" / opened.name / ".lock").unlink()
        sys.stdout.write(f"{dtype} {opened.digest}\n")
    build(GOLDEN, pairs(20), name=EDITED)
    sys.stdout.write(f"{EDITED} {Store(GOLDEN).remove(EDITED, GONE).digest}\n")
    (GOLDEN / "anchors" / EDITED / ".lock").unlink()


if __name__ == "__main__":
    write_golden()
