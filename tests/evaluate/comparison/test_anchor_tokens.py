"""The method that is trained on tokens: its data are the tokens of the same pairs, folds, queries and test data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.build_fakes import TokenImages, TokenTexts, build_set, list_source, some_rows, write_parquet
from support.running import Cli

from asif.anchorset.tokens.token_rows import TokenRows
from asif.engine import Engine
from asif.engine.captions import encode_single_captions
from asif.engine.encoder_pool import EncoderPool
from asif.errors import UsageError
from asif.evaluate.comparison.anchor_tokens import AnchorTokens, open_tokens_of
from asif.evaluate.comparison.methods import TRAINED_SETTINGS, Sample
from asif.evaluate.comparison.training import MethodTraining
from asif.rivals import FreezeAlignTokens
from asif.rivals.token_lookup import FittedTokensByVector, TokenLookup, TokenRecordingPool, read_tokens
from asif.tuning import AnchorSubset
from asif.vectors import Embeddings

SETTING = "freeze-align-tokens(width=8,epochs=2,batch=8)"
COUNT = 40


@pytest.fixture
def store(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for room in ("encoder_pool", "build"):
        monkeypatch.setattr(f"asif.engine.{room}.load_image_encoder", lambda *_: TokenImages())
        monkeypatch.setattr(f"asif.engine.{room}.load_text_encoder", lambda *_: TokenTexts())
    monkeypatch.setitem(TRAINED_SETTINGS, "freeze-align-tokens", (SETTING,))
    build_set(list_source(*some_rows(COUNT)), home).anchors.close()
    rows = some_rows(COUNT)
    write_parquet(tmp_path / "pairs.parquet", [row[1] for row in rows], [list(row[2]) for row in rows])
    return home


@pytest.fixture
def lookup(tmp_path: Path) -> Iterator[TokenLookup]:
    with TokenLookup(tmp_path) as found:
        yield found


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    images = [f"test {at}".encode() for at in range(12)]
    return write_parquet(tmp_path / "captioned.parquet", images, [[f"word {at}", f"two {at}"] for at in range(12)])


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    images = [f"picture {at}".encode() for at in range(14)]
    labels = ["cat", "dog", "cow", "hen", "fox", "owl", "bee"] * 2
    cells: Any = {"label": labels}
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"image": [{"bytes": each, "path": None} for each in images], **cells}), tmp_path / "l.parquet"
    )
    return tmp_path / "l.parquet"


def compare(cli: Cli, out: Path, *more: Any) -> dict[str, Any]:
    ran = cli("compare", "--anchors", "toy", "--out", out, "--seconds", "1000", "--seeds", "1", *more)
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


def open_tokens(store: Path, tmp_path: Path, lookup: TokenLookup) -> tuple[Engine, AnchorTokens]:
    engine = Engine("toy", home=store)
    tokens = open_tokens_of(engine, str(tmp_path / "pairs.parquet"), lambda size, place: None)
    return engine, AnchorTokens.of(tokens, engine.anchor_set, encode_single_captions(engine), lookup)


@pytest.mark.slow
def test_both_kinds_of_data(store: Path, cli: Cli, captioned: Path, labelled: Path, tmp_path: Path) -> None:
    data = ("--eval", captioned, "--eval", labelled, "--methods", "procrustes,freeze-align-tokens")
    found = compare(cli, tmp_path / "out", *data, "--pairs", "30", "--tokens", tmp_path / "pairs.parquet")
    runs = {(run["method"], run["pairs"], run["task"]): run for run in found["runs"]}
    assert len(runs) == len(found["runs"]) == 4
    for (method, pairs, task), run in runs.items():
        other = runs["procrustes", pairs, task]
        assert [result["dataset"] for result in run["results"]] == [result["dataset"] for result in other["results"]]
        if method != "procrustes":
            assert run["setting"] == SETTING and run["trained_parameters"] > 0 and not run["reads_words"]
            assert run["deletion"]["how"] == "trained again" and run["tuning"]["trials"] == 1
            assert run["tuning"]["questions"] == other["tuning"]["questions"]
    entry = next(each for each in found["methods"] if each["name"] == "freeze-align-tokens")
    assert entry["kind"] == "trained"
    assert not list((tmp_path / "out").glob("tmp*"))
    again = compare(cli, tmp_path / "out", *data, "--pairs", "30")  # tokens that are there are found
    assert again["runs"] == found["runs"]
    folder = compare(cli, tmp_path / "out", *data, "--pairs", "30", "--tokens", store / "cache" / "tokens" / "toy")
    assert folder["runs"] == found["runs"]


def test_figures_are_those_of_the_projected_tokens(store: Path, lookup: TokenLookup, tmp_path: Path) -> None:
    """Test data are represented by all of their tokens, rounded as tokens are kept."""
    _, tokens = open_tokens(store, tmp_path, lookup)
    sample = Sample.of(AnchorSubset.of(Engine("toy", home=store).anchors, np.arange(COUNT)), None, 0, tokens=tokens)
    training = MethodTraining((SETTING,), sample, ("search", "classify"), 0, 100.0)
    fitted = training.fit(training.choose("search")).fitted
    assert isinstance(fitted, FittedTokensByVector)
    engine = Engine(
        "toy", home=store, encoders=TokenRecordingPool(EncoderPool(store / "cache", "cpu", "torch"), lookup)
    )
    contents = [b"test 1", b"test 2", b"test 3"]
    vectors = np.stack([row for row in engine.encode_images(contents) if isinstance(row, np.ndarray)])
    for given in (Embeddings(vectors), Embeddings.from_raw(vectors)):
        rows = fitted.represent("image", given).values
        np.testing.assert_allclose(
            rows, fitted.represent_tokens("image", TokenImages().tokens(contents)).values, atol=5e-3
        )
    texts = engine.encode_texts(["word 1", "two 2"])
    one, two = fitted.represent_tokens("text", TokenTexts().tokens(["word 1", "two 2"])).values
    np.testing.assert_allclose(fitted.represent("text", texts).values, [one, two], atol=5e-3)
    label = Embeddings.from_raw(texts.values.mean(axis=0), (("word 1", "two 2"),))
    mean = (one + two) / np.linalg.norm(one + two)
    np.testing.assert_allclose(fitted.represent("text", label).values, [mean], atol=5e-3)
    with pytest.raises(UsageError, match="a vector of images whose tokens are not known"):
        fitted.represent("image", Embeddings.from_raw(np.ones((1, 6))))


def test_the_final_network_is_that_of_all_pairs(store: Path, lookup: TokenLookup, tmp_path: Path) -> None:
    """It is trained on the tokens of the sample's pairs alone, and its query bank are these."""
    _, tokens = open_tokens(store, tmp_path, lookup)
    rows = np.arange(5, 35)
    subset = AnchorSubset.of(Engine("toy", home=store).anchors, rows)
    sample = Sample.of(subset, None, 0, tokens=tokens.select_rows(rows))
    training = MethodTraining((SETTING,), sample, ("search",), 0, 100.0)
    choice = training.choose("search")
    fitted = training.fit(choice).fitted
    projector = FreezeAlignTokens(width=8, epochs=2, batch=8)
    pairs = tokens.select_rows(rows).prepare_pairs()
    assert len(pairs) == 30
    schedule = projector.resolve(30).build_schedule(30)
    whole = projector.train_steps(pairs, schedule, max(1, round(choice.share * schedule.steps)))
    assert isinstance(fitted, FittedTokensByVector)
    assert all(np.array_equal(fitted.weights[name], value) for name, value in whole.weights.items())
    assert fitted.represent_anchors("image", 100).values.shape == (30, 8)
    stored = Embeddings(np.asarray(subset.sides["image"], np.float32))
    np.testing.assert_allclose(fitted.represent("image", stored).values, fitted.anchor_rows["image"], atol=1e-6)


