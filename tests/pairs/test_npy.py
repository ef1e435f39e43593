"""Vectors in .npy parts: joined in order; damage and parts that do not fit are named, bad rows rejected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.damaged_pairs import refusal, split
from support.pair_files import vector_parts

from asif.errors import InputRefused
from asif.pairs import open_pairs


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("metadata", [True, False])
def test_npy_parts_are_joined_in_numerical_order(nested: bool, metadata: bool, tmp_path: Path) -> None:
    source = open_pairs(vector_parts(tmp_path, nested, metadata))
    assert (source.kind, source.dims, source.rows) == ("precomputed vectors (.npy)", (2, 3), 2)
    pairs = list(source.read())
    assert [pair.image_embedding.tolist() for pair in pairs] == [[1, 2], [3, 4]]
    assert [pair.text_embedding.tolist() for pair in pairs] == [[1, 2, 2], [3, 4, 4]]
    expected = [("k2", "caption 2"), ("k10", "caption 10")] if metadata else [(None, "row 0"), (None, "row 1")]
    assert [(pair.id, *pair.captions) for pair in pairs] == expected
    assert [(pair.row, pair.captions) for pair in source.read(1)] == [(1, pairs[1].captions)]


def save(path: Path, **arrays: object) -> None:
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", np.asarray(array), allow_pickle=True)


ONES = np.ones((4, 2), np.float32)

PARTS: dict[str, tuple[dict[str, object], str]] = {
    "no texts": ({"img_emb_0": ONES}, "text_emb_*.npy do not go together: parts 0"),
    "no images": ({"text_emb_0": ONES}, "do not go together: parts 0"),
    "other numbers": ({"img_emb_0": ONES, "text_emb_1": ONES}, "do not go together: parts 0, 1"),
    "lengths": ({"img_emb_0": ONES, "text_emb_0": ONES[:3]}, "img_emb_0.npy has 4, text_emb_0.npy has 3"),
    "widths": (
        {"img_emb_0": ONES, "text_emb_0": ONES, "img_emb_1": ONES[:, :1], "text_emb_1": ONES},
        "different widths: [(1, 2), (2, 2)]",
    ),
    "numbers": ({"img_emb_0": ONES.astype(int), "text_emb_0": ONES}, "holds int64 [4, 2]"),
    "one axis": ({"img_emb_0": ONES[0], "text_emb_0": ONES}, "holds float32 [2]"),
    "objects": ({"img_emb_0": np.array([[{}]], object), "text_emb_0": ONES}, "Python objects"),
}


@pytest.mark.parametrize("fault", PARTS)
def test_npy_parts_that_do_not_fit_are_refused(fault: str, tmp_path: Path) -> None:
    arrays, message = PARTS[fault]
    save(tmp_path, **arrays)
    assert message in refusal(tmp_path)[1].came


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04]\x94.", b"\x93NUMPY\x01\x00", None], ids=["0", "pickle", "head", "cut"]
)
def test_damaged_npy_is_named(content: bytes | None, tmp_path: Path) -> None:
    save(tmp_path, img_emb_0=ONES, text_emb_0=ONES)
    path = tmp_path / "text_emb_0.npy"
    path.write_bytes(path.read_bytes()[:-5] if content is None else content)
    assert f"{path} cannot be read" in refusal(tmp_path)[1].came


def test_metadata_of_another_length_is_refused(tmp_path: Path) -> None:
    save(tmp_path, img_emb_0=ONES, text_emb_0=ONES)
    pq.write_table(pa.table({"caption": ["a"]}), tmp_path / "metadata_0.parquet")
    assert "metadata_0.parquet has 1" in refusal(tmp_path)[1].came


def test_metadata_of_another_kind_is_refused(tmp_path: Path) -> None:
    save(tmp_path, img_emb_0=ONES, text_emb_0=ONES, img_emb_1=ONES, text_emb_1=ONES)
    for number, name in enumerate(["caption", "title"]):
        pq.write_table(pa.table({name: ["a"] * 4}), tmp_path / f"metadata_{number}.parquet")
    with pytest.raises(InputRefused, match=r"metadata_1\.parquet has no column 'caption'"):
        open_pairs(tmp_path)


def test_bad_npy_rows_are_rejected(tmp_path: Path) -> None:
    vectors = np.ones((300, 2), np.float16)
    vectors[7], vectors[260, 1] = 0, np.nan
    np.save(tmp_path / "img_emb_0.npy", vectors)
    np.save(tmp_path / "text_emb_0.npy", np.ones((300, 3), ">f4"))
    kept, reasons = split(tmp_path)
    assert len(kept) == 298 and reasons == {7: "image embedding zero", 260: "image embedding not finite"}
