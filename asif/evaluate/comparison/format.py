"""How figures of a comparison are written: shares in per cent, differences in points, costs in three figures."""

from __future__ import annotations

from asif.evaluate.comparison.statistics import ERRORS_APART, HeadToHead, Standing


def format_standing(standing: Standing) -> str:
    """Write a method with its mean in per cent."""
    return f"{standing.method} {100 * standing.mean:.1f}"


def format_standing_range(standing: Standing) -> str:
    """Write a method with its mean and its lowest and highest over seeds.

    >>> format_standing_range(Standing("cca", {0: 0.25, 1: 0.26})), format_standing_range(Standing("cca", {0: 0.25}))
    ('cca 25.5 (25.0 to 26.0)', 'cca 25.0')
    """
    if standing.low == standing.high:
        return format_standing(standing)
    return f"{format_standing(standing)} ({100 * standing.low:.1f} to {100 * standing.high:.1f})"


def format_difference(match: HeadToHead) -> str:
    """Write the difference, trained minus training-free, and two errors of it, in points."""
    assert match.difference is not None
    assert match.error is not None
    return f"{format_points(match.difference)} ± {100 * ERRORS_APART * match.error:.1f}"


def format_points(share: float) -> str:
    """Write a difference in points.

    >>> format_points(-0.0125), format_points(0.0)
    ('-1.2', '+0.0')
    """
    return f"{100 * share:+.1f}"


def format_amount(value: float | None) -> str:
    """Write an amount in three figures.

    >>> format_amount(0.0512), format_amount(21.44), format_amount(1234.5), format_amount(None)
    ('0.0512', '21.4', '1,234', '-')
    """
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def format_ratio(more: float | None, less: float | None) -> str | None:
    """Write a ratio in two figures; None if it is not defined.

    >>> format_ratio(213.0, 0.5), format_ratio(3.0, 2.0), format_ratio(1.0, 4.0), format_ratio(1.0, 0.0)
    ('430', '1.5', '0.25', None)
    """
    if more is None or not less:
        return None
    return f"{float(f'{more / less:.2g}'):,.15g}"
