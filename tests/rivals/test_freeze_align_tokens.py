"""freeze-align on tokens: the published formulas, what one token alone says, and what is killed and taken up again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import erf
from support.build_fakes import TokenImages, TokenTexts, build_set, list_source, some_rows, write_parquet
from support.engine_sets import make_precomputed
from support.examples import examples
from support.running import Cli

from asif.aligners import make_aligner
from asif.anchorset import Store
from asif.anchorset.tokens.pair_tokens import PairTokens, open_tokens
from asif.anchorset.tokens.token_rows import TokenRows
from asif.engine import Engine
from asif.errors import InputRefused, Interrupted, NotFound, Stale, UsageError
from asif.pairs import PairRecord
from asif.rivals import FittedTokens, FreezeAlign, FreezeAlignTokens, TokenPairs, TrainingPairs, load_projector
from asif.rivals.token_encoding import estimate_token_bytes, tokens_from_pairs
from asif.rivals.train import TrainingResult
from asif.rivals.train_tokens import train_on_tokens
from asif.vectors import Embeddings, Side, Tokens

DIMS = {"image": 5, "text": 3, "pooled": 6}
SMALL = FreezeAlignTokens(width=8, batch=8, epochs=9)
Array = NDArray[Any]


def fitted(seed: int = 0) -> FittedTokens:
    """Make a projector of random weights, scales and shifts of its norms included."""
    random = np.random.default_rng(seed)
    weights = {
        f"{side}.{name}": random.normal(size=value.shape).astype(np.float32)
        for side, network in SMALL.build_networks(DIMS).items()
        for name, value in network.state_dict().items()
    }
    return SMALL.build_fitted(DIMS, weights)


def some_tokens(side: Side, counts: Sequence[int], seed: int = 0) -> Tokens:
    random = np.random.default_rng(seed)
    rows = [random.normal(size=(count, DIMS[side])) for count in counts]
    return Tokens.padded(rows, random.normal(size=(len(counts), DIMS["pooled"])).astype(np.float32))


def norm(rows: Array, weights: Mapping[str, Array], name: str) -> Array:
    centred = rows - rows.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(rows: Array, weights: Mapping[str, Array], name: str) -> Array:
    return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def gelu(rows: Array) -> Array:
    return rows * (1 + erf(rows / np.sqrt(2))) / 2


def projection(rows: Array, weights: Mapping[str, Array], name: str) -> Array:
    """P of the paper: LayerNorm, then a linear map plus linear, GELU, linear."""
    rows = norm(rows, weights, f"{name}.before.0")
    bent = linear(gelu(linear(rows, weights, f"{name}.bent.0")), weights, f"{name}.bent.2")
    return linear(rows, weights, f"{name}.straight") + bent


def by_the_paper(made: FittedTokens, side: Side, tokens: Tokens) -> Array:
    """Project token by token, one input after another, in float64."""
    weights = {name: value.astype(np.float64) for name, value in made.weights.items()}
    found = []
    for values, mask, pooled in zip(tokens.values, tokens.mask, tokens.pooled, strict=True):
        every = [token.astype(np.float64) for token, there in zip(values, mask, strict=True) if there]
        if side == "image":
            local = np.mean([projection(token, weights, "image.local") for token in every], axis=0)
            one = local + projection(pooled.astype(np.float64), weights, "image.whole")
        else:
            mean = np.mean([projection(token, weights, "text.headed.projection") for token in every], axis=0)
            mapped = linear(mean, weights, "text.headed.first")
            one = norm(mapped + linear(gelu(mapped), weights, "text.headed.second.1"), weights, "text.headed.after")
        found.append(one / np.linalg.norm(one))
    return np.array(found)


# the formulas


@pytest.mark.parametrize("side", ["image", "text"])
def test_the_formulas_of_the_paper(side: Side) -> None:
    tokens = some_tokens(side, [1, 4, 7, 2])
    found = fitted().represent_tokens(side, tokens).values
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_the_paper(fitted(), side, tokens), atol=2e-6)


@pytest.mark.parametrize("side", ["image", "text"])
def test_what_is_trained_is_the_same_formula(side: Side) -> None:
    """The networks themselves, as the trainer runs them, many at a time; finite values under the mask count nothing."""
    import torch

    tokens = some_tokens(side, [1, 4, 7, 2])
    values = np.where(tokens.mask[..., None], tokens.values, np.float32(123))
    network = fitted()._networks[side]
    given = [values, tokens.mask, *([tokens.pooled] if side == "image" else [])]
    with torch.inference_mode():
        found = network(*map(torch.from_numpy, given)).numpy()
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(found, by_the_paper(fitted(), side, tokens), atol=2e-6)


@pytest.mark.slow
@settings(deadline=None, max_examples=examples(30))
@given(st.sampled_from(["image", "text"]), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 4))
def test_padding_and_company_change_no_bit(side: Side, counts: list[int], more: int) -> None:
    tokens, made = some_tokens(side, counts, seed=len(counts)), fitted()
    together = made.represent_tokens(side, tokens).values
    room = ((0, 0), (more, 2), (0, 0))
    wider = Tokens(np.pad(tokens.values, room, constant_values=np.nan), np.pad(tokens.mask, room[:2]), tokens.pooled)
    assert np.array_equal(made.represent_tokens(side, wider).values, together)
    for row in range(len(counts)):
        alone = Tokens(tokens.values[row : row + 1], tokens.mask[row : row + 1], tokens.pooled[row : row + 1])
        assert np.array_equal(made.represent_tokens(side, alone).values[0], together[row])


# what is trained on


def record(image: str, *captions: str) -> PairRecord:
    return PairRecord(f"{image} {captions[0]}", captions, image * 64)


def in_memory(records: Sequence[PairRecord], seed: int = 0) -> PairTokens:
    random = np.random.default_rng(seed)
    images, texts = len(records), sum(len(each.captions) for each in records)
    image = TokenRows.of(list(random.normal(size=(images, 4, 5))), random.normal(size=(images, 6)).astype(np.float32))
    counts = random.integers(1, 5, texts)
    text = TokenRows.of(
        [random.normal(size=(count, 3)) for count in counts], random.normal(size=(texts, 4)).astype(np.float32)
    )
    return PairTokens(image, text, tuple(records), (), {"source": "memory"})


def test_anchors_are_found_by_image_and_caption() -> None:
    """Pairs of one image are one image; captions that no anchor has are left out, anchors without tokens counted."""
    tokens = in_memory([record("b", "one", "two"), record("a", "two"), record("b", "three"), record("c", "four")])
    anchors = [record("a", "two"), record("b", "three"), record("b", "one"), record("d", "one"), record("c", "two")]
    pairs, missing = TokenPairs.of(tokens, anchors)
    assert missing == 2 and pairs.dims == {"image": 5, "text": 3, "pooled": 6}
    assert pairs.images.tolist() == [0, 1] and pairs.texts.tolist() == [0, 3, 2] and pairs.owners.tolist() == [0, 0, 1]
    assert TokenPairs.of(tokens, [record("d", "one")])[0].images.tolist() == []


def test_equal_captions_are_right_for_each_other() -> None:
    tokens = in_memory([record("a", "x", "y"), record("b", "y"), record("c", "z")])
    pairs, _ = TokenPairs.of(tokens, tokens.records)
    assert pairs.text_groups.tolist() == [0, 1, 1, 2]
    assert pairs.matches.astype(int).tolist() == [[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]


def test_rows_are_read_for_their_networks() -> None:
    tokens = in_memory([record(letter, "x", "y") for letter in "abcdef"])
    pairs = TokenPairs.of(tokens, tokens.records)[0].select_images(np.array([1, 3, 4]))
    values, mask, pooled = pairs.reader("image", "cpu")(np.array([2, 0]))
    kept = tokens.image.read([4, 1])
    assert np.array_equal(values, kept.values) and mask.all() and np.array_equal(pooled, kept.pooled)
    values, mask = pairs.reader("text", "cpu")(np.array([5, 0]))
    assert np.array_equal(values, tokens.text.read([9, 2]).values) and np.array_equal(
        mask, tokens.text.read([9, 2]).mask
    )


def signal(count: int) -> TokenPairs:
    """Make images and texts that share a code, written in one of their tokens; the rest, and `pooled`, is noise."""
    random = np.random.default_rng(0)
    codes, sides = random.normal(size=(count, 6)), []
    for length in (6, 4):
        rows = np.concatenate([np.zeros((count, length, 6)), random.normal(size=(count, length, 2))], axis=2)
        rows[np.arange(count), random.integers(0, length, count)] = np.pad(3 * codes, ((0, 0), (0, 2)))
        sides.append(TokenRows.of(list(rows), random.normal(size=(count, 4)).astype(np.float32)))
    records = tuple(PairRecord(str(at), (str(at),), f"{at:064}") for at in range(count))
    return TokenPairs.of(PairTokens(sides[0], sides[1], records, (), {}), records)[0]


@pytest.mark.slow
def test_one_token_says_it_all() -> None:
    """Held-out images are found where the code is in one token; the CLS form, which sees the vectors, has a guess."""
    pairs = signal(300)
    image, text = (Embeddings.from_raw(rows.pooled).values for rows in (pairs.tokens.image, pairs.tokens.text))
    how: dict[str, Any] = {"width": 32, "epochs": 40, "batch": 64, "rate": 0.01}
    recall = FreezeAlignTokens(**how).train(pairs)[1].best.recall
    guess = FreezeAlign(**how).train(TrainingPairs(image, text, pairs.owners))[1].best.recall
    assert recall > 0.8 and guess < 0.2  # of 30 held-out images


# killed and taken up


@pytest.mark.slow
def test_training_that_goes_on_ends_the_same() -> None:
    states: list[Any] = []
    whole, run = SMALL.train(signal(60), keep=states.append)
    again, other = SMALL.train(signal(60), resume=states[len(states) // 2])
    assert 0 < states[len(states) // 2]["step"][0] < run.evaluations[-1].step
    assert run.evaluations == other.evaluations
    assert all(np.array_equal(whole.weights[name], again.weights[name]) for name in whole.weights)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let engines and builds load fake encoders that have tokens."""
    for room in ("encoder_pool", "build"):
        monkeypatch.setattr(f"asif.engine.{room}.load_image_encoder", lambda *_: TokenImages())
        monkeypatch.setattr(f"asif.engine.{room}.load_text_encoder", lambda *_: TokenTexts())


