"""Anchor sets and galleries of sounds: built, classified, searched, explained; damaged sounds are rejects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.engine_sets import fake_image, make_set
from support.sound_sets import KINDS, build_sounds, make_sounds, use_fake_texts, write_folder
from support.tiny_sounds import make_tone, write_sound

from asif.anchorset import Gallery
from asif.anchorset.format.manifest import Manifest
from asif.engine import Engine, build_anchors, build_gallery
from asif.engine.edit import add_pairs
from asif.errors import BadAudio, EncoderMismatch, IntegrityError, UnknownFormat, UsageError
from asif.modality import find_modalities
from asif.pairs import open_pairs
from asif.vectors import Embeddings, dump_checksummed

SOUNDS = make_sounds()
OTHERS = make_sounds(2, first=5)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        use_fake_texts(patch)
        folder = tmp_path_factory.mktemp("sounds")
        build_sounds(write_folder(folder / "clips", SOUNDS), folder / "home")
        yield folder


@pytest.fixture
def engine(place: Path) -> Iterator[Engine]:
    with Engine("sounds", home=place / "home") as opened:
        yield opened


def test_the_set_names_its_modalities(engine: Engine) -> None:
    manifest = engine.anchor_set.manifest
    assert find_modalities(engine.anchors) == manifest.modalities == {"image": "audio", "text": "text"}
    assert json.loads(manifest.to_bytes())["features"] == ["modalities"]
    assert engine.anchors.encoder_spec("image") == "embedded:log-mel"


def test_sets_of_images_and_texts_have_the_manifest_that_they_had(tmp_path: Path) -> None:
    manifest = make_set(tmp_path).manifest
    assert json.loads(manifest.to_bytes())["features"] == []
    assert manifest.modalities == {"image": "image", "text": "text"}


def change(manifest: Manifest, **fields: Any) -> bytes:
    known = json.loads(manifest.to_bytes())
    del known["checksum"]
    return dump_checksummed({**known, **fields})


def test_a_version_that_does_not_know_the_feature_refuses_the_set(engine: Engine, monkeypatch: Any) -> None:
    data = engine.anchor_set.manifest.to_bytes()
    monkeypatch.setattr("asif.anchorset.format.manifest._KNOWN_FEATURES", ("deletions", "pieces", "gallery"))
    with pytest.raises(UnknownFormat, match="modalities") as caught:
        Manifest.from_bytes(data, "x")
    assert "upgrade asif" in caught.value.fix


def test_a_manifest_that_hides_its_modality_or_names_none_is_refused(engine: Engine) -> None:
    manifest = engine.anchor_set.manifest
    with pytest.raises(IntegrityError, match="names other features than it uses"):
        Manifest.from_bytes(change(manifest, features=[]), "x")
    encoders = json.loads(manifest.to_bytes())["encoders"]
    encoders["image"]["fingerprint"]["modality"] = "../etc"
    with pytest.raises(IntegrityError, match="modality"):
        Manifest.from_bytes(change(manifest, encoders=encoders), "x")


def test_sounds_are_classified(engine: Engine) -> None:
    results = list(engine.classify([content for content, _ in OTHERS.values()], KINDS))
    assert [result.label for result in results] == [kind for _, kind in OTHERS.values()]


def test_a_damaged_sound_stops_no_other(engine: Engine) -> None:
    (good, kind), *_ = OTHERS.values()
    first, second = engine.classify([good[:60], good], KINDS)
    assert isinstance(first.error, BadAudio) and "cannot be decoded" in first.error.came
    assert second.label == kind


def test_pictures_are_no_sounds(engine: Engine) -> None:
    with pytest.raises(UsageError, match="a sound is of type"):
        list(engine.classify(np.zeros((4, 4, 3), np.uint8), KINDS))


def test_explanations_name_clips_and_seconds(engine: Engine) -> None:
    (result,) = engine.classify([OTHERS["a-hiss-5.flac"][0]], KINDS, explain=3)
    assert result.evidence is not None
    for record, span in zip(result.evidence.records, result.evidence.spans, strict=True):
        assert span is not None and span.clip.startswith(f"{record.id}.")
        assert (span.start, span.stop) == (0.0, 1.0)


def test_the_window_that_is_most_like_the_sound_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    use_fake_texts(monkeypatch)
    low, high = make_tone(200, 10), make_tone(3000, 10)
    both = {"both.wav": (write_sound(np.concatenate([high, low])), "two tones")}
    build_sounds(write_folder(tmp_path / "clips", {**SOUNDS, **both}), tmp_path / "home")
    engine = Engine("sounds", home=tmp_path / "home")
    for tone, span in ((low, (10.0, 20.0)), (high, (0.0, 10.0))):
        (result,) = engine.classify([write_sound(tone)], KINDS, explain=21)
        assert result.evidence is not None
        spans = {one.clip: (one.start, one.stop) for one in result.evidence.spans if one}
        assert spans["both.wav"] == span


def test_without_the_files_there_are_no_spans(place: Path) -> None:
    moved = place / "moved"
    (place / "clips").rename(moved)
    try:
        with Engine("sounds", home=place / "home") as opened:
            (result,) = opened.classify([OTHERS["a-hiss-5.flac"][0]], KINDS, explain=2)
    finally:
        moved.rename(place / "clips")
    assert result.evidence is not None and result.evidence.spans == (None, None)


def test_a_gallery_of_sounds_is_searched_by_words_and_by_sounds(place: Path, engine: Engine) -> None:
    home = place / "home"
    built = build_gallery(place / "clips", "clips", kind="audio", anchors="sounds", home=home)
    assert built.opened.count == len(SOUNDS)
    with Gallery("clips", home=home) as gallery:
        assert (gallery.modality, gallery.side) == ("audio", "image") and "sounds>" in repr(gallery)
        (by_text,) = engine.search(gallery, texts=["a hiss"], k=3, explain=1)
        (by_sound,) = engine.search(gallery, sounds=[OTHERS["clicks-5.flac"][0]], k=3)
    assert {result.item.captions for result in by_text} == {("a hiss",)}
    assert {result.item.captions for result in by_sound} == {("clicks",)}
    assert (by_text.space, by_sound.space) == ("shared", "audio")
    evidence = by_text.results[0].evidence
    assert evidence is not None and evidence.spans[0] is not None


def test_kinds_of_galleries_are_not_mixed_up(place: Path) -> None:
    with pytest.raises(UsageError, match="holds sounds"):
        build_gallery(place / "clips", "photos", kind="image", encoder="timm:fake", home=place / "home")
    with pytest.raises(UsageError, match="a gallery of sounds without an encoder"):
        build_gallery(place / "clips", "x", kind="audio", home=place / "home")


def test_queries_of_another_modality_are_refused(place: Path, engine: Engine) -> None:
    build_gallery(place / "clips", "clips", kind="audio", anchors="sounds", home=place / "home")
    with pytest.raises(UsageError, match="a query with an image, and sounds@1, which pairs sounds and texts") as caught:
        list(engine.search("clips", images=[b"x"]))
    assert "--via" in caught.value.fix


def test_encoders_of_the_wrong_modality_are_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds sounds, and no encoder of sounds was named"):
        build_anchors(place / "clips", "x", home=tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "metadata.csv").write_text("file_name,caption\na.png,a dog\n", encoding="utf-8")
    (tmp_path / "pictures" / "a.png").write_bytes(b"x")
    source = open_pairs(tmp_path / "pictures")
    with pytest.raises(UsageError, match="holds images, and an encoder of sounds was named"):
        build_anchors(source, "x", audio_encoder="embedded:log-mel", home=tmp_path)


REJECTED = {
    "empty.wav": (b"", "0 bytes"),
    "silent.wav": (write_sound(0 * make_tone(9)), "silence"),
    "spoilt.wav": (write_sound(make_tone(9) * np.nan, subtype="FLOAT"), "not finite"),
    "cut.flac": (write_sound(make_tone(440), form="FLAC")[:-99], "cannot be decoded"),
    "header.wav": (write_sound(make_tone(440)).replace(b"data\x00", b"data\xff", 1), "says"),
    "many.wav": (write_sound(np.tile(make_tone(440)[:, None], (1, 64))), "64 channels, more than 8"),
    "text.mp3": (b"not a sound " * 9, "no WAV, FLAC, Ogg or MP3"),
}
KEPT = {
    "eight.wav": write_sound(make_tone(440), subtype="PCM_U8"),
    "deep.wav": write_sound(make_tone(440), subtype="PCM_24"),
}


def test_each_damaged_sound_is_a_reject_with_its_reason(tmp_path: Path, monkeypatch: Any) -> None:
    use_fake_texts(monkeypatch)
    broken = {name: (content, f"caption of {name}") for name, (content, _) in REJECTED.items()}
    good = {name: (content, f"caption of {name}") for name, content in KEPT.items()}
    folder = write_folder(tmp_path / "clips", {**broken, **good})
    built = build_anchors(folder, "x", audio_encoder="embedded:log-mel", max_bad_rows="100%", home=tmp_path / "home")
    manifest = built.anchors.manifest
    assert (manifest.rows_in, manifest.count, manifest.rejected) == (9, 2, 7)
    reasons = {reject.id: reject.reason for reject in built.anchors.rejects()}
    for name, (_, reason) in REJECTED.items():
        assert reason in reasons[name.rpartition(".")[0]]


def test_a_union_of_sounds_and_images_is_refused(place: Path, tmp_path: Path, engine: Engine) -> None:
    make_set(place / "home", "pictures", image=fake_image())
    with pytest.raises(EncoderMismatch, match="sounds@1 pairs audio and text, pictures@1 pairs image and text"):
        Engine("sounds+pictures", home=place / "home")


def test_pairs_are_added_in_the_modality_of_the_set(tmp_path: Path, monkeypatch: Any) -> None:
    use_fake_texts(monkeypatch)
    home = tmp_path / "home"
    build_sounds(write_folder(tmp_path / "clips", SOUNDS), home)
    more = write_folder(tmp_path / "more", OTHERS)
    (more / "unnamed.png").write_bytes(b"x")
    assert add_pairs("sounds", more, home=home).count == len(SOUNDS) + len(OTHERS)


def test_vectors_of_sounds_make_anchors_of_sounds(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    columns = {
        f"{name}_embedding": pa.FixedSizeListArray.from_arrays(pa.array(random.standard_normal(20 * dim)), dim)
        for name, dim in (("audio", 6), ("text", 4))
    }
    pq.write_table(pa.table({**columns, "caption": [f"sound {row}" for row in range(20)]}), tmp_path / "a.parquet")
    anchors = build_anchors(tmp_path / "a.parquet", "vectors", home=tmp_path / "home").anchors
    assert anchors.manifest.modalities == {"image": "audio", "text": "text"}
    engine = Engine("vectors", home=tmp_path / "home")
    (result,) = engine.classify_vectors(
        Embeddings(np.eye(6, dtype=np.float32)[:1]), ["a"], Embeddings(np.eye(4, dtype=np.float32)[:1])
    )
    assert result.label == "a"
    with pytest.raises(UsageError, match="a sound to encode") as caught:
        list(engine.encode_images([b"x"]))
    assert caught.value.expected.startswith("audio vectors [n, 6]")
