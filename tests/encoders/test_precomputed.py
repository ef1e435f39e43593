"""Sides of precomputed vectors encode nothing."""

from __future__ import annotations

from typing import Any

import pytest

from asif.encoders.precomputed import PrecomputedEncoder
from asif.errors import UsageError
from asif.vectors import Side


def test_precomputed_vectors_have_no_encoder() -> None:
    sides: dict[Side, Any] = {"image": b"...", "text": "a dog"}
    for side, given in sides.items():
        encoder = PrecomputedEncoder(side, 7)
        for refuse in (encoder.forward, encoder.prepare):
            with pytest.raises(
                UsageError, match=f"{side} to encode, with an anchor set of precomputed vectors"
            ) as caught:
                refuse([given])
            assert caught.value.expected.startswith(f"{side} vectors [n, 7]")
        assert encoder.fingerprint.fields == {"library": "precomputed", "side": side, "dim": 7}
