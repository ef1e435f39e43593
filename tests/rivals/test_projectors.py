"""Trained rivals: their mechanisms are the papers', they learn, they are kept with the anchors they were trained on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.engine_sets import fake_image, fake_text, make_set
from support.running import Cli

from asif.aligners import RIVALS, Fused, FusedMember, make_aligner
from asif.engine import Engine
from asif.errors import InputRefused, IntegrityError, Interrupted, NotFound, Stale, UsageError
from asif.rivals import Ape, FreezeAlign, FuseMix, Projector, TrainingPairs
from asif.rivals.networks import (
    Projection,
    TextProjection,
    build_adapter,
    build_perceptron,
    build_text_projection,
)
from asif.rivals.objective import compute_infonce_loss, mix_halves, rank_held_out_pairs
from asif.rivals.schedule import Schedule
from asif.rivals.train import encode_single_captions, train_projector
from asif.rivals.trained_projectors import find_trained
from asif.rivals.trainer import TrainingRun, train_networks
from asif.vectors import Embeddings, Float32

SMALL: dict[str, Projector] = {
    "ape": Ape(hidden=64, batch=64, steps=120, dropout=0.0, decay=0.0),
    "fusemix": FuseMix(blocks=1, expansion=2.0, width=32, batch=64, epochs=60, dropout=0.1),
    "freeze-align": FreezeAlign(width=32, batch=64, epochs=40, dropout=0.0),
}
every_projector = pytest.mark.parametrize("projector", SMALL.values(), ids=list(SMALL))


def related(count: int = 400, seed: int = 0, captions: int = 2, noise: float = 0.3) -> TrainingPairs:
    """Make images and captions of something with eight dimensions, each side seen through its own random map."""
    random = np.random.default_rng(seed)
    maps = np.random.default_rng(77)
    left, right = maps.standard_normal((8, 24)), maps.standard_normal((8, 16))
    hidden = random.standard_normal((count, 8))
    images = np.tanh(hidden @ left) + noise * random.standard_normal((count, 24))
    texts = np.tanh(np.repeat(hidden, captions, axis=0) @ right)
    texts = texts + noise * random.standard_normal(texts.shape)
    owners = np.repeat(np.arange(count), captions)
    return TrainingPairs(Embeddings.from_raw(images).values, Embeddings.from_raw(texts).values, owners)


def recall(scores: Float32, owners: Any) -> float:
    return float((owners[scores.argmax(axis=1)] == np.arange(len(scores))).mean())


# Pairs


def test_equal_images_are_one_image_with_all_its_texts(home: Path) -> None:
    rows = np.eye(3, dtype=np.float32)[[0, 1, 0, 2]]
    texts = np.eye(4, dtype=np.float32)
    anchors = dataclasses.make_dataclass("A", ["sides"], namespace={"blocks": lambda self, side: [self.sides[side]]})(
        {"image": rows, "text": texts}
    )
    pairs = TrainingPairs.of(anchors)
    assert pairs.images.tolist() == np.eye(3).tolist()
    assert pairs.owners.tolist() == [0, 0, 1, 2]
    assert pairs.texts.tolist() == texts[[0, 2, 1, 3]].tolist()


@given(st.lists(st.integers(1, 4), min_size=12, max_size=40), st.integers(0, 100))
def test_dividing_keeps_every_image_and_text_once(counts: list[int], seed: int) -> None:
    owners = np.repeat(np.arange(len(counts)), counts)
    images = np.arange(len(counts), dtype=np.float32)[:, None]
    texts = 100 * owners[:, None].astype(np.float32) + np.arange(len(owners))[:, None]
    pairs = TrainingPairs(images, texts, owners)
    learnt, held = pairs.split(seed)
    assert len(held) == max(2, len(counts) // 10)
    assert sorted([*learnt.images.ravel(), *held.images.ravel()]) == images.ravel().tolist()
    for part in (learnt, held):
        assert part.images[part.owners].ravel().tolist() == (part.texts.ravel() // 100 - 0).tolist() or all(
            int(image) == int(owners[np.flatnonzero(texts.ravel() == text)[0]])
            for image, text in zip(part.images[part.owners].ravel(), part.texts.ravel(), strict=True)
        )
        rows = np.arange(len(part))
        drawn = part.draw_texts(rows, np.random.default_rng(seed))
        assert part.owners[drawn].tolist() == rows.tolist()


# Mechanisms


def test_the_loss_is_the_mean_of_both_cross_entropies() -> None:
    random = np.random.default_rng(1)
    logits = 3 * random.standard_normal((5, 5))
    expected = 0.0
    for table in (logits, logits.T):
        for row in range(5):
            expected -= np.log(np.exp(table[row, row]) / np.exp(table[row]).sum()) / 10
    assert float(compute_infonce_loss(torch.tensor(logits), np.arange(5))) == pytest.approx(expected, rel=1e-6)


def test_equal_texts_are_right_for_each_others_images() -> None:
    random = np.random.default_rng(2)
    logits, same = 2 * random.standard_normal((4, 4)), np.array([7, 3, 7, 5])
    expected = 0.0
    for table in (logits, logits.T):
        for row in range(4):
            right = [other for other in range(4) if same[other] == same[row]]
            logs = table[row] - np.log(np.exp(table[row]).sum())
            expected -= logs[right].mean() / 8
    assert float(compute_infonce_loss(torch.tensor(logits, dtype=torch.float32), same)) == pytest.approx(
        expected, rel=1e-5
    )


def test_fusemix_mixes_both_sides_with_one_share_and_the_same_partners() -> None:
    eye = np.eye(20, dtype=np.float32)
    pairs = TrainingPairs(eye, eye, np.arange(20))
    run = TrainingRun({}, Schedule(batch=8, steps=1, mixed=True), pairs, pairs, 0, "cpu")
    shares = []
    for step in range(20):
        (image,), (text,), _ = run.batch(np.random.default_rng([0, step]))
        assert image.shape == (8, 20)
        assert torch.equal(image, text)  # same partners, same share, as both sides hold the same rows
        values = np.sort(image.numpy(), axis=1)[:, -2:]
        assert np.allclose(values, values[0])  # one share for the whole batch
        assert np.allclose(values.sum(axis=1), 1)
        assert (image != 0).sum() == 16  # 16 different pairs
        shares.append(float(values[0, 1]))
    assert max(shares) - min(shares) > 0.2  # from 0.5 to 1, for Beta(1, 1)


def test_mixing_is_linear() -> None:
    rows = torch.arange(8.0).reshape(4, 2)
    assert torch.allclose(mix_halves(rows, 0.3), 0.3 * rows[:2] + 0.7 * rows[2:])


def layer_norm(rows: Any, module: Any) -> Any:
    centred = rows - rows.mean(axis=1, keepdims=True)
    unit = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    return unit * module.weight.detach().numpy() + module.bias.detach().numpy()


def linear(rows: Any, module: Any) -> Any:
    return rows @ module.weight.detach().numpy().T + module.bias.detach().numpy()


def gelu(rows: Any) -> Any:
    from scipy.special import erf

    return rows * (1 + erf(rows / np.sqrt(2))) / 2


def test_the_adapter_of_fusemix_is_the_papers() -> None:
    torch.manual_seed(0)
    network = build_adapter(6, blocks=2, expansion=4, dropout=0.6, width=5).eval()
    rows = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    found = rows * np.sqrt(6)
    for block in (network[1], network[2]):
        inner = linear(layer_norm(found, block.inner[0]), block.inner[1])
        assert inner.shape == (3, 24)
        found = found + linear(gelu(inner), block.inner[4])
    found = linear(layer_norm(found, network[3]), network[4])
    assert np.allclose(network(torch.from_numpy(rows)).detach().numpy(), found, atol=1e-5)


def test_the_projectors_of_freeze_align_are_the_papers() -> None:
    torch.manual_seed(0)
    image, text = Projection(6, 4, 0.1).eval(), TextProjection(6, 4, 0.1).eval()
    rows = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)

    def projected(module: Any) -> Any:
        prepared = layer_norm(rows, module.before[0])
        return linear(prepared, module.straight) + linear(gelu(linear(prepared, module.bent[0])), module.bent[2])

    assert np.allclose(image(torch.from_numpy(rows)).detach().numpy(), projected(image), atol=1e-5)
    mapped = linear(projected(text.projection), text.first)
    headed = layer_norm(mapped + linear(gelu(mapped), text.second[1]), text.after)
    assert np.allclose(text(torch.from_numpy(rows)).detach().numpy(), headed, atol=1e-5)
    assert isinstance(text.second[2], torch.nn.Dropout)  # after the second layer
    earlier: Any = build_text_projection(6, 4, 0.1, head=0).eval()
    inner = projected(earlier.projection)
    inner = layer_norm(inner + linear(gelu(linear(inner, earlier.head[0])), earlier.head[3]), earlier.after)
    assert np.allclose(earlier(torch.from_numpy(rows)).detach().numpy(), inner, atol=1e-5)


def test_ape_has_its_layers_on_the_text_side_and_leaves_images_alone() -> None:
    network = build_perceptron(6, 8, 5, 10, 0.1)
    shapes = [tuple(module.weight.shape) for module in network if isinstance(module, torch.nn.Linear)]
    assert shapes == [(8, 6), (8, 8), (8, 8), (8, 8), (10, 8)]
    fitted, _ = dataclasses.replace(SMALL["ape"], steps=2).train(related(50))
    rows = Embeddings(related(5).images)
    assert np.array_equal(fitted.represent("image", rows).values, rows.values)
    assert set(fitted.aligner.build_networks({"image": 24, "text": 16})) == {"text"}


def test_ranks_are_those_of_the_definition() -> None:
    random = np.random.default_rng(3)
    pairs = related(15, captions=3)
    doubled = dataclasses.replace(pairs, texts=pairs.texts[[0, 1, 2, 0, *range(4, 45)]])  # two images share a text
    scores = random.standard_normal((15, 45)).astype(np.float32)
    scores[4, 12] = scores[4, 20] = scores[4].max() + 1  # a tie with a wrong one counts against
    said = [{doubled.texts[at].tobytes() for at in np.flatnonzero(doubled.owners == image)} for image in range(15)]
    reciprocal, first = [], []
    for table, forward in ((scores, True), (scores.T, False)):
        ranks = []
        for query in range(len(table)):
            right = [
                doubled.texts[other if forward else query].tobytes() in said[query if forward else other]
                for other in range(table.shape[1])
            ]
            best = max(value for value, good in zip(table[query], right, strict=True) if good)
            ranks.append(1 + sum(value >= best for value, good in zip(table[query], right, strict=True) if not good))
        reciprocal.append(np.mean([1 / rank for rank in ranks]))
        first.append(np.mean([rank == 1 for rank in ranks]))
    assert rank_held_out_pairs(scores, doubled) == pytest.approx((np.mean(reciprocal), np.mean(first)))


def test_the_rate_rises_falls_and_ends() -> None:
    plan = Schedule(batch=4, steps=50, rate=0.5, warmup=5, last=0.1)
    rates = [plan.rate_at(step) for step in range(50)]
    assert max(rates) == plan.rate_at(5) == 0.5
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert plan.rate_at(50) == pytest.approx(0.05)


# Learning


@every_projector
def test_it_learns_far_above_chance_and_new_pairs_too(projector: Projector) -> None:
    looks: list[Any] = []
    fitted, trained = projector.train(related(), progress=looks.append)
    assert tuple(looks) == trained.evaluations
    assert trained.best.recall > 0.25  # of 40 held-out images; by chance 0.025
    new = related(200, seed=5, captions=1)
    scores = (
        fitted.represent("image", Embeddings(new.images)).values
        @ fitted.represent("text", Embeddings(new.texts)).values.T
    )
    assert recall(scores, new.owners) > 0.1  # by chance 0.005


@every_projector
def test_unrelated_sides_teach_nothing(projector: Projector) -> None:
    pairs = related(300, captions=1)
    shuffled = dataclasses.replace(pairs, texts=pairs.texts[np.random.default_rng(0).permutation(300)])
    _, trained = projector.train(shuffled)
    assert trained.best.recall < 0.15  # of 30


@pytest.mark.slow
def test_the_best_weights_are_kept_and_training_ends_early() -> None:
    pairs = related(60, noise=1.0)
    learnt, held = pairs.split(0)
    torch.manual_seed(0)
    network = build_perceptron(16, 128, 3, 24, 0.0)
    trained = train_networks({"text": network}, Schedule(batch=54, steps=2000), learnt, held, seed=0)
    assert trained.evaluations[-1].step < 2000
    assert trained.best.rank == max(look.rank for look in trained.evaluations)
    network.load_state_dict({name[5:]: torch.from_numpy(value) for name, value in trained.weights.items()})
    with torch.inference_mode():
        texts = torch.nn.functional.normalize(network.eval()(torch.from_numpy(held.texts)), dim=1).numpy()
    assert rank_held_out_pairs(held.images @ texts.T, held)[0] == pytest.approx(trained.best.rank, abs=1e-3)


@every_projector
def test_the_seed_decides_and_nothing_else(projector: Projector) -> None:
    pairs = related(80)
    short = dataclasses.replace(projector, **{"steps" if hasattr(projector, "steps") else "epochs": 6})
    before = torch.random.get_rng_state()
    first, again = short.train(pairs)[0], short.train(pairs)[0]
    assert torch.equal(torch.random.get_rng_state(), before)  # the caller's random numbers are left alone
    other = dataclasses.replace(short, seed=1).train(pairs)[0]
    assert all(np.array_equal(first.weights[name], again.weights[name]) for name in first.weights)
    assert not all(np.array_equal(first.weights[name], other.weights[name]) for name in first.weights)


@every_projector
def test_what_goes_on_ends_as_if_it_had_never_stopped(projector: Projector) -> None:
    pairs, states = related(100), []
    whole, trained = projector.train(pairs, keep=states.append)
    resumed, later = projector.train(pairs, resume=states[len(states) // 3])
    assert [look.step for look in later.evaluations] == [look.step for look in trained.evaluations]
    assert later.evaluations == trained.evaluations
    assert all(np.array_equal(whole.weights[name], resumed.weights[name]) for name in whole.weights)


@every_projector
def test_a_row_does_not_depend_on_the_others(projector: Projector) -> None:
    fitted, _ = projector.train(related(60))
    rows = related(200, seed=9).texts
    together = fitted.represent("text", Embeddings(rows)).values
    for some in (slice(0, 1), slice(63, 66), slice(100, 200)):
        assert np.array_equal(fitted.represent("text", Embeddings(rows[some])).values, together[some])


def test_too_few_images_are_refused() -> None:
    with pytest.raises(InputRefused, match="9 distinct images"):
        Ape().train(related(9))


def test_parameters_out_of_range_are_refused() -> None:
    for wrong in ({"dropout": 1.0}, {"layers": 1}, {"rate": 0.0}, {"batch": 1}, {"seed": -1}, {"rate": float("nan")}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Ape(**wrong)
    with pytest.raises(UsageError, match="epochs"):
        make_aligner("ape(epochs=3)")


def test_sizes_grow_with_the_pairs_and_published_ones_come_with_many() -> None:
    few, many = Ape().resolve(500), Ape().resolve(2_000_000)
    assert (few.hidden, few.batch) == (1024, 1024)
    assert (many.hidden, many.batch) == (4096, 16_384)
    assert many.steps == 5000
    assert FuseMix().resolve(2_000_000).parameters.items() >= {"expansion": 4.0, "batch": 20_480, "epochs": 500}.items()
    assert FreezeAlign().resolve(5_000_000).parameters.items() >= {"epochs": 15, "batch": 1800, "dropout": 0.1}.items()
    assert Ape(hidden=100).resolve(500).hidden == 100
    sizes = {50: 500, 300: 500, 2048: 500, 6000: 171, 30_000: 100}
    assert {pairs: FuseMix().resolve(pairs).epochs for pairs in sizes} == sizes
    assert FuseMix().resolve(300).build_schedule(300).steps == FuseMix().resolve(2048).build_schedule(2048).steps == 500


def test_freeze_align_trains_as_published_on_request() -> None:
    published = make_aligner("freeze-align(published)")
    assert isinstance(published, FreezeAlign) and published.published
    few, many = published.resolve(300), published.resolve(17_000_000)
    assert few.parameters.items() >= {"epochs": 15, "batch": 1800, "width": 1024, "dropout": 0.1, "decay": 0.02}.items()
    assert few.build_schedule(300).steps == 15 and few.build_schedule(300).warmup == 1
    schedule = many.build_schedule(17_000_000)
    assert (schedule.batch, schedule.steps, schedule.warmup) == (1800, 15 * 17_000_000 // 1800, 1000)
    assert (schedule.rate_at(1000), schedule.rate_at(schedule.steps)) == (1e-3, pytest.approx(1e-5))
    assert FreezeAlign().resolve(300).build_schedule(300).last == 0


def test_no_projector_in_a_sum() -> None:
    with pytest.raises(UsageError, match="ape in the sum"):
        make_aligner("asif+0.5*ape")
    assert isinstance(make_aligner("ape(seed=3,layers=6)"), Ape)


# Kept beside the set


@pytest.fixture
def toys(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: fake_image())
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: fake_text())
    make_set(home, count=60)
    return home


def quick(name: str = "ape") -> Projector:
    return dataclasses.replace(SMALL[name], **{"steps" if name == "ape" else "epochs": 4})


@pytest.mark.parametrize("name", list(RIVALS))
def test_a_kept_projector_gives_equal_scores_in_another_engine(toys: Path, name: str) -> None:
    training = train_projector("toy", quick(name))
    engine = Engine("toy", aligner=make_aligner(name))
    assert engine.role().fitted.parameters == training.fitted.parameters
    images = Embeddings.from_raw(np.random.default_rng(0).standard_normal((5, 12)))
    texts = Embeddings.from_raw(np.random.default_rng(1).standard_normal((7, 5)))
    for side, rows in (("image", images), ("text", texts)):
        found, known = (each.represent(side, rows).values for each in (engine.role().fitted, training.fitted))
        assert np.array_equal(found, known)
    scores = next(engine.score_blocks("image", images, texts))
    expected = training.fitted.represent("image", images).values @ training.fitted.represent("text", texts).values.T
    assert np.allclose(scores, expected, atol=1e-6)


def test_weights_of_earlier_versions_keep_their_text_head(toys: Path) -> None:
    """They were stored without `head` and `published`."""
    engine = Engine("toy")
    earlier = dataclasses.replace(quick("freeze-align"), head=0).resolve(60)
    fitted, _ = earlier.train(TrainingPairs.of(engine.anchors))
    parameters = {name: value for name, value in earlier.parameters.items() if name not in ("head", "published")}
    assert engine.anchor_set.cache_fit({"name": "freeze-align", "parameters": parameters}, fitted.arrays())
    found = Engine("toy", aligner=make_aligner("freeze-align")).role().fitted
    assert found.parameters == {**parameters, "head": 0, "published": False}
    texts = Embeddings.from_raw(np.random.default_rng(1).standard_normal((7, 5)))
    assert np.array_equal(found.represent("text", texts).values, fitted.represent("text", texts).values)
    train_projector("toy", quick("freeze-align"))
    assert Engine("toy", aligner=make_aligner("freeze-align")).role().fitted.parameters["head"] == 1


def test_other_anchors_make_it_stale_and_it_is_refused(toys: Path, cli: Cli) -> None:
    train_projector("toy", quick())
    make_set(toys, count=61)
    with pytest.raises(Stale) as refused:
        Engine("toy", aligner=make_aligner("ape"))
    assert refused.value.exit_code == 4
    assert "asif train-ape --anchors toy" in refused.value.fix
    Engine("toy@1", aligner=make_aligner("ape"))  # the version that it was trained on is still there
    train_projector("toy", quick())
    Engine("toy", aligner=make_aligner("ape"))


def test_one_that_was_never_trained_is_asked_for(toys: Path) -> None:
    with pytest.raises(NotFound) as refused:
        Engine("toy", aligner=make_aligner("fusemix(blocks=3)"))
    assert "asif train-fusemix --anchors toy --blocks 3" in refused.value.fix


def test_the_latest_with_what_was_asked_for_is_taken(toys: Path) -> None:
    train_projector("toy", quick())
    train_projector("toy", dataclasses.replace(quick(), layers=3))
    anchors = Engine("toy").anchors
    assert find_trained(Ape(), anchors).parameters["layers"] == 3
    assert find_trained(Ape(steps=4, hidden=64), anchors).parameters["layers"] == 3
    with pytest.raises(NotFound, match="--layers 6"):
        find_trained(Ape(layers=6), anchors)


def test_changed_weights_are_found(toys: Path) -> None:
    train_projector("toy", quick())
    file = next((toys / "anchors" / "toy" / "fits").glob("*"))
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match="changed"):
        _ = Engine("toy", aligner=make_aligner("ape")).role().fitted


def test_a_stopped_training_goes_on_and_ends_the_same(toys: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setattr("asif.rivals.train.SECONDS_BETWEEN_SAVES", 0.0)
    looks: list[Any] = []

    def stop(look: Any) -> None:
        looks.append(look)
        if len(looks) == 5:
            raise KeyboardInterrupt

    projector = dataclasses.replace(SMALL["ape"], steps=50)
    with pytest.raises(Interrupted, match="steps are saved"):
        train_projector("toy", projector, progress=stop)
    went_on = train_projector("toy", projector)
    assert went_on.resumed_at == looks[-2].step
    assert not list((toys / "cache" / "training").glob("*"))
    engine = Engine("toy")
    whole, _ = projector.train(TrainingPairs.of(engine.anchors, encode_single_captions(engine)))
    assert all(np.array_equal(whole.weights[name], went_on.fitted.weights[name]) for name in whole.weights)


def test_the_command_trains_and_others_use_what_it_kept(toys: Path, cli: Cli, tmp_path: Path) -> None:
    ran = cli("train-ape", "--anchors", "toy", "--steps", "5", "--hidden", "16", "--json")
    assert ran.code == 0
    assert ran.json["parameters"]["hidden"] == 16
    assert ran.json["looks"][-1]["step"] == 5
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"photo")
    said = cli("classify", str(photo), "--labels", "a,b", "--anchors", "toy", "--aligner", "ape", "--json")
    assert said.code == 0
    assert said.lines[0]["aligner"] == "ape"
    assert said.lines[0]["parameters"]["steps"] == 5
    explained = cli("classify", str(photo), "--labels", "a,b", "--anchors", "toy", "--aligner", "ape", "--explain")
    assert explained.code == 2
    assert "cannot be taken apart" in explained.err
    assert cli("train-ape", "--anchors", "toy", "--layers", "1").code == 2
    assert cli("train-ape", "--anchors", "nowhere").code == 2
    assert cli("train-freeze-align", "--anchors", "toy", "--epochs", "2", "--width", "8").code == 0
    missing = cli("classify", str(photo), "--labels", "a", "--anchors", "toy", "--aligner", "freeze-align(published)")
    assert missing.code == 2 and "asif train-freeze-align --anchors toy --published" in missing.err
    published = cli("train-freeze-align", "--anchors", "toy", "--published", "--width", "8", "--json").json
    assert (published["parameters"]["published"], published["parameters"]["epochs"]) == (True, 15)


@pytest.mark.realdata
@pytest.mark.parametrize("name", list(RIVALS))
def test_held_out_flickr8k_is_found_far_above_chance(name: str, realdata: Path) -> None:
    features = realdata / "flickr8k" / "features"
    images = Embeddings.from_raw(np.load(features / "train-image-lite0.npy")[:600]).values
    texts = Embeddings.from_raw(np.load(features / "train-text-minilm.npy")[:600].reshape(3000, -1)).values
    small = {
        "ape": Ape(hidden=256, batch=256, steps=60),
        "fusemix": FuseMix(blocks=1, batch=256, epochs=30, width=256),
        "freeze-align": FreezeAlign(batch=256, epochs=20, width=256),
    }
    _, trained = small[name].train(TrainingPairs(images, texts, np.repeat(np.arange(600), 5)))
    assert trained.best.recall > 0.2  # of 60 images; by chance 0.017


def test_a_fusion_refuses_nothing_else() -> None:
    assert Fused((FusedMember(make_aligner("asif"), 1.0), FusedMember(make_aligner("cca"), 0.5))).name == "fused"
