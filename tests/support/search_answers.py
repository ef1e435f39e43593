"""Answers of a search that never ran: two queries over three items, with the pairs behind each score."""

from __future__ import annotations

from typing import Any

import numpy as np

from asif.anchorset import AnchorsIdentity
from asif.engine.search.query import Query
from asif.engine.search.results import EXPECTED_BY_CHANCE, SearchAnswer, SearchEvidence, SearchResult
from asif.explain import Contributions
from asif.pairs import PairRecord
from asif.pairs.item import ItemRecord

GALLERY = AnchorsIdentity("photos", "000003-0123456789ab", "0123456789abcdef" * 4)
ANCHORS = AnchorsIdentity("coco", "000012-fedcba987654", "fedcba9876543210" * 4)


def make_item(name: str = "a/dog.jpg", **fields: Any) -> ItemRecord:
    given = {"captions": (), "image_sha256": "00", "uri": f"/home/me/{name}"} | fields
    return ItemRecord(name, **given)


def make_pair(name: str = "p1", **fields: Any) -> PairRecord:
    return PairRecord(name, **({"captions": (f"caption of {name}", "another"), "image_sha256": "00"} | fields))


def make_evidence(
    values: list[float], remainder: float = 0.0, others: int = 0, parts: tuple[float, ...] = (), hubness: float = 0.0
) -> SearchEvidence:
    score = sum(values) + remainder
    found = Contributions(np.arange(len(values)), np.array(values, np.float32), remainder, others, score)
    records = tuple(make_pair(f"p{at}") for at in range(len(values)))
    return SearchEvidence(found, records, parts or (score,), hubness)


def make_result(
    row: int, score: float, chance: float, evidence: SearchEvidence | None = None, **item: Any
) -> SearchResult:
    return SearchResult(row, make_item(f"a/{row}.jpg", **item), score, chance, evidence)


def make_answer(*results: SearchResult, query: Query | None = None, **fields: Any) -> SearchAnswer:
    searched = fields.pop("searched", 1000)
    relevant = sum(each.chance * searched < EXPECTED_BY_CHANCE for each in results)
    given = {"gallery": GALLERY, "anchors": ANCHORS, "space": "shared", "relevant": relevant} | fields
    return SearchAnswer(query or Query.of(texts=["a dog"]), results, searched=searched, **given)
