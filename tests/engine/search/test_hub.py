"""Three modalities over one hub: a sound finds images by way of the texts that two anchor sets share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asif.anchorset import Gallery
from asif.engine import Engine, build_anchors, build_gallery
from asif.engine.search.hub import Hub
from asif.engine.search.query import Query
from asif.engine.search.represented import find_represented
from asif.errors import BadAudio, EncoderMismatch, UsageError
from asif.vectors import Embeddings, Float32, TopK

COUNT, DIM = 200, 12
NAMES = tuple(f"a {thing}" for thing in ("bell", "cat", "drum", "engine", "flute", "goose", "horn", "kettle"))


def make_vectors(topics: Any, dim: int, seed: int, noise: float) -> Float32:
    """Return noisy vectors of topics [n, dim]: equal seeds have equal directions."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((len(NAMES), dim))
    return (centres[topics] + noise * random.standard_normal((len(topics), dim))).astype(np.float32)


def write_pairs(folder: Path, first: str, topics: Any, seed: int, noise: float = 0.3) -> Path:
    """Write pairs of vectors of a modality and of texts; all sets have the same texts for a topic, up to noise."""
    texts = make_vectors(topics, DIM, 7, 0.0)
    texts += 0.05 * np.random.default_rng(seed).standard_normal(texts.shape).astype(np.float32)
    columns = {f"{first}_embedding": make_vectors(topics, DIM + seed, seed, noise), "text_embedding": texts}
    table = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float32()), values.shape[1])
        for name, values in columns.items()
    }
    captions = [NAMES[topic] for topic in topics]
    place = folder / f"{first}-{seed}.parquet"
    pq.write_table(
        pa.table({**table, "caption": captions, "id": [f"{first}{row}" for row in range(len(topics))]}), place
    )
    return place


class Listener:
    """Stand for an encoder of sounds that knows the topic of each file: its content is the number."""

    def __init__(self, inner: Any) -> None:
        self.spec, self.dim, self.fingerprint, self.batch = inner.spec, inner.dim, inner.fingerprint, 4

    def prepare(self, source: bytes) -> int:
        if not source.isdigit():
            raise BadAudio("noise", "a number", "leave it out")
        return int(source)

    def forward(self, prepared: list[int]) -> Float32:
        return make_vectors(np.array(prepared), self.dim, self.dim - DIM, 0.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    topics = np.random.default_rng(3).integers(0, len(NAMES), COUNT)
    pictures = write_pairs(folder, "image", topics, 1)
    build_anchors(pictures, "pictures", home=folder / "home")
    build_anchors(write_pairs(folder, "audio", topics[::-1].copy(), 2), "sounds", home=folder / "home")
    build_gallery(pictures, "photos", home=folder / "home", anchors="pictures")
    return folder


@pytest.fixture
def engine(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with Engine("pictures", home=place / "home") as opened:
        load = opened.encoders.load_image_encoder
        monkeypatch.setattr(opened.encoders, "load_image_encoder", lambda stored: Listener(load(stored)))
        yield opened


@pytest.mark.parametrize("topic", range(4))
def test_a_sound_finds_the_images_of_its_topic(engine: Engine, topic: int) -> None:
    (answer,) = engine.search("photos", sounds=[str(topic).encode()], via="sounds", k=5)
    assert {result.item.captions for result in answer} == {(NAMES[topic],)}
    assert answer.hub is not None and answer.hub.captions == (NAMES[topic],)
    assert (answer.hub.anchors.name, answer.anchors.name, answer.space) == ("sounds", "pictures", "shared")


def test_the_loss_is_stated(engine: Engine) -> None:
    (answer,) = engine.search("photos", sounds=[b"1"], via="sounds")
    assert answer.hub is not None and answer.hub.loss is not None
    loss = answer.hub.loss
    assert (loss.compared, loss.samples) == (10, 64)
    assert 0.2 < loss.kept <= 1 and 0.9 < loss.cosine <= 1


def test_texts_at_random_lose_more(engine: Engine, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(engine._find_snapshot("sounds", None, None).tasks["search"])
    represented = find_represented(engine._find_snapshot(None, None, None), Gallery("photos", home=place / "home"))
    loss = hub.measure_loss(represented)
    spoilt = Hub(engine._find_snapshot("sounds", None, None).tasks["search"])

    def draw_texts(found: TopK) -> Float32:
        return Embeddings.from_raw(np.random.default_rng(0).standard_normal((len(found.indices), DIM))).values

    monkeypatch.setattr(spoilt, "_mix", draw_texts)
    worse = spoilt.measure_loss(represented)
    assert worse.kept < loss.kept / 2 and worse.cosine < 0.5


def test_a_text_in_the_same_query_stays_a_text(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = make_vectors(np.array([2]), DIM, 7, 0.0)
    monkeypatch.setattr(engine.encoders, "encode_texts", lambda some, anchors: Embeddings.from_raw(texts))
    monkeypatch.setattr(engine.encoders, "report_cut_texts", lambda *_: None)
    query = Query.of(texts=["a drum"], sounds=[b"2"])
    (answer,) = engine.search("photos", queries=[query], via="sounds", k=3)
    assert {result.item.captions for result in answer} == {("a drum",)}
    assert str(answer.query) == "a drum + bytes"


def test_a_sound_that_cannot_be_read_is_an_error_of_its_query(engine: Engine) -> None:
    bad, good = engine.search("photos", sounds=[b"noise", b"0"], via="sounds", k=1)
    assert isinstance(bad.error, BadAudio) and not bad.results
    assert good.error is None and good.hub is not None


def test_without_a_hub_a_sound_is_refused(engine: Engine) -> None:
    with pytest.raises(UsageError, match="a query with a sound, and pictures@1, which pairs images and texts"):
        list(engine.search("photos", sounds=[b"1"]))


def test_sets_without_common_texts_are_no_hub(place: Path, engine: Engine) -> None:
    topics = np.arange(20) % len(NAMES)
    table = pq.read_table(write_pairs(place, "audio", topics, 4))
    short = pa.FixedSizeListArray.from_arrays(pa.array([0.5] * 60, pa.float32()), 3)
    pq.write_table(table.set_column(1, "text_embedding", short), place / "other.parquet")
    build_anchors(place / "other.parquet", "others", home=place / "home")
    with pytest.raises(EncoderMismatch, match="others@1 pairs sounds and texts by precomputed"):
        list(engine.search("photos", sounds=[b"1"], via="others"))
