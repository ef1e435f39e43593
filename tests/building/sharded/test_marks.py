"""Marks of rows, and the row that is to blame for deaths."""

from __future__ import annotations

from pathlib import Path

import pytest

from asif.building.sharded.marks import Mark, Marker, Suspicion
from asif.errors import AsifError


def test_last_mark_is_read_from_a_file_that_nobody_closed(tmp_path: Path) -> None:
    assert Mark.read(tmp_path / "mark") is None
    marker = Marker(tmp_path / "mark")
    assert Mark.read(tmp_path / "mark") is None
    marker.write(Mark(0, 10))
    marker.write(Mark(512, 513, row_by_row=True))
    assert Mark.read(tmp_path / "mark") == Mark(512, 513, row_by_row=True)
    with marker:
        pass


def test_row_is_blamed_for_three_deaths_alone() -> None:
    suspicion, row = Suspicion(), Mark(7, 8, row_by_row=True)
    assert suspicion.note_death(Mark(0, 20), "shard") is None
    assert suspicion.window == Mark(0, 20)
    assert suspicion.note_death(row, "shard") is None
    assert suspicion.note_death(row, "shard") is None
    assert suspicion.note_death(row, "shard") == row
    assert suspicion.window is None  # the next death is one of its own


def test_deaths_at_different_rows_blame_none() -> None:
    suspicion = Suspicion()
    suspicion.note_death(Mark(0, 20), "shard")
    for row in range(10):
        assert suspicion.note_death(Mark(row, row + 1, row_by_row=True), "shard") is None


def test_row_that_was_passed_is_not_to_blame() -> None:
    suspicion, row, later = Suspicion(), Mark(7, 8, row_by_row=True), Mark(9, 10, row_by_row=True)
    for mark in (Mark(0, 20), row, row, later, row, row):
        assert suspicion.note_death(mark, "shard") is None
    assert suspicion.note_death(row, "shard") == row


def test_windows_grow_and_deaths_without_a_row_end_the_build() -> None:
    suspicion = Suspicion()
    suspicion.note_death(Mark(10, 20), "shard")
    suspicion.note_death(Mark(15, 40), "shard")
    assert suspicion.window == Mark(10, 40)
    for _ in range(17):
        suspicion.note_death(None, "shard")
    with pytest.raises(AsifError, match="died 20 times in the shard"):
        suspicion.note_death(None, "shard")