def test_noise_is_as_strong_in_tokens_as_in_vectors(lookup: TokenLookup) -> None:
    random = np.random.default_rng(0)
    tokens = TokenRows.of(list(random.normal(size=(3, 7, 400))), random.normal(size=(3, 300)).astype(np.float32))
    clean, noisy = np.eye(3, dtype=np.float32), 2 * np.eye(3, dtype=np.float32)
    lookup.add("image", clean, tokens, np.arange(3))
    lookup.add_noisy(clean, noisy, 5, 0.3)
    before, after = (
        read_tokens([each[0] for each in lookup.find("image", Embeddings(rows))]) for rows in (clean, noisy)
    )
    for plain, mixed in ((before.values, after.values), (before.pooled, after.pooled)):
        lengths = np.linalg.norm(plain, axis=-1), np.linalg.norm(mixed, axis=-1)
        cosines = (plain * mixed).sum(axis=-1) / (lengths[0] * lengths[1])
        assert abs(cosines.mean() - 0.3) < 0.05 and np.allclose(lengths[0], lengths[1], rtol=0.1)
    means = before.values.mean(axis=1), after.values.mean(axis=1)
    assert (
        np.linalg.norm(means[1] - 0.3 * means[0], axis=-1).min() > 0.8 * np.linalg.norm(before.values, axis=-1).mean()
    )
    again = read_tokens([each[0] for each in lookup.find("image", Embeddings(noisy))])
    assert np.array_equal(again.values, after.values) and not np.array_equal(after.values[0], after.values[1])


def test_tokens_that_are_missing(store: Path, cli: Cli, captioned: Path, tmp_path: Path) -> None:
    base = ("compare", "--anchors", "toy", "--eval", captioned, "--out", tmp_path / "out", "--seeds", "1")
    ran = cli(*base, "--methods", "asif", "--tokens", tmp_path / "pairs.parquet")
    assert ran.code == 2 and "--tokens without a method of tokens" in ran.err
    ran = cli(*base, "--methods", "freeze-align-tokens")
    assert ran.code == 2 and "there are no tokens in" in ran.err
    rows = some_rows(COUNT)[:30]
    few = write_parquet(tmp_path / "few.parquet", [row[1] for row in rows], [list(row[2]) for row in rows])
    ran = cli(*base, "--methods", "freeze-align-tokens", "--tokens", few)
    assert ran.code == 3 and "10 of the 40 anchors of toy@1 have no tokens" in ran.err
