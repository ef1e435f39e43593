"""Labels of a plot lie apart from each other and inside the frame."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from asif.report.plot_labels import boxes_overlap, place_labels, spread_heights


@given(st.lists(st.floats(0, 1), max_size=15).map(sorted))
def test_heights_are_apart_in_order_and_inside(wanted: list[float]) -> None:
    moved = spread_heights(wanted, 0.05)
    assert len(moved) == len(wanted)
    assert all(after - before >= 0.05 - 1e-9 for before, after in pairwise(moved))
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in moved)


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 500)), max_size=3))
def test_names_lie_on_no_other_name_where_there_is_room(points: list[tuple[float, float]]) -> None:
    # of 11 heights on each side two other names take at most 8, and two markers as many, but on one side only
    frame = (-500.0, -500.0, 1500.0, 1000.0)
    boxes = place_labels(points, [60.0] * len(points), 12.0, frame)
    assert not any(boxes_overlap(one, other) for at, one in enumerate(boxes) for other in boxes[:at])
