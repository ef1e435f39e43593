"""Sets of 60 pairs to be edited, and what is compared after an edit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.anchorset_sets import DIMS, build, dense, files, pairs, vectors

from asif.anchorset import AnchorSet
from asif.anchorset.format.row_hash import hash_record
from asif.kernels import topk_similarity
from asif.pairs.pair import PairRecord
from asif.pairs.records import read_records

EVERY = sorted(pairs(60), key=lambda pair: pair.id)
IDS = [pair.id for pair in EVERY]


def publish(root: Path, records: list[PairRecord] = EVERY, **how: str) -> AnchorSet:
    return build(root, records, segment=13, **how)  # type: ignore[arg-type]


def assert_same_set(found: AnchorSet, expected: AnchorSet) -> None:
    """Compare all that a reader sees."""
    assert (found.digest, found.count) == (expected.digest, expected.count)
    assert found.records(range(found.count)) == expected.records(range(expected.count))
    for side in DIMS:
        np.testing.assert_array_equal(dense(found, side), dense(expected, side))
        np.testing.assert_array_equal(found.mean(side), expected.mean(side))
    queries = vectors(pairs(4, start=900), "image")
    for engine in ("auto", "reference"):
        one, two = (topk_similarity(queries, each.blocks("image"), 5, engine=engine) for each in (found, expected))
        np.testing.assert_array_equal(one.indices, two.indices)
        np.testing.assert_array_equal(one.scores, two.scores)


def files_with_pair(home: Path, record: PairRecord) -> list[Path]:
    """Return the files that have a pair: its row hash or its captions, compressed in tables or not."""
    found = []
    for path in files(home):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += repr(read_records(path)).encode()
        if hash_record(record) in content or record.id.encode() in content or record.captions[0].encode() in content:
            found.append(path)
    return found
