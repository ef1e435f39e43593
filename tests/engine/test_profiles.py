"""Profiles and fits that are kept with an anchor set, and what the engine and the command line make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.engine_sets import IMAGE_DIM, TEXT_DIM, make_set
from support.running import Cli

from asif.aligners import Hubness, make_aligner
from asif.anchorset import Store
from asif.anchorset.format.fit_cache import read_fit
from asif.classify import Labels
from asif.engine import Classifier, Engine, cached_fit
from asif.errors import Busy, IntegrityError
from asif.vectors import Embeddings

LABELS = Labels(("cat", "dog", "owl", "newt"))
NAME = "cca(lambda=3)+0.5*asif(k=4)"
PROFILE: dict[str, Any] = {"aligner": NAME, "hubness": {"method": "nnn", "k": 8, "alpha": 0.25}, "score": 0.5}


@pytest.fixture
def toy(home: Path, hashing: None) -> Path:
    """Return a store with the set `toy`, and let engines load fake encoders."""
    make_set(home).close()
    return home


def vectors(count: int = 7) -> Embeddings:
    return Embeddings.from_raw(np.random.default_rng(3).standard_normal((count, IMAGE_DIM)))


def told(engine: Engine) -> list[list[tuple[str, float]]]:
    results = engine.classify_vectors(vectors(), LABELS, top=4)
    return [[(each.label, each.score) for each in result.predictions] for result in results]


# ---- profiles


def test_a_profile_is_a_version_of_the_same_anchors(toy: Path) -> None:
    store = Store(toy)
    before = store.open("toy")
    after = store.publish_profile("toy", "classify", PROFILE, "1")
    assert (after.digest, after.manifest.seq, after.manifest.parent) == (before.digest, 2, before.version)
    assert after.profiles == {"classify": PROFILE} and before.profiles == {}
    assert after.manifest.operation == {"kind": "tune", "task": "classify"}
    assert after.manifest.blocks == before.manifest.blocks
    both = store.publish_profile("toy", "search", {"aligner": "cca"}, "1")
    assert set(both.profiles) == {"classify", "search"} and store.open("toy").version == both.version
    assert store.open("toy@1").profiles == {}
    store.verify("toy").raise_if_bad()


def test_a_profile_of_another_version_is_refused(toy: Path) -> None:
    store = Store(toy)
    old = store.open("toy").version
    store.publish_profile("toy", "classify", PROFILE, "1")
    with pytest.raises(Busy, match=f"the profile was found for {old}"):
        store.publish_profile(f"toy@{old}", "classify", PROFILE, "1")
    assert len(list((toy / "anchors" / "toy" / "versions").iterdir())) == 2


def test_building_again_keeps_the_profile(toy: Path) -> None:
    tuned = Store(toy).publish_profile("toy", "classify", PROFILE, "1")
    assert make_set(toy).version == tuned.version
    assert Store(toy).open("toy").profiles == {"classify": PROFILE}
    changed = make_set(toy, seed=1)
    assert changed.manifest.seq == 3 and changed.profiles == {}  # other anchors


def test_auto_is_the_profile(toy: Path) -> None:
    plain = told(Engine("toy", home=toy))
    assert plain == told(Engine("toy", home=toy, aligner=make_aligner("cca(words)+asif")))
    Store(toy).publish_profile("toy", "classify", PROFILE, "1")
    tuned = Engine("toy", home=toy)
    assert (tuned.role().choice.profile, tuned.role("search").choice.profile) == ("classify", None)
    named = Engine("toy", home=toy, aligner=make_aligner(NAME), hubness=Hubness("nnn", 8, 0.25))
    assert told(tuned) == told(named) != plain
    assert told(Engine("toy", home=toy, hubness=Hubness("none"))) == told(
        Engine("toy", home=toy, aligner=make_aligner(NAME))
    )


@pytest.mark.parametrize(("distinct", "expected"), [(4, "cca(words)"), (20, "fused")])
def test_without_a_profile_repeated_texts_decide(home: Path, hashing: None, distinct: int, expected: str) -> None:
    texts = np.random.default_rng(1).standard_normal((distinct, TEXT_DIM))
    make_set(home, texts=np.resize(texts, (20, TEXT_DIM))).close()
    engine = Engine("toy", home=home)
    assert (engine.role().choice.aligner.name, engine.role("search").choice.aligner.name) == (
        expected,
        "cca(words)",
    )
    named = make_aligner("cca(words)+asif" if expected == "fused" else expected)
    assert told(engine) == told(Engine("toy", home=home, aligner=named))


def test_a_swap_takes_the_other_sets_profile(toy: Path) -> None:
    make_set(toy, "other", seed=1).close()
    Store(toy).publish_profile("other", "classify", PROFILE, "1")
    engine = Engine("toy", home=toy)
    assert engine.role().choice.profile is None
    engine.swap("other")
    assert engine.role().choice.profile == "classify"
    engine.swap("toy")
    assert engine.role().choice.profile is None


def test_the_classifier_takes_the_profile_unless_told_otherwise(toy: Path) -> None:
    Store(toy).publish_profile("toy", "classify", PROFILE, "1")
    used = {
        "auto": Classifier("toy", home=toy),
        "k": Classifier("toy", k=3, home=toy),
        "named": Classifier("toy", aligner="cca", home=toy),
    }
    choices = {name: classifier.fit(LABELS.labels).engine_.role().choice for name, classifier in used.items()}
    assert {name: choice.aligner.name for name, choice in choices.items()} == {
        "auto": "fused",
        "k": "asif",
        "named": "cca",
    }
    assert {name: choice.hubness.method for name, choice in choices.items()} == {
        "auto": "nnn",
        "k": "none",
        "named": "none",
    }


@pytest.mark.parametrize(
    "profile",
    [{}, {"aligner": "magic"}, {"aligner": "cca", "hubness": {"strength": 1}}, {"aligner": "cca", "hubness": 3}, "cca"],
)
def test_a_profile_from_another_time_is_explained(toy: Path, profile: Any) -> None:
    store = Store(toy)
    if isinstance(profile, dict):
        store.publish_profile("toy", "classify", profile, "1")
        with pytest.raises(IntegrityError, match="the profile for classify of toy@2 cannot be read"):
            Engine("toy", home=toy)
    else:
        with pytest.raises(ValueError, match="dictionary update"):
            store.publish_profile("toy", "classify", profile, "1")


# ---- fits


def fits(home: Path) -> list[Path]:
    return sorted((home / "anchors" / "toy" / "fits").glob("*"))


@pytest.mark.parametrize("name", ["procrustes", "ridge", "cca(size=3)", NAME])
def test_a_kept_fit_answers_as_the_first_did(toy: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = told(Engine("toy", home=toy, aligner=make_aligner(name)))
    (kept,) = fits(toy)
    Store(toy).verify("toy").raise_if_bad()
    monkeypatch.setattr("asif.aligners.linear.solve_maps", lambda *_: pytest.fail("solved again"))
    second = Engine("toy", home=toy, aligner=make_aligner(name))
    assert told(second) == first
    anchors = Store(toy).open("toy")
    evidence = second.classify_vectors(vectors(1), LABELS, explain=3)[0].evidence
    assert evidence is not None and len(evidence.contributions.values) == 3
    arrays = load_file(kept)  # any reader of safetensors can
    about, own = read_fit(kept)
    assert about["digest"] == anchors.digest and set(own) == set(arrays)
    for array, values in own.items():
        np.testing.assert_array_equal(values, arrays[array])


def test_relative_representations_keep_nothing(toy: Path) -> None:
    told(Engine("toy", home=toy, aligner=make_aligner("asif")))
    assert fits(toy) == []


def test_other_parameters_are_another_fit(toy: Path) -> None:
    for name in ("cca", "cca(lambda=2)", "ridge", "cca"):
        told(Engine("toy", home=toy, aligner=make_aligner(name)))
    assert len(fits(toy)) == 3


def test_any_changed_byte_is_found_and_the_fit_made_anew(toy: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = told(Engine("toy", home=toy, aligner=make_aligner("cca(size=1)")))
    (kept,) = fits(toy)
    whole = kept.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    places = [0, 3, 9, header - 1, header, len(whole) - 1, *rng.integers(0, len(whole), 40).tolist()]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        kept.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            read_fit(kept)
    assert str(kept) in str(Store(toy).verify("toy").problems)
    assert told(Engine("toy", home=toy, aligner=make_aligner("cca(size=1)"))) == expected
    assert "a cached fit is not used" in caplog.text
    assert kept.read_bytes() == whole
    for cut in (0, 7, header, len(whole) - 8):
        kept.write_bytes(whole[:cut])
        with pytest.raises(IntegrityError):
            read_fit(kept)


def test_a_fit_to_other_anchors_is_not_used(toy: Path, caplog: pytest.LogCaptureFixture) -> None:
    told(Engine("toy", home=toy, aligner=make_aligner("cca")))
    (kept,) = fits(toy)
    make_set(toy, seed=1).close()
    expected = told(Engine("toy", home=toy, aligner=make_aligner("cca")))
    new = next(path for path in fits(toy) if path != kept)
    new.write_bytes(kept.read_bytes())
    assert told(Engine("toy", home=toy, aligner=make_aligner("cca"))) == expected
    assert "was fitted to the digest" in caplog.text


def test_a_fit_of_no_version_is_a_stray(toy: Path) -> None:
    told(Engine("toy", home=toy, aligner=make_aligner("cca")))
    (kept,) = fits(toy)
    kept.rename(kept.with_name("0" * 12 + kept.name[12:]))
    assert "a stray fit" in str(Store(toy).verify("toy").problems[0])


def test_fits_that_were_swapped_are_found(toy: Path) -> None:
    for name in ("ridge", "procrustes"):
        cached_fit.fit_aligner(make_aligner(name), Store(toy).open("toy"))
    first, second = sorted((toy / "anchors/toy/fits").iterdir())
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    assert {problem.path for problem in Store(toy).verify("toy").problems} == {first, second}


def test_a_store_that_cannot_be_written_still_answers(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = told(Engine("toy", home=toy, aligner=make_aligner("cca")))
    for path in fits(toy):
        path.unlink()

    def refused(*_: Any) -> None:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr("asif.anchorset.format.anchor_set.write_fit", refused)
    assert told(Engine("toy", home=toy, aligner=make_aligner("cca"))) == expected
    assert fits(toy) == []


# ---- the command line


def classify(cli: Cli, image: Path, *more: str) -> dict[str, Any]:
    ran = cli("classify", image, "--anchors", "toy", "--labels", "cat,dog,owl", "--json", *more)
    assert ran.code == 0
    found: dict[str, Any] = ran.json
    return found


def test_tune_keeps_what_auto_uses(cli: Cli, toy: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(b"image")
    before = classify(cli, image)
    assert before["aligner"] == "fused" and "profile" not in before
    dry = cli("tune", "--anchors", "toy", "--task", "classify", "--dry-run", "--json")
    assert dry.code == 0 and Store(toy).open("toy").manifest.seq == 1
    ran = cli("tune", "--anchors", "toy", "--task", "classify", "--json")
    assert ran.code == 0
    said = ran.json
    assert said["anchors"]["version"] == Store(toy).open("toy").version
    kept = Store(toy).open("toy").profiles["classify"]
    assert {name: said[name] for name in kept} == kept
    assert {name: kept[name] for name in ("aligner", "hubness", "score", "error")} in kept["trials"]
    assert dry.json["trials"] == kept["trials"]
    after = classify(cli, image)
    assert after["profile"] == "classify"
    assert after["aligner"] == make_aligner(kept["aligner"]).name
    named = classify(cli, image, "--aligner", kept["aligner"], "--hubness", "none")
    assert named["parameters"] == after["parameters"] and "profile" not in named


def test_tune_for_people(cli: Cli, toy: Path) -> None:
    ran = cli("tune", "--anchors", "toy", "--task", "search", "--seconds", "1")
    assert ran.code == 0
    assert "mean reciprocal rank" in ran.out and "saved as the profile of toy@2" in ran.out
    assert ran.out.splitlines()[-2].count("±") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--anchors", "toy"), 2, "--task"),
        (("--anchors", "toy", "--task", "guess"), 2, "guess"),
        (("--anchors", "nothing", "--task", "search"), 2, "there is no anchor set"),
        (("--anchors", "tiny", "--task", "search"), 3, "5 distinct images"),
        (("--anchors", "toy@1", "--task", "search", "--seconds", "1"), 1, "the current version is"),
        (("--anchors", "toy", "--task", "search", "--seconds", "0"), 2, "--seconds"),
    ],
)
def test_tune_refuses(cli: Cli, toy: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    make_set(toy, "tiny", count=5).close()
    Store(toy).publish_profile("toy", "classify", PROFILE, "1")
    ran = cli("tune", *arguments)
    assert (ran.code, message in ran.err) == (code, True), ran.err
    assert Store(toy).open("toy").manifest.seq == 2


def test_a_recipe_brings_its_profiles(tmp_path: Path) -> None:
    from asif.building.recipe import HeadRecipe
    from asif.building.recipe_file import list_recipes, read_recipe

    text = list_recipes()["imagenet-head"].read_text()
    own = tmp_path / "recipe.toml"
    own.write_text(text.split("[profiles")[0] + '[profiles.classify]\naligner = "cca"\n')
    recipe = read_recipe(own)
    assert isinstance(recipe, HeadRecipe) and recipe.profiles == {"classify": {"aligner": "cca"}}
