"""Good files of pairs to be damaged, how they are refused, and which of their rows are."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from asif.errors import InputRefused
from asif.pairs import Pair, Reject, open_pairs

RNG = random.Random(0)

DATA = [RNG.randbytes(400) for _ in range(30)]


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


def refusal(path: Path) -> tuple[int, InputRefused]:
    """Read until refused; return the number of items that came before."""
    items: list[Pair | Reject] = []
    with pytest.raises(InputRefused) as caught:
        items.extend(open_pairs(path).read())
    assert str(path) in caught.value.came and caught.value.exit_code == 3
    assert caught.value.expected and caught.value.fix
    return len(items), caught.value


def split(path: Path) -> tuple[list[int], dict[int, str]]:
    """Return the rows kept and the reasons of the others, having checked that they add up."""
    source = open_pairs(path)
    items = list(source.read())
    assert [item.row for item in items] == list(range(source.rows))
    kept = [item.row for item in items if isinstance(item, Pair)]
    reasons = {item.row: item.reason for item in items if isinstance(item, Reject)}
    assert len(kept) + len(reasons) == source.rows
    return kept, reasons
