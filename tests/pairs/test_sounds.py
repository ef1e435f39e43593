"""Pairs of sounds and texts: the same from every form, called sounds, with a reason for each that is none."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.sound_sets import make_sounds, write_folder

from asif.errors import InputRefused, UsageError
from asif.pairs import Pair, Reject, open_labelled, open_pairs
from asif.pairs.columns import find_columns
from asif.pairs.in_memory import open_in_memory
from asif.pairs.items import open_items

SOUNDS = make_sounds(2)


def write_parquet(folder: Path) -> Path:
    cells = [{"bytes": content, "path": name} for name, (content, _) in SOUNDS.items()]
    captions = [caption for _, caption in SOUNDS.values()]
    pq.write_table(pa.table({"audio": cells, "caption": captions, "id": list(SOUNDS)}), folder / "a.parquet")
    return folder / "a.parquet"


def write_tar(folder: Path) -> Path:
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, (content, caption) in SOUNDS.items():
            stem, _, suffix = name.rpartition(".")
            for ending, data in ((suffix, content), ("txt", caption.encode())):
                member = tarfile.TarInfo(f"{stem}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return folder / "a.tar"


def write_jsonl(folder: Path) -> Path:
    place = write_folder(folder / "jsonl", SOUNDS)
    (place / "metadata.csv").unlink()
    lines = [f'{{"file_name": "{name}", "caption": "{caption}"}}' for name, (_, caption) in SOUNDS.items()]
    (place / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return place


def read_content(pair: Pair) -> bytes:
    return pair.image if isinstance(pair.image, bytes) else Path(str(pair.image)).read_bytes()


FORMS: dict[str, Callable[[Path], Path]] = {
    "parquet": write_parquet,
    "tar": write_tar,
    "csv": lambda folder: write_folder(folder / "csv", SOUNDS),
    "jsonl": write_jsonl,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_sounds_and_calls_them_so(tmp_path: Path, form: str) -> None:
    source = open_pairs(FORMS[form](tmp_path))
    found = list(source.read())
    assert source.modality == "audio"
    assert "\n  audio: " in source.describe() and "image" not in source.describe()
    assert [(read_content(pair), *pair.captions) for pair in found] == list(SOUNDS.values())


def test_folders_of_classes_and_folders_of_sounds(tmp_path: Path) -> None:
    for kind in ("dog", "rain"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "1.wav").write_bytes(b"x")
    (tmp_path / "rain" / "2.FLAC").write_bytes(b"x")
    data = open_labelled(tmp_path)
    assert data.source.modality == "audio" and data.classes == ("dog", "rain")
    assert [item.label for item in data.read()] == ["dog", "rain", "rain"]
    pairs = list(open_pairs(tmp_path, captions_from="folders").read())
    assert pairs[0].captions == ("the sound of dog.",)
    assert [item.id for item in open_items([tmp_path]).read()] == ["dog/1.wav", "rain/1.wav", "rain/2.FLAC"]


def test_images_come_first_unless_sounds_are_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.wav").write_bytes(b"x")
    both, sounds = open_items([tmp_path]), open_items([tmp_path], modality="audio")
    assert [item.id for item in both.read()] == ["a.png"] and both.modality == "image"
    assert [item.id for item in sounds.read()] == ["b.wav"] and sounds.modality == "audio"
    shapes = {"image": "image", "audio": "image", "caption": "text"}
    assert find_columns(shapes, {}, "x").by_name() == {"image": "image", "captions": "caption"}
    assert find_columns(shapes, {}, "x", modality="audio").by_name() == {"audio": "audio", "captions": "caption"}
    assert find_columns(shapes, {"audio": "audio"}, "x").modality == "audio"


def test_rows_without_a_sound_are_rejected_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,caption\nno.wav,a dog\n../x.wav,a cat\n,rain\n", encoding="utf-8")
    found = [item.reason for item in open_pairs(tmp_path).read() if isinstance(item, Reject)]
    assert found == ["audio file not found: no.wav", "audio path leaves its folder: ../x.wav", "audio is empty"]


def test_vectors_are_named_after_their_modality(tmp_path: Path) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([0.1] * 6, pa.float32()), 3)
    texts = pa.FixedSizeListArray.from_arrays(pa.array([0.1] * 4, pa.float32()), 2)
    pq.write_table(pa.table({"depth_embedding": vectors, "text_embedding": texts}), tmp_path / "a.parquet")
    source = open_pairs(tmp_path / "a.parquet")
    assert (source.modality, source.dims) == ("depth", (3, 2))
    assert "vectors: 3 (depth), 2 (text)" in source.describe()
    assert "depth_embedding: depth_embedding" in source.describe()


def test_vectors_of_sounds_and_images() -> None:
    shapes = {"audio_embedding": "vector", "image_embedding": "vector", "caption": "text"}
    columns = find_columns(shapes, {}, "x")
    assert (columns.modality, columns.text_modality) == ("audio", "image")
    assert (columns.image_embedding, columns.text_embedding) == ("audio_embedding", "image_embedding")
    named = {"audio_embedding": "audio_embedding", "image_embedding": "image_embedding"}
    assert find_columns(shapes, named, "x") == columns


def test_further_vectors_change_nothing_where_there_are_images() -> None:
    shapes = {"image": "image", "caption": "text", "clip_embedding": "vector", "text_embedding": "vector"}
    assert find_columns(shapes, {}, "x").by_name() == {"image": "image", "captions": "caption"}
    three = {"image_embedding": "vector", "audio_embedding": "vector", "text_embedding": "vector"}
    assert find_columns(three, {}, "x").modality == "image"
    assert find_columns(three, {}, "x", modality="audio").image_embedding == "audio_embedding"


def test_what_is_missing_is_named_by_its_modality() -> None:
    with pytest.raises(InputRefused, match=r"no column that looks like audio; it has caption \(text\)") as caught:
        find_columns({"caption": "text"}, {}, "x", modality="audio")
    assert caught.value.fix == "say which column it is: audio=COLUMN"
    with pytest.raises(UsageError, match="no column 'sound'"):
        find_columns({"caption": "text"}, {"audio": "sound"}, "x")


def test_rows_in_memory(tmp_path: Path) -> None:
    rows = [{"audio": content, "caption": caption} for content, caption in SOUNDS.values()]
    source = open_in_memory(rows, lambda image: image, {}, tmp_path)
    assert source.modality == "audio"
    assert [(pair.image, *pair.captions) for pair in source.read()] == list(SOUNDS.values())
    tuples = open_in_memory(list(SOUNDS.values()), lambda image: image, {}, tmp_path, modality="audio")
    assert tuples.modality == "audio"
