"""Deletion lists: which rows of a block are live."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.anchorset_files import reseal
from support.anchorset_sets import files
from support.edited_sets import EVERY, IDS, publish

from asif.anchorset import Store
from asif.anchorset.format.deletion_list import (
    MAX_DELETED_RUNS,
    decode_live_rows,
    encode_deletions,
    find_live_range,
    find_live_slices,
    is_deletion_list,
)
from asif.errors import IntegrityError, UnknownFormat


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_a_deletion_list_says_which_rows_are_there(live: list[bool]) -> None:
    runs = encode_deletions(np.array(live))
    assert decode_live_rows(runs, len(live)).tolist() == live
    assert [row for some in find_live_slices(runs, len(live)) for row in range(len(live))[some]] == np.flatnonzero(
        live
    ).tolist()
    assert is_deletion_list(runs, len(live)) == (any(live) and len(runs) <= 2 * MAX_DELETED_RUNS)


@pytest.mark.parametrize("runs", [(1,), (0, 0), (1, -1), (2, 9), (0, 10), (1, True), (1.0, 1), ("1", 1), (1, 1) * 17])
def test_what_is_no_deletion_list_is_refused(home: Path, runs: tuple[object, ...]) -> None:
    publish(home, EVERY[:10])
    reseal(home / "anchors/toy", lambda m: (m["blocks"][0].update(deleted=runs), m.update(features=["deletions"])))
    with pytest.raises(IntegrityError):
        Store(home).open("toy")


@pytest.mark.parametrize("features", [[], ["deletions", "deletions"], ["deletions", "holograms"]])
def test_deletions_are_a_feature_that_must_be_understood(home: Path, features: list[str]) -> None:
    publish(home)
    Store(home).remove("toy", IDS[3:4])
    assert (
        b'"features":["deletions"]'
        in (home / f"anchors/toy/versions/{Store(home).open('toy').version}.json").read_bytes()
    )
    assert b'"features":[]' in files(home / "anchors/toy/versions")[0].read_bytes()  # readable by older ones still
    reseal(home / "anchors/toy", lambda m: m.update(features=features))
    with pytest.raises(UnknownFormat if "holograms" in features else IntegrityError):
        Store(home).open("toy")


@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
def test_a_live_range_goes_from_the_first_row_to_the_last(live: list[bool]) -> None:
    rows = np.flatnonzero(live)
    assert find_live_range(encode_deletions(np.array(live)), len(live)) == (rows[0], rows[-1] + 1)
