"""How the figures of a comparison are written: shares in per cent, differences in points, costs in three figures."""

from __future__ import annotations

from asif.evaluate.comparison.statistics import ERRORS, Rivals, Standing


def named(standing: Standing) -> str:
    """Write a method with its mean in per cent."""
    return f"{standing.method} {100 * standing.mean:.1f}"


def ranged(standing: Standing) -> str:
    """Write a method with its mean and its lowest and highest over seeds.

    >>> ranged(Standing("cca", {0: 0.25, 1: 0.26})), ranged(Standing("cca", {0: 0.25}))
    ('cca 25.5 (25.0 to 26.0)', 'cca 25.0')
    """
    if standing.low == standing.high:
        return named(standing)
    return f"{named(standing)} ({100 * standing.low:.1f} to {100 * standing.high:.1f})"


def difference(found: Rivals) -> str:
    """Write the difference, trained less training-free, and the error that it is held against, in points."""
    assert found.difference is not None
    assert found.error is not None
    return f"{signed(found.difference)} ± {100 * ERRORS * found.error:.1f}"


def signed(share: float) -> str:
    """Write a difference in points.

    >>> signed(-0.0125), signed(0.0)
    ('-1.2', '+0.0')
    """
    return f"{100 * share:+.1f}"


def amount(value: float | None) -> str:
    """Write an amount in three figures.

    >>> amount(0.0512), amount(21.44), amount(1234.5), amount(None)
    ('0.0512', '21.4', '1,234', '-')
    """
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def times(more: float | None, less: float | None) -> str | None:
    """Write a ratio in two figures; None where there is none.

    >>> times(213.0, 0.5), times(3.0, 2.0), times(1.0, 4.0), times(1.0, 0.0)
    ('430', '1.5', '0.25', None)
    """
    if more is None or not less:
        return None
    return f"{float(f'{more / less:.2g}'):,.15g}"
