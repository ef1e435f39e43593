"""Updates of galleries: the digest and vectors are those of a new build, and only new content is encoded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.build_fakes import FakeImages, FakeTexts, write_parquet
from support.build_images import random_png
from support.galleries import build, check_vectors, galleries, some_files, stored_vectors, update, write_files

from asif.anchorset import Gallery, read_receipt
from asif.building.gallery import delete_with_updates
from asif.errors import Busy, Conflict, InputRefused, IntegrityError

FILES = some_files(8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of which the gallery `g` was built, in the store `tmp_path`."""
    write_files(tmp_path / "photos", FILES)
    build(tmp_path / "photos", tmp_path).opened.close()
    return tmp_path / "photos"


def check_like_new(photos: Path, home: Path, ref: str = "g") -> None:
    """Compare a gallery with a new build of the same folder: digest, ids, bytes of vectors, and every file."""
    new = build(photos, home / "new")
    with galleries(home).open(ref) as found:
        assert found.digest == new.opened.digest
        assert [record.id for record in found] == [record.id for record in new.opened]
        for name, vector in stored_vectors(new.opened).items():
            np.testing.assert_array_equal(stored_vectors(found)[name], vector)
        assert [reject.id for reject in found.rejects()] == [reject.id for reject in new.opened.rejects()]
    assert galleries(home).verify(ref).problems == ()


def test_nothing_changed(photos: Path, tmp_path: Path) -> None:
    before = galleries(tmp_path).open("g").version
    encoder = FakeImages()
    changes = update(photos, tmp_path, encoder)
    assert (changes.opened.version, changes.unchanged, changes.encoded, encoder.seen) == (before, 8, 0, [])


def test_files_with_size_and_time_that_they_had_are_not_read(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asif.building.gallery import prepare

    read: list[str] = []
    real: Callable[[Any], bytes] = prepare.read_image_bytes
    monkeypatch.setattr(prepare, "read_image_bytes", lambda path: read.append(Path(path).name) or real(path))
    write_files(photos, {"even/002.jpg": b"image 2"}, age=5)
    changes = update(photos, tmp_path)
    assert read == ["002.jpg"] and (changes.changed, changes.encoded) == (1, 0)
    assert update(photos, tmp_path).unchanged == 8 and read == ["002.jpg"]


def test_renames_copies_changes_and_deletions(photos: Path, tmp_path: Path) -> None:
    os.rename(photos / "even/000.jpg", photos / "even/renamed.jpg")
    write_files(photos, {"copy.jpg": FILES["odd/001.jpg"], "even/002.jpg": b"changed content", "new.jpg": b"new"})
    (photos / "odd/003.jpg").unlink()
    encoder = FakeImages()
    changes = update(photos, tmp_path, encoder)
    assert sorted(encoder.seen) == [b"changed content", b"new"]
    found = changes.added, changes.renamed, changes.changed, changes.removed, changes.unchanged
    assert found == (2, 1, 1, 2, 5)
    expected = {name: content for name, content in FILES.items() if name not in ("even/000.jpg", "odd/003.jpg")}
    expected |= {"even/renamed.jpg": FILES["even/000.jpg"], "copy.jpg": FILES["odd/001.jpg"]}
    check_vectors(changes.opened, {**expected, "even/002.jpg": b"changed content", "new.jpg": b"new"})
    check_like_new(photos, tmp_path)
    with galleries(tmp_path).open("g@1") as older:
        check_vectors(older, FILES)


def test_a_file_that_becomes_unreadable(photos: Path, tmp_path: Path) -> None:
    write_files(photos, {"odd/001.jpg": b"bad content"})
    assert update(photos, tmp_path).rejected == 1
    check_like_new(photos, tmp_path)
    write_files(photos, {"odd/001.jpg": b"good one"})
    assert update(photos, tmp_path).rejected == 0
    check_like_new(photos, tmp_path)


def test_all_files_are_gone(photos: Path, tmp_path: Path) -> None:
    for name in FILES:
        (photos / name).unlink()
    write_files(photos, {"bad.jpg": b"bad"})
    with pytest.raises(InputRefused, match="none of the 8 items"):
        update(photos, tmp_path)
    assert galleries(tmp_path).open("g").count == 8


def test_a_receipt_of_what_is_gone(photos: Path, tmp_path: Path) -> None:
    (photos / "odd/003.jpg").unlink()
    os.rename(photos / "even/000.jpg", photos / "renamed.jpg")
    changes = update(photos, tmp_path, receipt=tmp_path / "r.json")
    receipt = read_receipt(tmp_path / "r.json")
    assert (len(receipt.removed), receipt.purged, changes.removed) == (1, False, 2)
    assert galleries(tmp_path).check_receipts("g", [receipt]).problems == ()
    check_like_new(photos, tmp_path)


def test_a_purge(photos: Path, tmp_path: Path) -> None:
    (photos / "odd/003.jpg").unlink()
    write_files(photos, {"even/002.jpg": b"changed content"})
    update(photos, tmp_path)
    os.rename(photos / "even/000.jpg", photos / "renamed.jpg")
    changes = update(photos, tmp_path, receipt=tmp_path / "r.json", purge=True)
    assert changes.deleted is not None and [version[:6] for version in changes.deleted.versions] == ["000001"]
    receipt = read_receipt(tmp_path / "r.json")
    assert receipt.purged and len(receipt.all_removed) == 2
    assert galleries(tmp_path).check_receipts("g", [receipt]).problems == ()
    check_like_new(photos, tmp_path)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "galleries").rglob("*") if path.is_file())
    assert b"odd/003.jpg" not in stored
    again = update(photos, tmp_path, receipt=tmp_path / "none.json", purge=True)
    assert again.deleted is not None and not again.deleted.versions and not (tmp_path / "none.json").exists()


