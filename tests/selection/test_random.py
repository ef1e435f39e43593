"""Random selection: every row equally often, more rows with the same seed."""

from __future__ import annotations

import numpy as np

from asif import selection


def test_random_takes_every_row_equally_often() -> None:
    times = np.zeros(10)
    for seed in range(2_000):
        chosen = selection.choose_at_random(10, 3, seed)
        assert len(set(chosen.tolist())) == 3
        times[chosen] += 1
    assert abs(times - 600).max() < 5 * np.sqrt(2_000 * 0.3 * 0.7)
    assert set(selection.choose_at_random(10, 3, 7)) < set(selection.choose_at_random(10, 8, 7))