def trained(home: Path, rows: int = 30, pairs: int = 30, **options: Any) -> TrainingResult:
    """Build the set `toy` of some rows, and train on the tokens of some."""
    build_set(list_source(*some_rows(rows)), home).anchors.close()
    return train_on_tokens("toy", SMALL, list_source(*some_rows(pairs)), home=home, device="cpu", **options)


def content(training: TrainingResult) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in training.fitted.arrays().items()}


@pytest.mark.usefixtures("loaded")
def test_kept_and_loaded_it_scores_the_same(home: Path) -> None:
    sizes: list[int] = []
    found = trained(home, announce=lambda size, place: sizes.append(size))
    assert (found.images, found.texts, found.missing, found.resumed_at) == (30, 45, 0, 0)
    assert sizes == [estimate_token_bytes(list_source(*some_rows(30)), TokenImages(), TokenTexts())]
    again = load_projector(FreezeAlignTokens(), found.anchors)
    assert isinstance(again, FittedTokens) and again.parameters == found.fitted.parameters and again.dims == DIMS
    assert isinstance(found.fitted, FittedTokens)
    for side, tokens in (("image", TokenImages().tokens([b"x", b"y"])), ("text", TokenTexts().tokens(["x", "y z"]))):
        known, new = (each.represent_tokens(side, tokens).values for each in (found.fitted, again))  # type: ignore[arg-type]
        assert np.array_equal(known, new) and len(new) == 2
    assert content(trained(home, announce=lambda size, place: sizes.append(size))) == content(found)
    assert len(sizes) == 1  # tokens that are there are not written again


