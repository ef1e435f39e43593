"""A set made of chosen rows: the bytes of a build of those pairs, also after a kill; damage is not copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.anchorset_sets import DIMS, build, pairs

from asif import selection
from asif.anchorset import AnchorSet, Store
from asif.building import copy_rows
from asif.building.copy_rows import publish_rows
from asif.errors import IntegrityError
from asif.vectors import Int64


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
@pytest.mark.parametrize("captions", ["mean", "all"])
def test_a_chosen_set_is_a_build_of_only_those_pairs(
    tmp_path: Path, dtype: str, captions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_rows, "COPY_SEGMENT_ROWS", 4)
    whole = build(tmp_path / "whole", pairs(40), dtype=dtype, captions=captions)
    rows = selection.choose_at_random(40, 13, seed=1)
    made = publish_rows([(whole, rows)], Store(tmp_path / "whole"), "some", {"kind": "select"})
    alone = build(tmp_path / "alone", whole.records(rows), name="some", dtype=dtype, captions=captions)
    assert (made.digest, made.count) == (alone.digest, 13)
    assert made.manifest.blocks == alone.manifest.blocks  # every byte of them, and of the pairs
    for side in DIMS:
        stored = np.concatenate(whole.blocks(side))[rows]
        np.testing.assert_array_equal(np.concatenate(made.blocks(side)).view(np.uint8), stored.view(np.uint8))
    assert (made.manifest.rows_in, made.manifest.rejected, made.manifest.captions) == (13, 0, captions)
    assert made.manifest.encoders == whole.manifest.encoders
    Store(tmp_path / "whole").verify("some").raise_if_bad()


def test_what_was_killed_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_rows, "COPY_SEGMENT_ROWS", 4)
    whole, store, rows = build(tmp_path, pairs(40)), Store(tmp_path), np.arange(0, 40, 3)
    with monkeypatch.context() as patch:
        read: list[int] = []

        def failing(some: Int64) -> Any:
            read.extend(some.tolist())
            if len(read) > 8:
                raise OSError("killed")
            return AnchorSet.records(whole, some)

        patch.setattr(whole, "records", failing)
        with pytest.raises(OSError, match="killed"):
            publish_rows([(whole, rows)], store, "some", {"kind": "select"})
    again: list[int] = []
    monkeypatch.setattr(whole, "records", lambda some: again.extend(some.tolist()) or AnchorSet.records(whole, some))
    made = publish_rows([(whole, rows)], store, "some", {"kind": "select"})
    assert again == rows[8:].tolist()
    assert made.records(range(made.count)) == AnchorSet.records(whole, rows)
    assert not (tmp_path / "anchors" / "some" / "journal").exists()


def test_a_changed_source_is_not_copied(tmp_path: Path) -> None:
    whole = build(tmp_path, pairs(10))
    (table,) = (tmp_path / "anchors" / "toy" / "pairs").iterdir()
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.chmod(0o644)
    table.write_bytes(content)
    with pytest.raises(IntegrityError):
        publish_rows([(whole, np.arange(3))], Store(tmp_path), "some", {"kind": "select"})
