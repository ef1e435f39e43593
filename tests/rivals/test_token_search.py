"""Galleries, and hubness corrections, with freeze-align on tokens: items are encoded again, once, and kept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from support.build_fakes import TokenImages, TokenTexts, build_set, list_source, some_rows, write_parquet
from support.galleries import build, some_files, update, write_files
from support.running import Cli

from asif.aligners import Hubness, make_aligner
from asif.anchorset import Gallery
from asif.classify import Labels
from asif.engine import Engine
from asif.engine.purge import purge_pairs
from asif.engine.search.content_rows import represent_contents
from asif.engine.search.query import Query
from asif.engine.snapshots import FittedTask
from asif.errors import EncoderMismatch, InputRefused, UsageError
from asif.rivals import FittedTokens, FreezeAlignTokens
from asif.rivals.train_tokens import train_on_tokens

SMALL = FreezeAlignTokens(width=8, batch=8, epochs=3)
COUNT = 30
Array = NDArray[Any]


@dataclass
class Place:
    """Hold a store with anchors `toy`, on which the projector is trained, a folder of files, and the encoders."""

    home: Path
    folder: Path
    fitted: FittedTokens
    images: TokenImages
    texts: TokenTexts
    contents: dict[str, bytes] = field(default_factory=dict)

    def engine(self, hubness: str = "none", **options: Any) -> Engine:
        aligner = make_aligner("freeze-align-tokens")
        return Engine("toy", home=self.home, aligner=aligner, hubness=Hubness(hubness), **options)  # type: ignore[arg-type]

    def project_images(self, contents: Sequence[bytes]) -> Array:
        return self.fitted.represent_tokens("image", TokenImages().tokens(contents)).values

    def project_texts(self, texts: Sequence[str]) -> Array:
        return self.fitted.represent_tokens("text", TokenTexts().tokens(texts)).values

    def write(self, contents: Mapping[str, bytes]) -> None:
        write_files(self.folder, contents)
        self.contents |= contents

    def delete(self, *names: str) -> None:
        for name in names:
            (self.folder / name).unlink()
            del self.contents[name]

    def encoded(self) -> list[bytes]:
        """Return the images that were encoded since the last call."""
        seen, self.images.seen = self.images.seen, []
        return seen


@pytest.fixture
def place(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    images, texts = TokenImages(), TokenTexts()
    for room in ("encoder_pool", "build"):
        monkeypatch.setattr(f"asif.engine.{room}.load_image_encoder", lambda *_: images)
        monkeypatch.setattr(f"asif.engine.{room}.load_text_encoder", lambda *_: texts)
    build_set(list_source(*some_rows(COUNT)), home).anchors.close()
    found = train_on_tokens("toy", SMALL, list_source(*some_rows(COUNT)), home=home, device="cpu")
    assert isinstance(found.fitted, FittedTokens)
    made = Place(home, tmp_path / "photos", found.fitted, images, texts)
    made.write(some_files(12))
    build(made.folder, home, TokenImages())
    made.encoded()
    return made


def scores_of(engine: Engine, gallery: str = "g", k: int = 1000, **how: Any) -> dict[str, float]:
    (answer,) = engine.search(gallery, k=k, **how)
    return {result.item.id: result.score for result in answer.results}


def check(found: Mapping[str, float], names: Sequence[str], scores: Array, atol: float = 1e-6) -> None:
    assert set(found) == set(names)
    np.testing.assert_allclose([found[name] for name in names], scores, atol=atol)


def expected(place: Place, text: str) -> Array:
    return place.project_images(list(place.contents.values())) @ place.project_texts([text])[0]


def test_items_are_ranked_by_their_tokens(place: Place) -> None:
    found = scores_of(place.engine(), texts=["caption 3"])
    check(found, list(place.contents), expected(place, "caption 3"))
    assert list(found) == sorted(found, key=lambda name: -found[name])
    assert sorted(place.encoded()) == sorted(place.contents.values())
    assert scores_of(place.engine(), texts=["caption 3"]) == found and place.encoded() == []  # kept


def test_edits_encode_new_content_alone(place: Place) -> None:
    scores_of(place.engine(), texts=["x"])
    place.encoded()
    gone = next(iter(place.contents))
    place.delete(gone)
    place.write({"odd/100.jpg": b"a new image"})
    update(place.folder, place.home, TokenImages())
    check(scores_of(place.engine(), texts=["x"]), list(place.contents), expected(place, "x"))
    assert place.encoded() == [b"a new image"]
    assert gone in scores_of(place.engine(), "g@1", texts=["x"])  # kept, though its file is gone


def test_blocks_that_are_written_again_take_the_rows_of_their_items(place: Place) -> None:
    """An update that leaves more gaps than a block can have writes it again."""
    place.write({f"more/{row:03}.jpg": b"more %d" % row for row in range(60)})
    update(place.folder, place.home, TokenImages())
    scores_of(place.engine(), texts=["x"])
    before = {entry.sha256 for entry in Gallery("g", home=place.home).opened.manifest.blocks}
    place.encoded()
    place.delete(*(f"more/{row:03}.jpg" for row in range(0, 60, 2)))
    update(place.folder, place.home, TokenImages())
    assert {entry.sha256 for entry in Gallery("g", home=place.home).opened.manifest.blocks} - before
    check(scores_of(place.engine(), texts=["x"]), list(place.contents), expected(place, "x"))
    assert place.encoded() == []


def test_items_that_were_deleted_before_are_encoded_when_needed(place: Place) -> None:
    """The rows of a block that a version leaves out are not taken for rows of one that has them."""
    before = dict(place.contents)
    gone = next(iter(before))
    place.delete(gone)
    update(place.folder, place.home, TokenImages())
    scores_of(place.engine("nnn"), texts=["x"])
    with pytest.raises(InputRefused, match=rf"of 1 images of g@1 that .* 1 are gone: {gone}"):
        scores_of(place.engine("nnn"), "g@1", texts=["x"])
    place.write({gone: before[gone]})
    found = scores_of(place.engine("nnn"), "g@1", texts=["x"])
    assert set(found) == set(before) and np.isfinite(list(found.values())).all()
    assert place.encoded().count(before[gone]) == 1


def test_files_that_are_gone_or_changed(place: Place) -> None:
    """Nothing is answered without them; what was encoded on the way is kept."""
    names = list(place.contents)
    before = {name: place.contents[name] for name in names[:5]}
    place.delete(*names[:4])
    with pytest.raises(InputRefused) as error:
        scores_of(place.engine(), texts=["x"])
    shown = ", ".join(sorted(names[:4])[:3])
    assert error.value.came.endswith(f"of g@1 that freeze-align-tokens has to read again, 4 are gone: {shown}, …")
    assert "asif gallery update g" in error.value.fix and place.encoded() == []  # seen before anything is encoded
    place.write({name: before[name] for name in names[:4]})
    (place.folder / names[4]).write_bytes(b"x" * len(before[names[4]]))  # of the same size
    with pytest.raises(InputRefused, match=rf"of 12 images .* 1 have changed: {names[4]}\n"):
        scores_of(place.engine(), texts=["x"])
    assert len(place.encoded()) == 11
    place.write({names[4]: before[names[4]]})
    scores_of(place.engine(), texts=["x"])
    assert place.encoded() == [before[names[4]]]


def test_a_search_that_is_stopped_goes_on(place: Place) -> None:
    place.write({f"more/{row}.jpg": b"more %d" % row for row in range(100)})
    update(place.folder, place.home, TokenImages())
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scores_of(place.engine(), texts=["x"], progress=stop)
    first = place.encoded()
    found = scores_of(place.engine(), texts=["x"])
    assert told == [(0, 112), (64, 112)] and len(first) == 64
    assert sorted([*first, *place.encoded()]) == sorted(place.contents.values())
    check(found, list(place.contents), expected(place, "x"))


def test_rows_of_a_table(place: Place, tmp_path: Path) -> None:
    contents = [b"row %d" % row for row in range(20)]
    table = write_parquet(tmp_path / "items.parquet", contents, [f"n{row}" for row in range(20)])
    build(table, place.home, TokenImages(), name="t")
    gallery = Gallery("t", home=place.home)
    uris = {item.id: int(item.uri.rpartition("#")[2]) for item in gallery}
    found = scores_of(place.engine(), "t", texts=["caption 1"])
    rows = [contents[uris[name]] for name in uris]
    check(found, list(uris), place.project_images(rows) @ place.project_texts(["caption 1"])[0])
    write_parquet(table, [b"other", *contents[1:15]], [f"n{row}" for row in range(15)])
    for kept in (place.home / "galleries" / "t" / "fits").iterdir():
        kept.unlink()
    with pytest.raises(InputRefused, match=r"of 20 images of t@1 that .* 5 are gone"):
        scores_of(place.engine(), "t", texts=["caption 1"])
    write_parquet(table, [b"other", *contents[1:]], [f"n{row}" for row in range(20)])
    with pytest.raises(InputRefused, match=r"of 20 images of t@1 that .* 1 have changed"):
        scores_of(place.engine(), "t", texts=["caption 1"])
    os.unlink(table)
    with pytest.raises(InputRefused, match=r"of 1 images of t@1 that .* 1 are gone"):
        scores_of(place.engine(), "t", texts=["caption 1"])


def test_a_gallery_of_texts(place: Place, tmp_path: Path) -> None:
    """Texts are stored, so their file may be gone."""
    lines = [f"text number {row}" for row in range(9)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    build(tmp_path / "lines.txt", place.home, TokenTexts(), name="t", side="text")
    (tmp_path / "lines.txt").unlink()
    texts = {item.id: item.captions[0] for item in Gallery("t", home=place.home)}
    found = scores_of(place.engine(), "t", images=[b"image 4"])
    check(found, list(texts), place.project_texts(list(texts.values())) @ place.project_images([b"image 4"])[0])
    calls = len(place.texts.calls)
    scores_of(place.engine(), "t", images=[b"image 4"])
    assert len(place.texts.calls) == calls


# queries


def test_queries_of_images_are_compared_in_the_space_of_their_encoder(place: Place) -> None:
    usual = Engine("toy", home=place.home, aligner=make_aligner("procrustes"))
    name = list(place.contents)[2]
    for queries in ([Query.of(images=[b"image 5"])], [Query.of(items=[name])]):
        assert scores_of(place.engine(), queries=queries) == scores_of(usual, queries=queries)
    assert len(place.encoded()) <= 2  # the queries; no item


def test_queries_of_several_kinds(place: Place) -> None:
    """An item counts as the row that was made of its tokens, with a hubness correction too."""
    name = list(place.contents)[2]
    parts = np.stack(
        [
            place.project_texts(["caption 8"])[0],
            place.project_images([b"image 5"])[0],
            place.project_images([place.contents[name]])[0],
        ]
    )
    query = parts.sum(axis=0) / np.linalg.norm(parts.sum(axis=0))
    asked = [Query.of(texts=["caption 8"], images=[b"image 5"], items=[name])]
    rows = place.project_images(list(place.contents.values()))
    check(scores_of(place.engine(), queries=asked), list(place.contents), rows @ query)
    answers = list(
        place.engine("csls").search("g", queries=[Query.of(images=[b"image 5"]), *asked, Query.of(texts=["y"])])
    )
    assert [answer.space for answer in answers] == ["image", "shared", "shared"]
    corrected = {result.item.id: result.score for result in answers[1].results}
    biases = np.sort(rows @ place.fitted.anchor_rows["text"].T, axis=1)[:, -10:].mean(axis=1) / 2
    check(corrected, list(place.contents), rows @ query - biases)


def test_chances_and_cells(place: Place) -> None:
    """Chances are shares, lower for better items; an approximate search of few items is exact."""
    (answer,) = place.engine("nnn").search("g", texts=["caption 3"], k=12)
    chances = [result.chance for result in answer.results]
    assert chances == sorted(chances) and all(0 <= chance <= 1 for chance in chances) and chances[0] < chances[-1]
    near = scores_of(place.engine("nnn"), texts=["caption 3"], approximate=True)
    assert near.items() <= scores_of(place.engine("nnn"), texts=["caption 3"]).items() and near


# hubness corrections


def anchors_by_hand(place: Place) -> tuple[Array, Array]:
    """Project the tokens of the anchors, in order of ids, rounded as they are kept; captions of one are averaged."""
    rows = sorted(some_rows(COUNT), key=lambda row: str(row[0]))
    texts = []
    for _, _, captions in rows:
        mean = place.project_texts(captions).mean(axis=0)
        texts.append(mean / np.linalg.norm(mean))
    return place.project_images([row[1] for row in rows]), np.stack(texts)


def test_anchors_are_kept_with_the_projector(place: Place) -> None:
    images, texts = anchors_by_hand(place)
    fitted = place.engine().role("search").fitted
    assert isinstance(fitted, FittedTokens) and fitted.weight_count == sum(map(np.size, fitted.weights.values()))
    for side, rows in (("image", images), ("text", texts)):
        np.testing.assert_allclose(fitted.anchor_rows[side], rows, atol=5e-3)  # type: ignore[index]
        some = fitted.represent_anchors(side, 3).values  # type: ignore[arg-type]
        assert np.array_equal(some, fitted.anchor_rows[side][[0, 14, 29]])  # type: ignore[index]


@pytest.mark.parametrize("method", ["nnn", "csls", "lse"])
def test_scores_are_corrected_by_projected_anchors(place: Place, method: str) -> None:
    hubness = Hubness(method)  # type: ignore[arg-type]
    images, texts = anchors_by_hand(place)
    table = images @ texts.T
    spread = table[~np.eye(len(table), dtype=bool)].std()

    def bias(rows: Array, bank: Array) -> Array:
        found = rows @ bank.T
        if method == "lse":
            width = 0.4 * spread
            return 0.75 * width * np.log(np.exp(found / width).mean(axis=1))
        best = np.sort(found, axis=1)[:, -hubness.k :]
        return hubness.alpha * best.mean(axis=1)

    rows, query = place.project_images(list(place.contents.values())), place.project_texts(["caption 3"])[0]
    found = scores_of(place.engine(method), texts=["caption 3"])
    check(found, list(place.contents), rows @ query - bias(rows, texts), 5e-3)
    place.encoded()
    again = scores_of(place.engine(method), texts=["caption 3"])
    assert again == found and place.encoded() == []
    labels, image = place.project_texts(["cat", "dog"]), place.project_images([b"image 1"])[0]
    (result,) = place.engine(method).classify([b"image 1"], Labels(("cat", "dog")))
    scores = {each.label: each.score for each in result.predictions}
    check(scores, ["cat", "dog"], labels @ image - bias(labels, images), 5e-3)


def test_items_are_encoded_once_for_all_corrections(place: Place) -> None:
    """Neither other corrections nor other aligners drive the rows out, though only those of the last four are kept."""
    for method in ("none", "nnn", "lse", "csls", "nnn"):
        scores_of(place.engine(method), texts=["x"])
    for name in ("procrustes", "cca", "ridge", "asif", "cca(words)"):
        scores_of(Engine("toy", home=place.home, aligner=make_aligner(name)), texts=["x"])
    scores_of(place.engine("nnn"), texts=["x"])
    assert len(place.encoded()) == 12


def test_projectors_without_anchors_are_refused(place: Place) -> None:
    engine = place.engine()
    engine.anchor_set.cache_fit(
        {"name": place.fitted.aligner.name, "parameters": place.fitted.parameters}, place.fitted.weights
    )
    again = place.engine("nnn")
    with pytest.raises(UsageError, match="did not keep the anchors") as error:
        list(again.classify([b"image 1"], ["cat", "dog"]))
    assert "asif train-freeze-align --tokens PAIRS" in error.value.fix
    assert len(list(place.engine().classify([b"image 1"], ["cat", "dog"]))) == 1  # without a correction it needs none


# refusals


def test_galleries_of_vectors_are_refused(place: Place, tmp_path: Path) -> None:
    from asif.engine import build_gallery

    vectors = np.random.default_rng(0).normal(size=(8, 6)).tolist()
    table = pa.table({"id": [str(row) for row in range(8)], "image_embedding": vectors})
    pq.write_table(table, tmp_path / "vectors.parquet")
    build_gallery(tmp_path / "vectors.parquet", "v", home=place.home)
    with pytest.raises(EncoderMismatch, match="v@1 was made with precomputed"):
        scores_of(place.engine(), "v", texts=["x"])


def test_what_has_no_tokens_is_refused(place: Place) -> None:
    engine = place.engine()
    with pytest.raises(UsageError, match="a search via toy with the aligner freeze-align-tokens"):
        engine.search("g", texts=["x"], via="toy")
    with pytest.raises(UsageError, match="cannot be taken apart"):
        scores_of(engine, texts=["x"], explain=3)
    task = engine.role("search")
    with pytest.raises(UsageError, match="freeze-align-tokens by the engine ray"):
        represent_contents(Gallery("g", home=place.home), FittedTask(task.choice, task.anchors))


def test_another_set_is_served(place: Place) -> None:
    """A swap to a set with a projector of its own represents the gallery over it."""
    engine = place.engine()
    scores_of(engine, texts=["x"])
    build_set(list_source(*some_rows(25)), place.home, name="other").anchors.close()
    found = train_on_tokens("other", SMALL, list_source(*some_rows(25)), home=place.home, device="cpu").fitted
    engine.swap("other")
    assert isinstance(found, FittedTokens)
    place.fitted = found
    check(scores_of(engine, texts=["x"]), list(place.contents), expected(place, "x"))


# the commands, and what a purge leaves


def test_the_commands(place: Place, cli: Cli, tmp_path: Path) -> None:
    use = ("--anchors", "toy", "--aligner", "freeze-align-tokens", "--hubness", "nnn", "--json")
    ran = cli("search", "g", "--text", "caption 3", *use)
    assert ran.code == 0, ran.err
    assert ran.json["aligner"] == "freeze-align-tokens" and ran.json["space"] == "shared"
    found = {each["id"]: each["score"] for each in ran.json["results"]}
    assert found == pytest.approx(scores_of(place.engine("nnn"), texts=["caption 3"]), abs=1e-6)
    rows = some_rows(8)
    pairs = write_parquet(tmp_path / "pairs.parquet", [row[1] for row in rows], [list(row[2]) for row in rows])
    ran = cli("eval", "--dataset", pairs, "--task", "zeroshot_retrieval", *use)
    assert ran.code == 0, ran.err
    (place.folder / "odd" / "001.jpg").unlink()
    for kept in (place.home / "galleries" / "g" / "fits").iterdir():
        kept.unlink()
    ran = cli("search", "g", "--text", "caption 3", *use)
    assert ran.code == 3 and "1 are gone: odd/001.jpg" in ran.err and not ran.out


def test_a_purge_deletes_projected_anchors_and_items(place: Place) -> None:
    scores_of(place.engine("nnn"), texts=["x"])
    folders = [place.home / "anchors" / "toy" / "fits", place.home / "galleries" / "g" / "fits"]
    assert all(list(folder.glob("*.safetensors")) for folder in folders)
    purge_pairs("toy", ["id-003"], home=place.home)
    assert not [path for folder in folders for path in folder.glob("*") if b"freeze-align-tokens" in path.read_bytes()]
