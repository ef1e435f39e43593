"""The search for many byte strings against one search for each."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from asif.anchorset.receipts.multi_search import ByteMatcher


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=12), st.binary(max_size=60))
def test_needles_are_found_as_by_looking_for_each(needles: list[bytes], hay: bytes) -> None:
    with patch("asif.anchorset.receipts.multi_search._CHUNK_BYTES", 16):
        assert ByteMatcher(needles).find_in(hay) == {one for one in needles if one in hay}
        joined = hay.join(needles)
        assert ByteMatcher(needles).find_in(joined) == {one for one in needles if one in joined}
