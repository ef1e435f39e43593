"""Blocks on disk: a fixed safetensors layout, mapped without a copy, many in one set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.anchorset_sets import DIMS, build, dense, finish, pairs, vectors

from asif.anchorset import Store
from asif.anchorset.format.blocks import MAX_BLOCK_ROWS, build_block, cast_embeddings, write_block
from asif.anchorset.format.row_hash import hash_records
from asif.errors import IntegrityError

DTYPES = ["float16", "float32", "bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_block_is_a_safetensors_file(tmp_path: Path, dtype: str) -> None:
    from safetensors import safe_open

    records = pairs(5)
    block = build_block({side: cast_embeddings(vectors(records, side), dtype) for side in DIMS}, hash_records(records))
    write_block(tmp_path / "a", block, dtype)
    write_block(tmp_path / "b", block, dtype)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safe_open(tmp_path / "a", "pt" if dtype == "bfloat16" else "np") as theirs:
        assert sorted(theirs.keys()) == ["image", "image_sum", "row_hash", "text", "text_sum"]
        for name in theirs.keys():  # noqa: SIM118  not a dict
            found = theirs.get_tensor(name)
            found = found.float().numpy() if str(found.dtype) == "torch.bfloat16" else np.asarray(found)
            arrays = {**block.values, **{f"{side}_sum": sums for side, sums in block.sums.items()}}
            expected = {**arrays, "row_hash": block.row_hash}[name]
            np.testing.assert_array_equal(found, expected.astype(found.dtype))


def test_nothing_is_copied_or_writable(tmp_path: Path) -> None:
    image = build(tmp_path, pairs(3)).blocks("image")[0]
    assert not image.flags.owndata
    assert not image.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0] = 1


@pytest.mark.slow
def test_many_blocks(tmp_path: Path) -> None:
    records = pairs(2 * MAX_BLOCK_ROWS + 5)
    with Store(tmp_path).journal("toy", {"dtype": "float32"}) as journal:
        for start in range(0, len(records), 5000):
            part = records[start : start + 5000]
            image = vectors(part[:1], "image").repeat(len(part), axis=0)
            text = np.arange(start + 1, start + 1 + len(part), dtype=np.float32)[:, None]
            journal.append(part, image, text, [], start + len(part))
        opened = finish(journal)
    assert [len(block) for block in opened.blocks("text")] == [MAX_BLOCK_ROWS, MAX_BLOCK_ROWS, 5]
    order = sorted(range(len(records)), key=lambda row: records[row].id.encode())
    np.testing.assert_array_equal(dense(opened, "text")[:, 0], np.array(order, np.float32) + 1)
    picked = [0, MAX_BLOCK_ROWS - 1, MAX_BLOCK_ROWS, 2 * MAX_BLOCK_ROWS + 4, 3]
    assert opened.records(picked) == [records[order[row]] for row in picked]
    np.testing.assert_allclose(opened.mean("text"), [(len(records) + 1) / 2], rtol=1e-12)
    assert Store(tmp_path).verify("toy").problems == ()


def test_records_of_many_blocks_are_read_at_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, pairs(40)).close()
    store = Store(tmp_path)
    store.remove("toy", [pairs(9)[7].id, pairs(9)[8].id]).close()
    rows = [30, 0, 7, 8, 30, 37]
    expected = store.open("toy").records(rows)
    monkeypatch.setattr("asif.anchorset.format.anchor_set._CACHED_TABLES", 0)
    opened = store.open("toy")
    opened._table = lambda entry: pytest.fail("a whole table was read")  # type: ignore[assignment, method-assign]
    assert opened.records(rows) == expected and opened.records([]) == []
    with pytest.raises(IndexError):
        opened.records([38])
    (table,) = (tmp_path / "anchors/toy/pairs").glob("*")
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    with pytest.raises(IntegrityError, match="has sha256"):
        store.open("toy").records(rows)
