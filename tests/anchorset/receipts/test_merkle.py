"""The Merkle tree against its definition; proofs that do not fit are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.receipt_cases import hashes, plain_root

from asif.anchorset.receipts.merkle import (
    MerkleTree,
    choose_group_bits,
    contains_hashes,
    fold_proof,
    sort_hashes,
)


@given(st.sets(st.integers(0, 400), max_size=150), st.integers(0, 6))
def test_the_tree_is_the_one_that_is_defined(numbers: set[int], bits: int) -> None:
    tree = MerkleTree(hashes(numbers), bits)
    assert tree.root == plain_root([row.tobytes() for row in np.array(tree.hashes)], bits)
    assert np.concatenate([[0], *(np.frombuffer(tree.read_group(at), np.uint8) for at in range(1 << bits))]).size == (
        1 + 32 * len(numbers)
    )
    assert plain_root(list(map(bytes, tree.hashes.tolist())), bits + 1) != tree.root


def test_hashes_that_end_in_zeros_are_told_apart() -> None:
    rows = np.zeros((3, 32), np.uint8)
    rows[1, 30], rows[2, 31] = 1, 1
    found = sort_hashes([rows, rows[:1]])
    assert len(found) == 3
    assert MerkleTree(found, 0).read_group(0) == rows[[0, 2, 1]].tobytes()
    assert contains_hashes(found, sort_hashes([rows[2:]])).all() and not contains_hashes(found[:2], found[2:]).any()
    assert not contains_hashes(found[:0], found).any()


@pytest.mark.parametrize(("count", "bits"), [(1, 0), (32, 0), (33, 1), (64, 1), (65, 2), (1_600_000, 16)])
def test_groups_have_at_most_32_on_average(count: int, bits: int) -> None:
    assert choose_group_bits(count) == bits


def test_siblings_that_do_not_fit_are_refused() -> None:
    tree = MerkleTree(hashes(set(range(50))), 3)
    leaves, siblings = {2: tree.levels[0][2], 6: tree.levels[0][6]}, tree.find_siblings([2, 6])
    assert fold_proof(leaves, 3, siblings) == tree.levels[-1][0]
    for wrong in (siblings[:-1], [*siblings, siblings[0]]):
        with pytest.raises(ValueError, match="too"):
            fold_proof(leaves, 3, wrong)
    assert fold_proof(leaves, 3, siblings[::-1]) != tree.levels[-1][0]
