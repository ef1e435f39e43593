"""Shared captions, captions that are labels, and several anchors of one image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.audit_results import OPTIONS, audit_labels, find_finding
from support.audit_sets import DIMS, publish, sha256

from asif.engine import Engine
from asif.evaluate.audit import FINDING_KINDS, audit
from asif.pairs import PairRecord
from asif.vectors import Embeddings


def test_labels_are_no_fault(tmp_path: Path) -> None:
    audited = audit_labels(tmp_path)
    shared = find_finding(audited, "shared_caption")
    assert (len(shared.rows), shared.total, len(shared.removable)) == (120, 6, 0) and "labels" in shared.notes[0]
    assert [entry["caption"] for entry in audited.to_json()["findings"][-1]["listed"]] == [
        f"class {one}" for one in range(6)
    ]
    for kind in FINDING_KINDS[:-1]:
        assert not len(find_finding(audited, kind).rows), kind
    assert audited.usage["text"].counts.min() > 0  # equal texts are used together, however few of them k is


def test_captions_that_are_anchors_of_one_image_are_no_copies(tmp_path: Path) -> None:
    random, records, images, texts = np.random.default_rng(5), [], [], []
    for at in range(40):
        image = random.standard_normal(DIMS[0]) + 1
        for caption in range(3):
            records.append(PairRecord(f"p{at:02d}#{caption}", (f"{at} {caption}",), sha256(f"{at}")))
            images.append(image)
            texts.append(random.standard_normal(DIMS[1]) + 1)
    sides = [Embeddings.from_raw(np.stack(side)).values for side in (images, texts)]
    publish(tmp_path, "each", records, *sides, captions="all")
    audited = audit(Engine("each", home=tmp_path), options=OPTIONS)
    for kind in ("same_pair", "same_image", "same_embedding", "near_image", "shared_caption"):
        assert not len(find_finding(audited, kind).rows), kind
    publish(tmp_path, "plain", records, *sides)
    plain = audit(Engine("plain", home=tmp_path), options=OPTIONS)
    assert len(find_finding(plain, "same_image").rows) == 120


def test_a_caption_shared_by_some_of_several(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    captions = [(f"own {at}", "A  dog") if at < 4 else (f"own {at}",) for at in range(20)] + [("a dog",)] * 2
    records = [PairRecord(f"p{at:02d}", said, sha256(f"{at}")) for at, said in enumerate(captions)]
    sides = [Embeddings.from_raw(random.standard_normal((22, dim)) + 1).values for dim in DIMS]
    publish(tmp_path, "some", records, *sides)
    audited = audit(Engine("some", home=tmp_path), options=OPTIONS)
    (entry,) = audited.to_json()["findings"][-1]["listed"]
    assert (entry["caption"], entry["count"], entry["images"]) == ("a dog", 6, 6)
    removable = audited.removable_ids(find_finding(audited, "shared_caption"))
    assert removable == ["p21"]  # the others have a caption of their own, or are the first
