"""Places of labels in a plot, so that none overlaps another: plain geometry."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

LabelBox = tuple[float, float, float, float]
"""Left, bottom, right, top."""

_HEIGHT_STEPS = (
    0.0,
    0.5,
    -0.5,
    1.0,
    -1.0,
    1.5,
    -1.5,
    2.0,
    -2.0,
    3.0,
    -3.0,
)
"""Heights of a label by which it is moved up or down, in the order in which they are tried."""


def spread_heights(wanted: Sequence[float], apart: float) -> list[float]:
    """Move ascending heights so that none are closer than `apart`, each group about its mean, within 0 and 1 if it can.

    >>> [round(height, 2) for height in spread_heights([0.1, 0.5, 0.52], 0.1)]
    [0.1, 0.46, 0.56]
    >>> [round(height, 2) for height in spread_heights([0.9, 0.98, 1.0], 0.1)]
    [0.8, 0.9, 1.0]
    """
    groups: list[list[float]] = []
    for height in wanted:
        groups.append([height])
        while len(groups) > 1 and fmean(groups[-1]) - fmean(groups[-2]) < apart * sum(map(len, groups[-2:])) / 2:
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = [fmean(group) + apart * (place - (len(group) - 1) / 2) for group in groups for place in range(len(group))]
    below = [min(height, 1 - apart * (len(moved) - 1 - place)) for place, height in enumerate(moved)]
    return [max(height, apart * place) for place, height in enumerate(below)]


def place_labels(
    points: Sequence[tuple[float, float]], widths: Sequence[float], height: float, frame: LabelBox
) -> list[LabelBox]:
    """Find room for a label next to each point: right or left of it, then further up or down, within the frame.

    Without room it is placed on the right. All lengths are in the same units; the highest point comes first.

    >>> place_labels([(0, 0), (30, 0)], [10, 10], 8, (-50, -50, 50, 50))
    [(8, -4.0, 18, 4.0), (38, -4.0, 48, 4.0)]
    >>> place_labels([(45, 0)], [10], 8, (-50, -50, 50, 50))
    [(27, -4.0, 37, 4.0)]
    """
    taken: list[LabelBox] = [(x - height / 2, y - height / 2, x + height / 2, y + height / 2) for x, y in points]
    found: dict[int, LabelBox] = {}
    for at in sorted(range(len(points)), key=lambda at: -points[at][1]):
        x, y = points[at]
        bottoms = [y - height / 2 + step * height for step in _HEIGHT_STEPS]
        lefts = (x + height, x - height - widths[at])
        tried = [(left, bottom, left + widths[at], bottom + height) for bottom in bottoms for left in lefts]
        free = (
            box for box in tried if _is_inside(box, frame) and not any(boxes_overlap(box, other) for other in taken)
        )
        found[at] = next(free, tried[0])
        taken.append(found[at])
    return [found[at] for at in range(len(points))]


def _is_inside(box: LabelBox, frame: LabelBox) -> bool:
    """Return whether a box is within a frame."""
    return frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3]


def boxes_overlap(one: LabelBox, other: LabelBox) -> bool:
    """Return whether two boxes overlap.

    >>> boxes_overlap((0, 0, 2, 2), (1, 1, 3, 3)), boxes_overlap((0, 0, 1, 1), (1, 0, 2, 1))
    (True, False)
    """
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
