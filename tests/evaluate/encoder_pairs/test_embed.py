"""Pairs that are embedded with several encoders, each row once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.encoder_pairs import FOUR, Meaning, vectors, write
from support.running import Cli

from asif.aligners.sampling import choose_evenly_spaced
from asif.evaluate.encoder_pairs.embed import encode_pairs
from asif.pairs import open_pairs
from asif.vectors import Embeddings


def test_each_row_is_embedded_once_with_each_encoder(encoders: Cli, loaded: dict[str, Meaning], pairs: Path) -> None:
    assert encoders("compare", pairs, *FOUR, "--limit", 20).code == 0
    rows = choose_evenly_spaced(60, 20).tolist()
    for spec, encoder in loaded.items():
        images = [f"{row} a picture" for row in rows]
        texts = [f"{row} {which}" for row in rows for which in ("one", "two")]
        assert sorted(encoder.seen) == sorted(images if spec.startswith("timm") else texts)


def test_parts_of_joins_embed_each_row_once(encoders: Cli, loaded: dict[str, Meaning], pairs: Path) -> None:
    """Joins that are named, or asked for by --joins, are joined from the vectors of their parts."""
    join, names = "timm:0.3+timm:1", ("--text-encoder", "sentence-transformers:0.1", "--k", 5, "--permutations", 3)
    ran = encoders("compare", pairs, "--image-encoder", join, "--image-encoder", "timm:3", *names, "--json")
    assert {line["image"]["encoder"]: line["image"]["dim"] for line in ran.lines} == {join: 24, "timm:3": 12}
    assert sorted(loaded) == ["sentence-transformers:0.1", "timm:0.3", "timm:1", "timm:3"]
    assert all(len(encoder.seen) == (60 if spec.startswith("timm") else 120) for spec, encoder in loaded.items())
    by_spec = {line["image"]["encoder"]: line for line in ran.lines}
    three = [word for spec in ("timm:0.3", "timm:1", "timm:3") for word in ("--image-encoder", spec)]
    every = encoders("compare", pairs, *three, *names, "--joins", "--json").lines
    found = {line["image"]["encoder"]: line for line in every}
    assert set(found) == {*three[1::2], join, "timm:0.3+timm:3", "timm:1+timm:3", "timm:0.3+timm:1+timm:3"}
    for line in (by_spec[join], found[join]):
        line.pop("rank")
    assert by_spec[join] == found[join]


def test_captions_first_or_their_mean(loaded: dict[str, Meaning], pairs: Path) -> None:
    source = open_pairs(pairs)
    names = (["timm:0"], ["sentence-transformers:1"])
    first, mean = (encode_pairs(source, *names, 60, captions).texts[0] for captions in ("first", "mean"))
    encoder = loaded["sentence-transformers:1"]
    one, two = (Embeddings.from_raw(encoder.forward([f"{at} {word}" for at in range(60)])) for word in ("one", "two"))
    np.testing.assert_allclose(first.values, one.values, atol=1e-6)
    np.testing.assert_allclose(mean.values, Embeddings.from_raw(one.values + two.values).values, atol=1e-6)


def test_unusable_rows_are_left_out_for_all_and_counted(
    encoders: Cli, loaded: dict[str, Meaning], tmp_path: Path
) -> None:
    contents = [f"{at} a picture" for at in range(30)]
    contents[3], contents[7] = "bad", "7 odd"
    folder = write(tmp_path / "bad", contents)
    ran = encoders("compare", folder, *FOUR, "--json")
    assert ran.code == 0 and all(line["pairs"] == 28 for line in ran.lines)
    assert "2 rows left out, 28 compared (row 3: a bad image; row 7: not finite)" in ran.err
    good = [word for at, word in enumerate(contents) if at not in {3, 7}]
    seen = encode_pairs(open_pairs(folder), ["timm:0"], ["sentence-transformers:0"], 30)
    expected = Embeddings.from_raw(loaded["timm:0"].forward(good)).values
    np.testing.assert_allclose(seen.images[0].values, expected, atol=1e-6)
    hopeless = write(tmp_path / "hopeless", ["bad"] * 5)
    ran = encoders("compare", hopeless, *FOUR)
    assert (ran.code, ran.out) == (3, "")
    assert "no pair that can be used: row 0: a bad image" in ran.err


def test_vectors_need_no_encoder_and_take_no_encoder_options(encoders: Cli, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shared = random.standard_normal((40, 4))
    folder = vectors(tmp_path / "v", 100 * shared @ random.standard_normal((4, 9)), shared)
    (line,) = encoders("compare", folder, "--json", "--k", 4).lines
    assert line["image"]["encoder"] == line["text"]["encoder"] == "precomputed"
    assert (line["image"]["dim"], line["text"]["dim"], line["pairs"]) == (9, 4, 40)
    assert line["mutual_knn"]["z"] > 5
    ran = encoders("compare", folder, "--image-encoder", "timm:x", "--captions", "first")
    assert (ran.code, ran.out) == (2, "")
    assert "--image-encoder, --captions with precomputed vectors" in ran.err
