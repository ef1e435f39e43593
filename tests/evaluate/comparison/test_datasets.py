"""Data sets of a comparison: the queries on which two methods differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from asif.engine import Engine
from asif.evaluate.comparison.datasets import load_retrieval_set
from asif.pairs import open_captioned


def test_queries_are_named_by_who_wins_them(toys: Path, captioned: Path) -> None:
    engine = Engine("toy")
    data = load_retrieval_set(engine, open_captioned(captioned), "some")
    first, second = np.zeros(36, np.int64), np.zeros(36, np.int64)
    second[3], first[20] = 9, 30
    shown = data.find_differences(first, second, 10).queries
    assert [(each.side, each.first_rank, each.second_rank) for each in shown] == [
        ("image", 1, 10),
        ("text", 31, 1),
    ]
    assert shown[1].text == data.captions[20 - 12]
