"""Represented items by block: what representing all of them gives; kept, shared by versions, continued after a kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.anchorset_sets import short_blocks
from support.engine_sets import fake_image, make_set
from support.galleries import galleries, update
from support.paths import SUPPORT
from support.represented_items import ALIGNERS, EditedGallery, as_arrays, represent_in_one_piece, take_task

from asif.anchorset import AnchorSet, Gallery, Store
from asif.engine import purge_pairs
from asif.engine.search import block_rows
from asif.engine.search.block_rows import represent_items, represent_vectors
from asif.engine.search.gallery_rows import GalleryRows
from asif.engine.snapshots import FittedTask
from asif.errors import AsifError, Conflict, IntegrityError
from asif.kernels import compute_similarity, select_topk, topk_similarity
from asif.vectors import join_rows

CHANGES = ["add", "remove", "change", "purge", "anchors", "gc"]


@pytest.fixture
def edited(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EditedGallery:
    """Return a gallery of 40 items in blocks of 8."""
    short_blocks(monkeypatch, 8)
    return EditedGallery.build(home, tmp_path / "photos", 0)


@pytest.fixture
def represented(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of how many vectors are represented, call by call."""
    counts: list[int] = []
    original = block_rows.represent_vectors

    def count(vectors: Any, *rest: Any) -> Any:
        counts.append(len(vectors))
        return original(vectors, *rest)

    monkeypatch.setattr(block_rows, "represent_vectors", count)
    return counts


def list_fits(home: Path) -> list[Path]:
    return sorted((home / "galleries/g/fits").glob("*.safetensors"))


def check_rows(home: Path, task: FittedTask) -> Gallery:
    """Compare the rows of the gallery, and what a search finds, with those of all items in one piece."""
    gallery = Gallery("g", home=home)
    rows, expected = represent_items(gallery, task), represent_in_one_piece(gallery, task)
    found = as_arrays(rows)
    assert [part.tobytes() for part in found] == [part.tobytes() for part in expected]
    queries = join_rows(rows)[:2]
    best = GalleryRows(rows).find_best(queries, 7)
    scores = select_topk(compute_similarity(queries, join_rows(rows)), 7)
    assert best.scores.tobytes() == scores.scores.tobytes() and best.indices.tolist() == scores.indices.tolist()
    return gallery


