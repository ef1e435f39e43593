"""An evaluation's result names everything that is needed to repeat it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
from support.engine_sets import fake_text
from support.evaluation_sets import (
    labelled,
    labels_of,
)
from support.pair_files import IMAGE, table

from asif.classify import Labels
from asif.engine import Engine
from asif.evaluate import evaluate_classification
from asif.pairs import LabelledImages, open_labelled


def test_provenance(toy: Engine, tmp_path: Path) -> None:
    data = labelled(tmp_path)
    result = evaluate_classification(toy, data, Labels(data.classes), origins={"templates_from": "default"}).to_json()
    first = ["dataset", "model", "pretrained", "task", "metrics", "language"]
    assert list(result)[:6] == first
    anchors = toy.anchors
    assert result["anchors"] == {"name": "toy", "version": anchors.version, "digest": anchors.digest, "count": 20}
    assert result["encoders"]["text"] == {
        "spec": "sentence-transformers:fake",
        "fingerprint": fake_text().fingerprint.digest,
    }
    assert result["pretrained"] == f"fused toy@{anchors.version}"
    assert (result["templates"], result["template_mode"], result["templates_from"]) == (["{}"], "mean", "default")
    path = tmp_path / "l.parquet"
    assert result["data"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert result["data"]["path"] == str(path)
    assert set(result["versions"]) == {"asif", "torch", "timm", "sentence-transformers", "numpy"}


def test_the_hash_of_rows_is_that_of_content(toy: Engine, tmp_path: Path) -> None:
    """Other containers, names and paths of the same labelled images: the same hash; another label: another."""

    def digest(data: LabelledImages) -> str:
        found: str = evaluate_classification(toy, data, Labels(data.classes)).data.rows_sha256
        return found

    labels = sorted(labels_of(9))
    images = [{"bytes": f"image {row}".encode(), "path": None} for row in range(9)]
    parquet = open_labelled(table(tmp_path / "a.parquet", image=pa.array(images, IMAGE), label=labels))
    for row, label in enumerate(labels):
        folder = tmp_path / "folders" / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.jpg").write_bytes(f"image {row}".encode())
    assert digest(parquet) == digest(open_labelled(tmp_path / "folders"))
    other = open_labelled(table(tmp_path / "b.parquet", image=pa.array(images, IMAGE), label=labels[::-1]))
    assert digest(parquet) != digest(other)
