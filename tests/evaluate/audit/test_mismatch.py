"""Pairs that disagree: ranks and overlaps are those of sorting everything; wrong captions are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.audit_results import audit_labels, find_finding, list_ids
from support.audit_sets import NEAR, Planted, cosines, neighbours, publish, sha256

from asif.engine import Engine
from asif.evaluate.audit import AuditResult, audit
from asif.evaluate.audit.overlap import compute_overlap_k
from asif.pairs import PairRecord
from asif.vectors import SIDES, Embeddings


def test_disagreeing_pairs_are_ranked_and_listed_with_their_neighbours(audited: AuditResult, faults: Planted) -> None:
    finding = audited.to_json()["findings"][0]
    k = compute_overlap_k(audited.anchors.count)
    similar = {side: cosines(audited.anchors, side) for side in SIDES}
    likeness = []
    for entry in finding["listed"]:
        row = int(entry["pairs"][0]["id"][1:])
        lists = {side: neighbours(similar[side], row, {row}, k) for side in SIDES}
        assert not set(lists["image"]) & set(lists["text"])
        for side, other in (("image", "text"), ("text", "image")):
            named = [pair["id"] for pair in entry[f"near_{side}"]]
            assert named == [f"p{at:04d}" for at in lists[side][:2]]
            expected = (similar[side][row, lists[other]].mean() - similar[side][row].mean()) / similar[side][row].std()
            assert entry[f"{side}_likeness"] == pytest.approx(expected, abs=2e-3)
        likeness.append(entry["image_likeness"] + entry["text_likeness"])
    assert likeness == sorted(likeness) and max(likeness) < 0.5
    assert finding["typical"]["image"] > 1 and finding["typical"]["text"] > 1
    assert finding["judged"] == audited.anchors.count - 1  # nothing is near to the one against all others


def test_overlap_is_that_of_sorting_everything(audited: AuditResult) -> None:
    k, count = compute_overlap_k(audited.anchors.count), audited.anchors.count
    images, texts = cosines(audited.anchors, "image"), cosines(audited.anchors, "text")
    shared = []
    for row in range(count):
        out = {row, *np.flatnonzero(images[row] >= NEAR).tolist()}
        lists = [set(neighbours(similar, row, out, k)) for similar in (images, texts)]
        shared.append(len(lists[0] & lists[1]) if all(lists) else None)
    judged = [number for number in shared if number is not None]
    figures = find_finding(audited, "disagreement").figures
    assert figures.judged == len(judged)
    assert figures.shared_on_average == pytest.approx(np.mean(judged), abs=0.05)  # ties at the last place
    assert {row for row, number in enumerate(shared) if number == 0} == set(find_finding(audited, "disagreement").rows)


def test_wrong_labels_are_found(tmp_path: Path) -> None:
    audited = audit_labels(tmp_path, wrong=2)
    assert list_ids(audited, find_finding(audited, "disagreement").rows) == {"p0000", "p0001"}


@pytest.mark.realdata
def test_shuffled_captions_of_real_pairs_are_found(realdata: Path, tmp_path: Path) -> None:
    folder, count = realdata / "flickr8k" / "features", 1500
    images = np.load(folder / "train-image-lite0.npy", mmap_mode="r")[:count].astype(np.float32)
    texts = np.load(folder / "train-text-minilm.npy", mmap_mode="r")[:count].astype(np.float32).mean(axis=1)
    wrong = np.random.default_rng(1).permutation(count)[: count // 20]
    texts[wrong] = texts[np.roll(wrong, 1)]
    records = [PairRecord(f"p{at:04d}", (f"{at}",), sha256(f"{at}")) for at in range(count)]
    publish(tmp_path, "real", records, *(Embeddings.from_raw(side).values for side in (images, texts)))
    finding = find_finding(audit(Engine("real", home=tmp_path)), "disagreement")
    right = np.isin(finding.removable, wrong)
    assert right[:20].all() and right.mean() > 0.6
    assert right.sum() / len(wrong) == pytest.approx(finding.figures.random_share, abs=0.15)
