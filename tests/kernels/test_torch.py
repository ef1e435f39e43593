"""The engine torch: sort keys in which scores and indices are packed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.kernels_cases import assert_same
from support.late import late

from asif.kernels import reference, select_topk

if TYPE_CHECKING:
    import torch

    from asif.kernels import torch_
else:
    torch, torch_ = late("torch", "asif.kernels.torch_")


EXTREME = [3.4e38, 1.0, 2.0**-126, 1e-45, 0.0, -1e-45, -(2.0**-126), -0.5, -1.0, -3.4e38]


def test_sort_keys_order_and_come_back() -> None:
    scores = torch.tensor([EXTREME, EXTREME[::-1]], dtype=torch.float32)
    for first in (0, 2**31 - 5, 2**31 + 7, 2**32 - len(EXTREME)):
        keys = torch_.pack_keys(scores, first)
        assert (keys[0, :-1] > keys[0, 1:]).all() and (keys[1, :-1] < keys[1, 1:]).all()
        back = torch_.unpack_topk(keys)
        np.testing.assert_array_equal(back.scores.view(np.int32), scores.numpy().view(np.int32))
        np.testing.assert_array_equal(back.indices, np.tile(np.arange(first, first + len(EXTREME)), (2, 1)))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_sort_keys_are_the_tie_rule(values: list[float]) -> None:
    scores = torch.tensor([values], dtype=torch.float32)
    found = torch_.unpack_topk(torch_.pack_keys(scores, 0).sort(dim=1, descending=True).values)
    assert_same(found, reference.select_topk(scores.numpy() + np.float32(0), len(values)))  # -0.0 comes back as 0.0
    assert_same(found, select_topk(scores.numpy() + np.float32(0), len(values) + 3))
