"""Anchor sets written by earlier versions of asif stay readable, value for value (P9).

Written once by `python tests/test_anchorset_golden.py`; never written again for a released format.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from anchorset_sets import DIMS, build, dense, pairs, vectors

from asif.anchorset import Store, verify
from asif.anchorset.blocks import numpy_dtype
from asif.pairs.pair import Reject

GOLDEN = Path(__file__).parent / "golden" / "anchorset-format1"
DIGESTS = {
    "float16": "8b1e7141c2a89d69562397a5c609e0c2f1a30ae64dd5cecdca7cabb3ac140653",
    "float32": "17e0a83545f5027be8097758f5417a57e6f5eef40e58aede7079b39b8c14182d",
    "bfloat16": "bee91a7860b2754f812a00ad11b0fff2b4c7ea5b035dfc05df15b50465a528ec",
}
ITEMS = [*pairs(5), Reject(5, "x-1", "image is null")]


@pytest.mark.parametrize("dtype", DIGESTS)
def test_format_1_stays_readable(tmp_path: Path, dtype: str) -> None:
    folder = GOLDEN / "anchors" / f"golden-{dtype}"
    opened = Store(tmp_path).open(f"{folder}@1")
    records = sorted(pairs(5), key=lambda pair: pair.id)
    assert opened.digest == DIGESTS[dtype]
    assert opened.records(range(5)) == records
    assert opened.manifest.created == "2025-01-01T00:00:00Z"
    for side in DIMS:
        stored = vectors(records, side).astype(numpy_dtype(dtype)).astype(np.float32)
        np.testing.assert_array_equal(dense(opened, side), stored)
        np.testing.assert_allclose(opened.mean(side), stored.mean(axis=0, dtype=np.float64), rtol=0, atol=1e-15)
    assert verify(folder).problems == ()


@pytest.mark.parametrize("dtype", DIGESTS)
def test_the_same_pairs_give_the_same_digest_and_blocks_today(tmp_path: Path, dtype: str) -> None:
    opened = build(tmp_path, ITEMS, name=f"golden-{dtype}", dtype=dtype)
    golden = Store(GOLDEN).open(f"golden-{dtype}")
    assert opened.digest == golden.digest
    assert [block.sha256 for block in opened.manifest.blocks] == [block.sha256 for block in golden.manifest.blocks]


def write_golden() -> None:
    from asif.anchorset import publish

    publish.utc_now = lambda: "2025-01-01T00:00:00Z"
    for dtype in DIGESTS:
        opened = build(GOLDEN, ITEMS, name=f"golden-{dtype}", dtype=dtype)
        (GOLDEN / "anchors" / opened.name / ".lock").unlink()
        sys.stdout.write(f"{dtype} {opened.digest}\n")


if __name__ == "__main__":
    write_golden()
