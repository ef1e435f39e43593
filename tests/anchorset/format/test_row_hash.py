"""Canonical records and the choice among duplicates, compared with plain definitions."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from asif.anchorset.format.row_hash import hash_records, parse_record, resolve_duplicates, serialize_record
from asif.pairs.pair import PairRecord
from asif.vectors import canonical_json


@settings(max_examples=examples(200), deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), min_size=1, max_size=10),
    seed=st.randoms(use_true_random=False),
    dedup=st.sampled_from(["exact", "keep"]),
)
def test_resolving_duplicates_matches_the_definition_in_any_order(rows, seed, dedup) -> None:  # type: ignore[no-untyped-def]
    """Compare with the rule written out: per id the smallest row hash, per content the smallest id."""

    def chosen(rows: list[tuple[str, int]]) -> list[tuple[str, int]]:
        records = [PairRecord(name, (str(content),), "") for name, content in rows]
        contents = np.zeros((len(rows), 32), np.uint8)
        contents[:, 9] = [content for _, content in rows]
        found = resolve_duplicates([name.encode() for name, _ in rows], hash_records(records), contents, dedup)
        assert sorted([*found.kept.tolist(), *found.dropped]) == list(range(len(rows)))
        return [rows[row] for row in found.kept]

    def key(row: tuple[str, int]) -> bytes:
        return hash_records([PairRecord(row[0], (str(row[1]),), "")]).tobytes()

    by_id = {name: min((row for row in rows if row[0] == name), key=key) for name, _ in rows}
    expected = sorted(by_id.values())
    if dedup == "exact":
        expected = [row for row in expected if row[0] == min(name for name, content in expected if content == row[1])]
    shuffled = seed.sample(rows, len(rows))
    assert chosen(rows) == expected == chosen(shuffled)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


MAYBE = st.none() | TEXT


@given(st.builds(PairRecord, TEXT, st.lists(TEXT, max_size=3).map(tuple), TEXT, MAYBE, MAYBE, MAYBE))
def test_a_record_line_is_canonical_json(record: PairRecord) -> None:
    assert serialize_record(record) == canonical_json({**dataclasses.asdict(record), "captions": list(record.captions)})
    assert parse_record(json.loads(serialize_record(record))) == record
