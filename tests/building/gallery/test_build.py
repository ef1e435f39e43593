"""Builds of galleries, compared with the plain definition: a unit vector for each content."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.build_fakes import FakeImages, FakeTexts, draw_vector, write_parquet
from support.build_images import jpeg_declaring, random_png
from support.galleries import build, check_vectors, galleries, some_files, stored_vectors, write_files

from asif.anchorset.format.kinds import GALLERY
from asif.anchorset.gallery import Gallery
from asif.building.gallery.encode import SEGMENT_ROWS
from asif.errors import BadImage, InputRefused, UsageError


def test_a_folder_tree(tmp_path: Path) -> None:
    files = some_files(7)
    write_files(tmp_path / "photos", {**files, "top.png": b"top", "notes.txt": b"x", ".hidden/a.jpg": b"hidden"})
    built = build(tmp_path / "photos", tmp_path)
    check_vectors(built.opened, {**files, "top.png": b"top"})
    with Gallery("g", home=tmp_path) as gallery:
        assert (len(gallery), gallery.side, gallery.dim) == (8, "image", 6)
        by_id = {item.id: item for item in gallery}
        assert by_id["odd/001.jpg"].label == "odd" and by_id["top.png"].label is None
        assert by_id["top.png"].uri == str(tmp_path / "photos" / "top.png") and by_id["top.png"].size == 3
        assert gallery.ids == sorted(by_id)
        assert [gallery.ids[row] for row in gallery.where("label = 'odd'")] == [f"odd/00{row}.jpg" for row in (1, 3, 5)]
    assert galleries(tmp_path).verify("g").problems == ()


def test_copies_are_encoded_once(tmp_path: Path) -> None:
    files = {f"{row:04}.jpg": b"image %d" % (row % 5) for row in range(SEGMENT_ROWS + 20)}
    write_files(tmp_path / "photos", files)
    encoder = FakeImages()
    built = build(tmp_path / "photos", tmp_path, encoder)
    assert sorted(encoder.seen) == [b"image %d" % row for row in range(5)] and built.encoded == 5
    check_vectors(built.opened, files)


def test_the_digest_does_not_depend_on_the_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_files(tmp_path / name / "photos", some_files(4), age=len(name))
    first, second = (build(tmp_path / name / "photos", tmp_path / name) for name in ("one", "two"))
    assert first.opened.digest == second.opened.digest
    write_files(tmp_path / "two" / "photos", {"odd/001.jpg": b"other"})
    assert build(tmp_path / "two" / "photos", tmp_path / "two").opened.digest != first.opened.digest


def test_a_second_build_encodes_new_content_alone(tmp_path: Path) -> None:
    write_files(tmp_path / "photos", some_files(6))
    first = build(tmp_path / "photos", tmp_path)
    again = build(tmp_path / "photos", tmp_path)
    assert (again.encoded, again.opened.version) == (0, first.opened.version)
    write_files(tmp_path / "photos", {"new.jpg": b"new"})
    encoder = FakeImages()
    check_vectors(build(tmp_path / "photos", tmp_path, encoder).opened, {**some_files(6), "new.jpg": b"new"})
    assert encoder.seen == [b"new"]
    other = FakeImages(model="another")
    assert build(tmp_path / "photos", tmp_path, other).encoded == 7 == len(other.seen)
    assert build(tmp_path / "photos", tmp_path, resume=False).encoded == 7


def test_unreadable_files_are_listed_with_reasons(tmp_path: Path) -> None:
    whole = random_png(1)
    write_files(tmp_path / "photos", {"a.png": whole, "cut.png": whole[: len(whole) // 2], "empty.jpg": b""})
    write_files(tmp_path / "photos", {"huge.jpg": jpeg_declaring(40_000, 40_000)})
    opened = build(tmp_path / "photos", tmp_path, FakeImages(pictures=True)).opened
    assert [item.id for item in opened] == ["a.png"]
    reasons = {reject.id: reject.reason for reject in opened.rejects()}
    assert sorted(reasons) == ["cut.png", "empty.jpg", "huge.jpg"]
    assert (
        "truncated" in reasons["cut.png"]
        and reasons["empty.jpg"] == "0 bytes"
        and "too many pixels" in reasons["huge.jpg"]
    )
    with pytest.raises(InputRefused, match="2 bad rows"):
        build(tmp_path / "photos", tmp_path, FakeImages(pictures=True), name="h", max_bad_rows=_one_bad_row())


def _one_bad_row() -> Any:
    from asif.building import Tolerance

    return Tolerance(number=1)


def test_names_that_are_not_utf8_and_links_in_circles(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write_files(folder, {"a.jpg": b"one"})
    try:
        write_files(folder, {os.fsdecode(b"caf\xe9.jpg"): b"two"})
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    (folder / "loop").symlink_to(folder)
    (folder / "b.jpg").symlink_to(folder / "c.jpg")
    (folder / "c.jpg").symlink_to(folder / "b.jpg")
    opened = build(folder, tmp_path).opened
    check_vectors(opened, {"a.jpg": b"one", "caf%E9.jpg": b"two"})
    from asif.pairs.location import parse_place

    uri = next(item.uri for item in Gallery("g", home=tmp_path) if item.id == "caf%E9.jpg")  # type: ignore[attr-defined]
    assert uri.startswith("file://") and Path(str(parse_place(uri))).read_bytes() == b"two"


def test_an_empty_folder_and_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputRefused, match="holds no file that is known here"):
        build(tmp_path / "photos", tmp_path)
    write_files(tmp_path / "photos", {"notes.doc": b"x"})
    with pytest.raises(InputRefused, match=r"\.doc: 1"):
        build(tmp_path / "photos", tmp_path)
    assert not (tmp_path / "galleries").exists()


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from asif.building.gallery import prepare

    write_files(tmp_path / "photos", {"a.jpg": b"one", "b.jpg": b"two"})
    read, changes = prepare.read_image_bytes, [b"longer", b"longest", b"at last"]

    def change(path: Any) -> bytes:
        content = read(path)
        if Path(str(path)).name == "a.jpg" and changes:
            (tmp_path / "photos" / "a.jpg").write_bytes(changes.pop(0))
        return content

    monkeypatch.setattr(prepare, "read_image_bytes", change)
    opened = build(tmp_path / "photos", tmp_path).opened
    assert [item.id for item in opened] == ["b.jpg"]
    assert opened.rejects()[0].reason == "a file that changes while it is read"
    changes.append(b"only once")
    check_vectors(build(tmp_path / "photos", tmp_path).opened, {"a.jpg": b"only once", "b.jpg": b"two"})


def test_a_table_with_captions_labels_and_rows(tmp_path: Path) -> None:
    images = [b"one", b"two", b"three"]
    path = write_parquet(tmp_path / "p.parquet", images, ["a dog", None, " "], id=["x", "y", "z"], label=[1, None, 3])
    opened = build(path, tmp_path).opened
    check_vectors(opened, {"x": b"one", "y": b"two", "z": b"three"})
    found = {item.id: item for item in opened}
    assert [found[name].captions for name in "xyz"] == [("a dog",), (), ()]
    assert [found[name].label for name in "xyz"] == ["1", None, "3"]  # type: ignore[attr-defined]
    assert found["y"].uri == f"{path}#1"  # type: ignore[attr-defined]


def test_where_and_limit(tmp_path: Path) -> None:
    write_files(tmp_path / "photos", some_files(8))
    kept = build(tmp_path / "photos", tmp_path, where="label = 'odd'", limit=6).opened
    assert [item.id for item in kept] == ["odd/001.jpg", "odd/003.jpg"]  # 4 even files come first
    assert kept.manifest.rows_in == 2
    with pytest.raises(UsageError, match="'captions' is no field"):
        build(tmp_path / "photos", tmp_path, where="captions = 'x'")


def test_texts(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("\ufeffa dog\n\na cat\na dog\n", encoding="utf-8")
    encoder = FakeTexts()
    built = build(tmp_path / "t.txt", tmp_path, encoder, side="text")
    assert sorted(encoder.seen) == ["a cat", "a dog"] and built.opened.count == 2
    for item, vector in zip(built.opened, np.concatenate(built.opened.blocks("text")), strict=True):
        expected = draw_vector(item.captions[0].encode(), "text")
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-3)
    table = pa.table({"id": ["x", "y"], "text": [["one", "two"], ["three"]], "image": [b"a", b"b"]})
    pq.write_table(table, tmp_path / "t.parquet")
    opened = build(tmp_path / "t.parquet", tmp_path, side="text", name="h").opened
    assert [(item.id, item.captions) for item in opened] == [("x#0", ("one",)), ("x#1", ("two",)), ("y", ("three",))]


def test_precomputed_vectors(tmp_path: Path) -> None:
    from asif.encoders.precomputed import PrecomputedEncoder

    vectors = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]], np.float32)
    pq.write_table(pa.table({"id": ["a", "b", "c"], "image_embedding": list(vectors)}), tmp_path / "v.parquet")
    opened = build(tmp_path / "v.parquet", tmp_path, PrecomputedEncoder("image", 2), dtype="float32").opened
    np.testing.assert_allclose(np.concatenate(opened.blocks("image")), [[0.6, 0.8], [1, 0]], rtol=1e-6)
    assert [reject.id for reject in opened.rejects()] == ["b"]


def test_thumbnails(tmp_path: Path) -> None:
    import io

    from PIL import Image

    pictures = {f"{seed}.png": random_png(seed, 300, 400) for seed in range(3)}
    write_files(tmp_path / "photos", pictures)
    build(tmp_path / "photos", tmp_path, thumbnails=True)
    with Gallery("g", home=tmp_path) as gallery:
        for row in range(3):
            image = Image.open(io.BytesIO(gallery.thumbnail(row) or b""))
            assert (image.format, image.size) == ("WEBP", (128, 96))
    assert galleries(tmp_path).verify("g").problems == ()
    build(tmp_path / "photos", tmp_path, name="h")
    assert Gallery("h", home=tmp_path).thumbnail(0) is None


def test_bad_vectors_are_rejected(tmp_path: Path) -> None:
    write_files(tmp_path / "photos", {"a.jpg": b"one", "b.jpg": b"two"})
    opened = build(tmp_path / "photos", tmp_path, FakeImages(odd={b"two": [float("nan")] * 6})).opened
    assert {reject.id: reject.reason for reject in opened.rejects()} == {"b.jpg": "image embedding is not finite"}
    assert sorted(stored_vectors(opened)) == ["a.jpg"]


def test_a_build_resumes(tmp_path: Path) -> None:
    files = {f"{row:04}.jpg": b"image %d" % row for row in range(SEGMENT_ROWS + 30)}
    write_files(tmp_path / "photos", files)

    class Failing(FakeImages):
        def prepare(self, source: Any) -> bytes:
            if source == b"image %d" % (SEGMENT_ROWS + 20):
                raise MemoryError
            return super().prepare(source)

    with pytest.raises(MemoryError):
        build(tmp_path / "photos", tmp_path, Failing())
    encoder = FakeImages()
    built = build(tmp_path / "photos", tmp_path, encoder)
    assert (built.resumed_at, len(encoder.seen)) == (SEGMENT_ROWS, 30)
    check_vectors(built.opened, files)


def test_older_versions_of_asif_refuse_a_gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from asif.anchorset import Store
    from asif.anchorset.format import manifest
    from asif.errors import UnknownFormat

    write_files(tmp_path / "photos", some_files(2))
    build(tmp_path / "photos", tmp_path)
    with pytest.raises(UsageError, match="of the kind gallery"):
        Store(tmp_path).open(str(tmp_path / "galleries" / "g"))
    monkeypatch.setattr(manifest, "_KNOWN_FEATURES", ("deletions", "pieces"))
    with pytest.raises(UnknownFormat, match="gallery"):
        galleries(tmp_path).open("g")
    assert GALLERY.folder == "galleries" and issubclass(BadImage, InputRefused)