@pytest.mark.parametrize(("aligner", "hubness"), ALIGNERS)
def test_after_edits_it_is_what_representing_everything_gives(
    edited: EditedGallery, aligner: str, hubness: str
) -> None:
    for change in ["", *CHANGES, "change", "remove"]:
        if change:
            edited.edit(change)
        check_rows(edited.home, take_task(edited.home, aligner, hubness))
    assert not galleries(edited.home).verify("g").problems


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(ALIGNERS),
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.sampled_from(CHANGES), st.booleans()), max_size=7),
)
def test_after_any_edits_it_is_what_representing_everything_gives(
    chosen: tuple[str, str], seed: int, edits: list[tuple[str, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        short_blocks(patched, 8)
        edited = EditedGallery.build(Path(folder) / "home", Path(folder) / "photos", seed)
        for change, searched in [("add", True), *edits, ("change", True)]:
            edited.edit(change)
            if searched:
                check_rows(edited.home, take_task(edited.home, *chosen))
        assert not galleries(edited.home).verify("g").problems


def test_only_new_items_are_represented(edited: EditedGallery, represented: list[int]) -> None:
    task = take_task(edited.home, "cca", "none")
    for change, new in (("add", 4), ("change", 7), ("remove", 0), ("remove", 0)):
        represent_items(Gallery("g", home=edited.home), task)
        represented.clear()
        edited.edit(change)
        gallery = Gallery("g", home=edited.home)
        represent_items(gallery, task)
        assert sum(represented) == new < len(gallery), change
    represented.clear()
    represent_items(Gallery("g@1", home=edited.home), task)  # older versions are kept, too
    assert not represented


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list of how many vectors are compared with how many anchors, search by search."""
    sizes: list[tuple[int, int]] = []

    def search(queries: Any, blocks: Any, k: int, **given: Any) -> Any:
        sizes.append((len(queries), sum(map(len, blocks))))
        return topk_similarity(queries, blocks, k, **given)

    for module in ("aligners.relative", "engine.search.block_neighbours"):
        monkeypatch.setattr(f"asif.{module}.topk_similarity", search)
    return sizes


@pytest.mark.parametrize(
    ("aligner", "hubness"), [("asif(k=5)", "none"), ("asif(k=5)", "csls"), ("cca+asif(k=5)", "none")]
)
def test_after_an_edit_of_the_anchors_items_are_compared_with_the_new_ones_alone(
    edited: EditedGallery,
    aligner: str,
    hubness: str,
    searched: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asif.aligners.neighbours.SPARE", 4)
    monkeypatch.setattr("asif.aligners.relative.SPARE", 4)
    monkeypatch.setattr("asif.engine.search.block_neighbours.SPARE", 4)
    home, sets = edited.home, Store(edited.home)
    gallery = Gallery("g", home=home)
    represent_items(gallery, take_task(home, aligner, hubness))
    edited.edit("change")  # most rows of the new blocks are copied, and so are their neighbours
    gallery = Gallery("g", home=home)
    represent_items(gallery, take_task(home, aligner, hubness))
    sizes = [(len(block), 3) for block in gallery.vectors]
    make_set(home, "more", count=3, seed=1).close()
    for added in (3, 0):
        version = (
            sets.put("toy", sets.open("more"), "add") if added else sets.remove("toy", [sets.open("toy").ids(0)[7]])
        )
        task = take_task(home, aligner, hubness)
        represent_vectors(gallery.vectors[0], "image", task)  # makes the query bank
        searched.clear()
        rows = represent_items(gallery, task)
        whole = [size for size in searched if size[1] == version.count]
        assert sum(size[0] for size in whole) < 6  # those that lost too many
        assert [size for size in searched if size not in whole] == (sizes if added else [])
        expected = represent_in_one_piece(gallery, task)
        assert [part.tobytes() for part in as_arrays(rows)] == [part.tobytes() for part in expected]


def test_rows_of_many_places_are_one_part_or_views(edited: EditedGallery) -> None:
    gallery = Gallery("g", home=edited.home)
    for aligner, parts in (("asif(k=5)", 1), ("cca", 5)):
        for _ in range(2):
            rows = represent_items(gallery, take_task(edited.home, aligner, "none"))
            assert len(rows) == parts and sum(map(len, rows)) == 40
    assert not any(block.values.flags.owndata for block in rows)  # type: ignore[union-attr]


def test_a_search_that_was_stopped_is_continued(
    edited: EditedGallery, represented: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, gallery = take_task(edited.home, "cca", "none"), Gallery("g", home=edited.home)
    monkeypatch.setattr(block_rows, "_MANY_ITEMS", 1)
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        represent_items(gallery, task, stop)
    assert seen == [(0, 40), (8, 40), (16, 40), (24, 40)]
    represented.clear()
    check_rows(edited.home, task)
    assert represented == [8, 8]


def test_rows_of_a_block_that_is_gone_are_deleted(edited: EditedGallery) -> None:
    home, task = edited.home, take_task(edited.home, "cca", "none")
    check_rows(home, task)
    edited.edit("change")
    gallery = check_rows(home, task)
    before = list_fits(home)
    blocks = {entry.sha256[:12] for entry in gallery.opened.manifest.blocks}
    assert {path.name[:12] for path in before} > blocks
    galleries(home).gc("g", 1)
    assert {path.name[:12] for path in list_fits(home)} == blocks
    edited.remove(1)
    update(edited.folder, home, fake_image(), purge=True, dtype="float32")
    remaining = Gallery("g", home=home)
    left = {entry.sha256[:12] for entry in remaining.opened.manifest.blocks}
    assert {path.name[:12] for path in list_fits(home)} == blocks & left < blocks
    check_rows(home, task)
    assert not galleries(home).verify("g").problems


def test_a_stray_file_is_a_problem(edited: EditedGallery) -> None:
    check_rows(edited.home, take_task(edited.home, "cca", "none"))
    path = list_fits(edited.home)[0]
    shutil.copy(path, path.with_name("0" * 12 + path.name[12:]))
    whats = [problem.what for problem in galleries(edited.home).verify("g").problems]
    assert whats[0] == "a stray fit: it belongs to no version" and "holds the fit" in whats[1] and len(whats) == 2


def test_the_rows_of_few_anchors_and_aligners_are_kept(edited: EditedGallery) -> None:
    for k in range(2, 9):
        check_rows(edited.home, take_task(edited.home, f"asif(k={k})", "none"))
    assert len(list_fits(edited.home)) == 4 * 5 + 2 * 5  # and the neighbours of the last two


def test_nothing_of_purged_anchors_is_left(edited: EditedGallery, monkeypatch: pytest.MonkeyPatch) -> None:
    home, task = edited.home, take_task(edited.home, "asif(k=5)", "none")
    check_rows(home, task)
    gallery, sets = Gallery("g", home=home), Store(home)
    original = AnchorSet.write_fit_of

    def purge_first(opened: AnchorSet, *given: Any) -> None:
        if opened.name == "g" and sets.open("toy").count == 60:
            purge_pairs("toy", [sets.open("toy").ids(0)[0]], home=home)
            assert not list_fits(home)
        original(opened, *given)

    monkeypatch.setattr(AnchorSet, "write_fit_of", purge_first)
    for path in list_fits(home)[:4]:
        path.unlink()
    represent_items(gallery, task)  # over anchors that are purged while it runs
    assert not list_fits(home)


def test_a_damaged_file_is_made_again(
    edited: EditedGallery, represented: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    task = take_task(edited.home, "cca", "none")
    check_rows(edited.home, task)
    path = list_fits(edited.home)[1]
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    represented.clear()
    check_rows(edited.home, task)
    assert represented[0] == 8 and "represented items are not used" in caplog.text
    assert path.read_bytes() == content


def test_rows_of_a_damaged_block_are_never_made(edited: EditedGallery) -> None:
    block = sorted((edited.home / "galleries/g/blocks").glob("*"))[2]
    content = bytearray(block.read_bytes())
    content[-300] ^= 1
    block.write_bytes(content)
    with pytest.raises(IntegrityError, match="has sha256"):
        represent_items(Gallery("g", home=edited.home), take_task(edited.home, "cca", "none"))


@pytest.mark.parametrize("error", [AsifError("a store that is read-only", "x", "y"), OSError("a disk")])
def test_what_cannot_be_kept_is_represented_nevertheless(
    edited: EditedGallery, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = take_task(edited.home, "cca+asif", "none")

    def refuse(*given: Any) -> None:
        raise error

    monkeypatch.setattr(AnchorSet, "write_fit_of", refuse)
    check_rows(edited.home, task)
    assert [record.message for record in caplog.records] == [
        f"represented items are not kept: {str(error).splitlines()[0]}"
    ]
    assert not list_fits(edited.home)


def test_a_disk_without_room_for_all_is_a_warning(
    edited: EditedGallery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = represent_items(Gallery("g", home=edited.home), take_task(edited.home, "cca", "none"))
    size = sum(block.values.nbytes for block in rows)  # type: ignore[union-attr]
    shutil.rmtree(edited.home / "galleries/g/fits")
    for free, kept in ((size // 2, 0), (2 * size, 5)):
        monkeypatch.setattr("asif.anchorset.format.atomic_io._free_bytes", lambda path, free=free: free)
        caplog.clear()
        check_rows(edited.home, take_task(edited.home, "cca", "none"))
        assert len(list_fits(edited.home)) == kept
        assert ("keeping represented items will take about" in caplog.text) == (not kept)


def test_a_version_that_was_deleted_is_a_conflict(edited: EditedGallery) -> None:
    gallery, task = Gallery("g", home=edited.home), take_task(edited.home, "cca", "none")
    edited.edit("change")
    galleries(edited.home).gc("g", 1)
    with pytest.raises(Conflict, match="was deleted while it was read"):
        represent_items(gallery, task)
    check_rows(edited.home, task)


@pytest.mark.slow
def test_a_killed_search_is_continued_by_the_next_one(edited: EditedGallery, represented: list[int]) -> None:
    home = edited.home
    for _ in range(4):
        known = len(list_fits(home))
        driver = [sys.executable, str(SUPPORT / "represent_driver.py"), str(home)]
        child = subprocess.Popen(driver, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        deadline = time.monotonic() + 60
        while len(list_fits(home)) == known and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    kept = len(list_fits(home))
    assert kept >= 3
    check_rows(home, take_task(home, "cca", "none"))
    assert len(represented) == 5 - kept
    galleries(home).gc("g", 1)
    assert not galleries(home).verify("g").problems
    assert not list((home / "galleries/g/fits").glob(".tmp-*"))