def test_thumbnails_survive_edits(tmp_path: Path) -> None:
    pictures = {f"{seed:02}.png": random_png(seed, 20, 20) for seed in range(12)}
    write_files(tmp_path / "photos", pictures)
    build(tmp_path / "photos", tmp_path, thumbnails=True)
    before = {
        item.sha256: Gallery("g", home=tmp_path).thumbnail(row) for row, item in enumerate(Gallery("g", home=tmp_path))
    }
    os.rename(tmp_path / "photos/03.png", tmp_path / "photos/30.png")
    (tmp_path / "photos/05.png").unlink()
    update(tmp_path / "photos", tmp_path, thumbnails=True)
    galleries(tmp_path).compact("g")
    with Gallery("g", home=tmp_path) as gallery:
        assert {item.sha256: gallery.thumbnail(row) for row, item in enumerate(gallery)} == {
            item.sha256: before[item.sha256] for item in gallery
        }
        assert len(gallery) == 11 and None not in before.values()
    assert galleries(tmp_path).verify("g").problems == ()


def test_a_table_is_updated_by_content(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    write_parquet(path, [b"one", b"two", b"three"], ["a", "b", "c"], id=["x", "y", "z"])
    build(path, tmp_path)
    assert update(path, tmp_path).unchanged == 3
    write_parquet(path, [b"two", b"one", b"four"], ["b", "new caption", "d"], id=["y", "x", "w"])
    encoder = FakeImages()
    changes = update(path, tmp_path, encoder)
    assert encoder.seen == [b"four"] and (changes.added, changes.removed) == (1, 1)
    check_like_new(path, tmp_path)


def test_texts_of_a_row_are_items_of_their_own(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": ["x", "y"], "text": [["one", "two"], ["three"]]}), path)
    build(path, tmp_path, side="text")
    assert update(path, tmp_path, side="text").unchanged == 3
    pq.write_table(pa.table({"id": ["x", "y"], "text": [["one", "2", "three"], ["three"]]}), path)
    encoder = FakeTexts()
    changes = update(path, tmp_path, encoder, side="text")
    assert encoder.seen == ["2"] and (changes.added, changes.changed, changes.unchanged) == (1, 1, 2)
    assert changes.opened.digest == build(path, tmp_path / "new", side="text").opened.digest
    assert changes.rejected == 0 and galleries(tmp_path).verify("g").problems == ()


def test_two_rows_with_one_id(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    write_parquet(path, [b"one", b"two"], ["a", "b"], id=["x", "y"])
    build(path, tmp_path)
    write_parquet(path, [b"one", b"two", b"three"], ["a", "b", "c"], id=["x", "y", "x"])
    update(path, tmp_path)
    check_like_new(path, tmp_path)


def test_two_updaters(photos: Path, tmp_path: Path) -> None:
    write_files(photos, {"new.jpg": b"new"})

    class Second(FakeImages):
        def forward(self, prepared: Any) -> Any:
            with pytest.raises(Busy, match="another update of 'g' is running"):
                update(photos, tmp_path)
            return super().forward(prepared)

    update(photos, tmp_path, Second())
    check_like_new(photos, tmp_path)


def test_an_edit_meanwhile_is_a_conflict_and_encoding_is_kept(photos: Path, tmp_path: Path) -> None:
    write_files(photos, {"new.jpg": b"new"})

    class Editing(FakeImages):
        def forward(self, prepared: Any) -> Any:
            galleries(tmp_path).remove("g", ids=["odd/001.jpg"])
            return super().forward(prepared)

    with pytest.raises(Conflict):
        update(photos, tmp_path, Editing())
    encoder = FakeImages()
    changes = update(photos, tmp_path, encoder)
    assert encoder.seen == [b"image 1"] and changes.added == 2
    check_like_new(photos, tmp_path)


def test_opened_while_it_is_updated(photos: Path, tmp_path: Path) -> None:
    with Gallery("g", home=tmp_path) as gallery:
        write_files(photos, {"odd/001.jpg": b"changed content"})
        (photos / "even/000.jpg").unlink()
        update(photos, tmp_path)
        check_vectors(gallery.opened, FILES)
        assert gallery.where("label = 'odd'").tolist() == [4, 5, 6, 7] and len(gallery) == 8


def test_a_damaged_block_is_never_copied(photos: Path, tmp_path: Path) -> None:
    (block,) = (tmp_path / "galleries/g/blocks").iterdir()
    content = bytearray(block.read_bytes())
    content[500] ^= 1
    block.write_bytes(content)
    os.rename(photos / "even/000.jpg", photos / "renamed.jpg")
    with pytest.raises(IntegrityError, match="has sha256"):
        update(photos, tmp_path)
    assert any("has sha256" in str(problem) for problem in galleries(tmp_path).verify("g").problems)
    block.write_bytes(content[:-1])
    with pytest.raises(IntegrityError, match="bytes"):
        Gallery("g", home=tmp_path)


def test_an_update_resumes(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from asif.building.gallery import encode

    monkeypatch.setattr(encode, "SEGMENT_ROWS", 2)
    monkeypatch.setattr(encode, "_SKIPPED_PER_ROW", 1)
    write_files(photos, {f"new/{row}.jpg": b"new %d" % row for row in range(6)})
    (photos / "even/000.jpg").unlink()

    class Failing(FakeImages):
        def prepare(self, source: Any) -> bytes:
            if source == b"new 4":
                raise MemoryError
            return super().prepare(source)

    with pytest.raises(MemoryError):
        update(photos, tmp_path, Failing(batch=2))
    encoder = FakeImages()
    changes = update(photos, tmp_path, encoder)
    assert 0 < len(encoder.seen) < 6 and (changes.added, changes.removed, changes.unchanged) == (6, 1, 7)
    check_like_new(photos, tmp_path)


@pytest.mark.parametrize("command", [build, update])
def test_what_a_killed_run_has_encoded_is_used_after_the_source_has_changed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    monkeypatch.setattr("asif.building.gallery.encode.SEGMENT_ROWS", 2)
    write_files(photos, {f"a/{row}.jpg": b"new %d" % row for row in range(6)})

    class Failing(FakeImages):
        def prepare(self, source: Any) -> bytes:
            if source == b"new 4":
                raise MemoryError
            return super().prepare(source)

    with pytest.raises(MemoryError):
        command(photos, tmp_path, Failing(batch=2))
    write_files(photos, {"later.jpg": b"later"})
    encoder = FakeImages()
    command(photos, tmp_path, encoder)
    assert b"later" in encoder.seen and b"new 0" not in encoder.seen
    check_like_new(photos, tmp_path)
    assert not list(tmp_path.rglob("plan.json"))


def test_a_deletion_leaves_nothing_that_an_update_had_encoded(photos: Path, tmp_path: Path) -> None:
    write_files(photos, {"new.jpg": b"new"})

    class Editing(FakeImages):
        def forward(self, prepared: Any) -> Any:
            galleries(tmp_path).remove("g", ids=["odd/001.jpg"])
            return super().forward(prepared)

    with pytest.raises(Conflict):
        update(photos, tmp_path, Editing())
    assert list(tmp_path.rglob("*.safetensors"))
    assert len(delete_with_updates(galleries(tmp_path), "g").versions) == 2
    assert not list(tmp_path.rglob("*.safetensors")) and galleries(tmp_path).sets() == []


def test_a_purge_spares_what_cannot_be_read(photos: Path, tmp_path: Path) -> None:
    write_files(photos, {"odd/001.jpg": b"bad content"})
    for _ in range(2):
        update(photos, tmp_path, purge=True)
    with galleries(tmp_path).open("g@1") as older:
        check_vectors(older, FILES)


NAMES = st.sampled_from([f"{letter}.jpg" for letter in "abcdefgh"])
CONTENTS = st.sampled_from([b"one", b"two", b"three", b"four", b"bad"])


@pytest.mark.slow
@given(st.lists(st.dictionaries(NAMES, CONTENTS, min_size=1), min_size=2, max_size=5))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_updates_equals_a_new_build(
    tmp_path_factory: pytest.TempPathFactory, states: list[dict[str, bytes]]
) -> None:
    home = tmp_path_factory.mktemp("home")
    for age, state in enumerate({**state, "always.jpg": b"always"} for state in states):
        for path in (home / "photos").glob("*"):
            path.unlink()
        write_files(home / "photos", state, age)
        if age == 0:
            build(home / "photos", home)
        else:
            update(home / "photos", home, purge=age % 2 == 0)
        check_like_new(home / "photos", home)