@pytest.mark.usefixtures("loaded")
def test_a_killed_run_goes_on_in_the_store(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.rivals.train.SECONDS_BETWEEN_SAVES", 0.0)
    looks: list[int] = []

    def stop(look: Any) -> None:
        looks.append(look.step)
        if len(looks) == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"freeze-align-tokens was stopped; 2 steps are saved"):
        trained(home, progress=stop)
    found = trained(home)
    assert found.resumed_at == 2
    assert content(found) == content(trained(tmp_path / "elsewhere"))
    assert not list((home / "cache" / "training").iterdir())


@pytest.mark.usefixtures("loaded")
def test_what_was_interrupted_on_other_tokens_is_not_taken_up(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asif.rivals.train.SECONDS_BETWEEN_SAVES", 0.0)

    def stop(look: Any) -> None:
        if look.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        trained(home, pairs=25, progress=stop)
    assert trained(home, folder=tmp_path / "tokens").resumed_at == 0


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(("captions", "texts"), [("mean", 45), ("first", 30), ("all", 45)])
def test_captions_as_the_anchors_have_them(home: Path, captions: str, texts: int) -> None:
    build_set(list_source(*some_rows(30)), home, captions=captions).anchors.close()
    found = train_on_tokens("toy", SMALL, list_source(*some_rows(30)), home=home, device="cpu")
    assert (found.images, found.texts, found.missing) == (30, texts, 0)


@pytest.mark.usefixtures("loaded")
def test_anchors_whose_pairs_are_elsewhere(home: Path, tmp_path: Path) -> None:
    found = trained(home, pairs=12, folder=tmp_path / "tokens")
    assert (found.images, found.texts, found.missing) == (12, 18, 18)
    kept = open_tokens(tmp_path / "tokens", {"image": TokenImages().fingerprint, "text": TokenTexts().fingerprint})
    assert len(kept.image) == 12
    with pytest.raises(InputRefused, match=r"9 of the 30 anchors of toy@[0-9]+ are among a list, with 9 images"):
        trained(home, pairs=9)
    with pytest.raises(InputRefused, match="holds the tokens of another input"):
        trained(home)


@pytest.mark.usefixtures("loaded")
def test_anchors_that_changed(home: Path) -> None:
    """Each error names the command that trains this form."""
    command = "asif train-freeze-align --tokens PAIRS --anchors toy"
    first = build_set(list_source(*some_rows(30)), home).anchors
    with pytest.raises(NotFound, match=command):
        load_projector(FreezeAlignTokens(), first)
    trained(home)
    changed = build_set(list_source(*some_rows(29)), home).anchors
    with pytest.raises(Stale, match=command):
        load_projector(FreezeAlignTokens(), changed)
    with pytest.raises(NotFound, match="no freeze-align was trained"):  # one form is not the other
        load_projector(FreezeAlign(), first)


# refusals


@pytest.mark.parametrize(
    ("ask", "came"),
    [
        (lambda: fitted().represent("image", Embeddings.from_raw(np.ones((2, 5)))), "single vectors of 2 images"),
        (lambda: SMALL.fit(None), "was to be fitted to anchors"),  # type: ignore[arg-type]
    ],
)
def test_single_vectors_are_refused(ask: Callable[[], Any], came: str) -> None:
    with pytest.raises(UsageError, match=came) as error:
        ask()
    assert "all tokens" in str(error.value) or "tokens of their pairs" in str(error.value)
    assert "--aligner freeze-align" in str(error.value)


@pytest.mark.parametrize(("side", "which"), [("image", "image"), ("text", "text"), ("image", "pooled")])
def test_tokens_of_another_encoder_are_refused(side: Side, which: str) -> None:
    tokens = some_tokens(side, [2, 3])
    odd = Tokens(tokens.values[..., :2], tokens.mask, tokens.pooled)
    if which == "pooled":
        odd = Tokens(tokens.values, tokens.mask, tokens.pooled[:, :2])
    with pytest.raises(UsageError, match=f"{which} tokens have 2 dimensions, those it was trained on {DIMS[which]}"):
        fitted().represent_tokens(side, odd)


@pytest.mark.usefixtures("loaded")
def test_an_engine_encodes_tokens_for_this_form(home: Path) -> None:
    from asif.classify import Labels

    training = trained(home)
    engine = Engine("toy", home=home, aligner=make_aligner("freeze-align-tokens"))
    images, texts = [b"image 1", b"image 2", b"image 3"], ["cat", "dog"]
    fitted, anchors = training.fitted, engine.anchors
    assert isinstance(fitted, FittedTokens)
    image, text = (Engine("toy", home=home).image_encoder(anchors), Engine("toy", home=home).text_encoder(anchors))
    x = fitted.represent_tokens("image", image.tokens([image.prepare(each) for each in images])).values
    y = fitted.represent_tokens("text", text.tokens(texts)).values
    results = list(engine.classify(images, Labels(("cat", "dog"))))
    for result, row in zip(results, x @ y.T, strict=True):
        assert {each.label: each.score for each in result.predictions} == pytest.approx(
            dict(zip(texts, map(float, row), strict=True)), abs=1e-6
        )
    scores = next(engine.score_blocks("text", engine.encode_texts(["dog", "cat", "dog"]), embed(engine, images)))
    np.testing.assert_allclose(scores, (y @ x.T)[[1, 0, 1]], atol=1e-6)
    with pytest.raises(UsageError, match="freeze-align-tokens in the sum"):
        make_aligner("asif+freeze-align-tokens")


def embed(engine: Engine, images: list[bytes]) -> Embeddings:
    return Embeddings(np.stack([row for row in engine.encode_images(images) if isinstance(row, np.ndarray)]))


@pytest.mark.usefixtures("loaded")
def test_stored_vectors_are_refused(home: Path) -> None:
    trained(home)
    engine = Engine("toy", home=home, aligner=make_aligner("freeze-align-tokens"))
    stored = Embeddings.from_raw(np.asarray(engine.anchors.blocks("image")[0][:2], np.float32))
    with pytest.raises(UsageError, match="freeze-align-tokens was given single vectors of 2 images"):
        engine.role().fitted.represent("image", stored)
    with pytest.raises(NotFound, match="asif train-freeze-align --tokens PAIRS"):
        Engine("toy", home=home, aligner=make_aligner("freeze-align-tokens(width=99)"))


def test_scores_cannot_be_taken_apart() -> None:
    with pytest.raises(UsageError, match="the scores of freeze-align-tokens cannot be taken apart"):
        fitted().split_score(None, None)


def test_anchors_of_precomputed_vectors(home: Path, tmp_path: Path) -> None:
    make_precomputed(tmp_path / "vectors", home).close()
    with pytest.raises(UsageError, match="an anchor set of precomputed vectors"):
        train_on_tokens("vectors", SMALL, list_source(*some_rows(12)), home=home)


# the command


@pytest.mark.usefixtures("loaded")
def test_the_command(cli: Cli, home: Path, tmp_path: Path) -> None:
    rows = some_rows(30)
    source = write_parquet(tmp_path / "pairs.parquet", [row[1] for row in rows], [list(row[2]) for row in rows])
    assert cli("build-anchors", source, "--name", "toy").code == 0
    asked = ("train-freeze-align", "--anchors", "toy", "--tokens", source, "--width", 8, "--epochs", 4, "--batch", 8)
    ran = cli(*asked, "--json")
    assert ran.code == 0, ran.err
    assert "the tokens will take about" in ran.err and str(home / "cache" / "tokens" / "toy") in ran.err
    assert ran.json["aligner"] == "freeze-align-tokens" and ran.json["parameters"]["epochs"] == 4
    assert (ran.json["images"], ran.json["texts"], ran.json["anchors_without_tokens"]) == (30, 45, 0)
    few = tmp_path / "splits"
    few.mkdir()
    for name, some in (("train", rows[:20]), ("test", rows[20:])):
        write_parquet(few / f"{name}.parquet", [row[1] for row in some], [list(row[2]) for row in some])
    ran = cli(*asked[:4], few, *asked[5:], "--token-dir", tmp_path / "tokens")
    assert ran.code == 3 and "holds the splits test, train" in ran.err
    ran = cli(*asked[:4], few, *asked[5:], "--token-dir", tmp_path / "tokens", "--split", "train")
    assert ran.code == 0 and "left out: 10 of 30 anchors" in ran.out
    assert "use them: --anchors toy@1 --aligner freeze-align-tokens" in ran.out
    use = ("--anchors", "toy", "--aligner", "freeze-align-tokens")
    found = cli("eval", "--dataset", source, "--task", "zeroshot_retrieval", *use, "--json")
    assert found.code == 0, found.err
    assert (found.json["aligner"], found.json["counts"]["images"]) == ("freeze-align-tokens", 30)
    assert "images_near_anchors" not in found.json["counts"]  # not known in this space
    assert found.json["counts"]["images_among_anchors"] == 30
    assert cli("eval", "--dataset", source, "--task", "zeroshot_retrieval", *use).code == 0
    assert (tmp_path / "tokens" / "header.json").exists()
    assert Store(home).open("toy").cached_aligners("freeze-align-tokens")


@pytest.mark.parametrize("idle", [("--token-dir", "x"), ("--column", "image=photo"), ("--split", "train")])
def test_options_that_need_tokens(cli: Cli, home: Path, idle: Sequence[str]) -> None:
    ran = cli("train-freeze-align", "--anchors", "toy", *idle)
    assert ran.code == 2 and f"{idle[0]} without --tokens" in ran.err


@pytest.mark.usefixtures("loaded")
def test_the_vector_form_is_still_the_usual_one(cli: Cli, home: Path) -> None:
    build_set(list_source(*some_rows(30)), home).anchors.close()
    ran = cli("train-freeze-align", "--anchors", "toy", "--width", 8, "--epochs", 2, "--json")
    assert ran.code == 0 and ran.json["aligner"] == "freeze-align" and "anchors_without_tokens" not in ran.json


@pytest.mark.realdata
def test_real_pairs(realdata: Path, tmp_path: Path, image_encoder: Any, text_encoder: Any) -> None:
    """150 pairs are few, but held-out images are found far better than by chance."""
    from support.build_fakes import ListSource

    from asif.pairs import open_pairs

    source = open_pairs(realdata / "flickr8k/dev.parquet")
    some = ListSource([item for item, _ in zip(source.read(), range(150), strict=False)])
    tokens = tokens_from_pairs(some, image_encoder, text_encoder, tmp_path / "tokens")
    pairs, missing = TokenPairs.of(tokens, tokens.records)
    _, run = FreezeAlignTokens(width=64, epochs=30, batch=32).train(pairs)
    assert missing == 0 and len(pairs) == 150
    assert run.best.rank > 2 * np.mean(1 / np.arange(1, 16))  # twice what a guess among 15 has
