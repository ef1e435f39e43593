"""Labels: which are refused and why; what templates mean; ten thousand of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.engine_toys import hashed, queries, toy
from support.paths import SUPPORT
from support.running import environment

from asif.aligners import FittedAligner, make_aligner
from asif.classify import MAX_LABEL_LENGTH, PROMPTS_PER_BATCH, Labels, fill_template, represent_labels
from asif.compare import Candidates, rank_candidates, score_candidates
from asif.errors import UsageError
from asif.vectors import Embeddings

MEGABYTE = "a" * 2**20
STRANGE = (
    "猫",
    "\U0001f408\u200d\u2b1b",  # a black cat of three code points
    "كلب",
    "\u200fשלום\u200f",  # noqa: RUF001
    "{}",
    "{c}",
    "{0} {name!r}",
    "a, b",
    "e\u0301",
    "é",
    "\ttab\t",
)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((), "there are no labels"),
        (("",), "label 1 of 1 is blank"),
        (("cat", " \t\n", "dog"), "label 2 of 3 is blank"),
        (("cat", "\u3000"), "label 2 of 2 is blank"),
        (("cat", "dog", "cat"), "the label 'cat' comes 2 times"),
        (("cat", "cat ", " cat"), "the label 'cat' comes 3 times"),
        (("cat", "do\0g"), "label 2 contains a NUL character: 'do\\x00g'"),
        (("caf\udce9",), "label 1 is not valid UTF-8: 'caf\\udce9'"),
        ((MEGABYTE,), f"label 1 has 1,048,576 characters: '{'a' * 40}'…"),
        (("a" * (MAX_LABEL_LENGTH + 1),), f"label 1 has 10,001 characters: '{'a' * 40}'…"),
    ],
)
def test_labels_that_cannot_be_used(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Labels(labels)
    assert caught.value.came == message


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ((), "there are no templates"),
        (("{}", "a photo"), "the template 'a photo' has no place for the label"),
        (("{label}",), "the template '{label}' has no place for the label"),
        (("{ }",), "the template '{ }' has no place for the label"),
        ((MEGABYTE,), f"the template '{'a' * 80}' has no place for the label"),
        (("{}" + MEGABYTE,), f"a template has 1,048,578 characters: '{{}}{'a' * 38}'…"),
        (("{}\0",), "a template contains a NUL character: '{}\\x00'"),
        (("{}\udcff",), "a template is not valid UTF-8: '{}\\udcff'"),
    ],
)
def test_templates_that_cannot_be_used(templates: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Labels(("cat",), templates)
    assert caught.value.came == message


def test_modes_are_two() -> None:
    with pytest.raises(UsageError, match="the template mode is 'median'"):
        Labels(("cat",), mode="median")  # type: ignore[arg-type]


def test_labels_of_every_script_and_with_braces() -> None:
    labels = Labels(STRANGE, ("{}", "<{c}>"))
    assert labels.prompts() == [prompt for label in STRANGE for prompt in (label, f"<{label}>")]
    assert Labels(("a" * MAX_LABEL_LENGTH,)).prompts() == ["a" * MAX_LABEL_LENGTH]
    candidates = represent_labels(labels, hashed, fitted())
    assert len(candidates) == len(STRANGE)
    assert len(np.unique(candidates.rows.to_dense(), axis=0)) == len(STRANGE)


@pytest.mark.parametrize(
    ("template", "label", "prompt"),
    [
        ("a {}.", "cat", "a cat."),
        ("a {c}.", "cat", "a cat."),
        ("{} or {}", "cat", "cat or cat"),
        ("{c} {}", "cat", "cat {}"),
        ("a {}", "{c}", "a {c}"),
        ("a {c}", "{}", "a {}"),
    ],
)
def test_filling(template: str, label: str, prompt: str) -> None:
    assert fill_template(template, label) == prompt


def fitted(name: str = "asif") -> FittedAligner:
    return make_aligner(name, k=20, power=2).fit(toy(40))


ANIMALS = ("cat", "dog", "red fox", "owl", "newt")
TEMPLATES = ("{}", "a photo of a {}.", "the {c}")


def prompt_scores(name: str = "asif") -> NDArray[Any]:
    """Score every prompt for every image on its own: [images, labels, templates]."""
    prompts = [fill_template(template, label) for label in ANIMALS for template in TEMPLATES]
    rows = [fitted(name).represent("text", hashed([prompt])) for prompt in prompts]
    images = fitted(name).represent("image", queries("image"))
    every = np.concatenate([score_candidates(images, Candidates(row)) for row in rows], axis=1)
    return every.reshape(len(images), len(ANIMALS), len(TEMPLATES))


def label_scores(labels: Labels, name: str = "asif", encode: Any = hashed) -> NDArray[Any]:
    images = fitted(name).represent("image", queries("image"))
    return score_candidates(images, represent_labels(labels, encode, fitted(name)))


@pytest.mark.parametrize("name", ["asif", "asif-paper"])
def test_max_is_the_best_prompt(name: str) -> None:
    found = label_scores(Labels(ANIMALS, TEMPLATES, "max"), name)
    np.testing.assert_array_equal(found, prompt_scores(name).max(axis=2))
    assert len(set(prompt_scores(name).argmax(axis=2).ravel())) == len(TEMPLATES)  # not always the same one


@pytest.mark.parametrize("name", ["asif", "asif-paper"])
def test_mean_is_the_mean_of_unit_embeddings(name: str) -> None:
    means = []
    for label in ANIMALS:
        units = hashed([fill_template(template, label) for template in TEMPLATES]).values.astype(np.float64)
        mean = sum(units) / len(units)
        means.append(mean / np.sqrt((mean**2).sum()))
    own = represent_means(np.array(means), name)
    found = label_scores(Labels(ANIMALS, TEMPLATES, "mean"), name)
    np.testing.assert_allclose(found, own, rtol=0, atol=3e-7)
    assert np.abs(found - label_scores(Labels(ANIMALS, TEMPLATES, "max"), name)).max() > 0.01


def represent_means(means: NDArray[Any], name: str) -> NDArray[Any]:
    images = fitted(name).represent("image", queries("image"))
    return score_candidates(images, Candidates(fitted(name).represent("text", Embeddings.from_raw(means))))


NAMES = (("cat",), ("dog", "hound", "puppy"), ("red fox", "vixen"), ("owl",), ("newt",))


@pytest.mark.parametrize("mode", ["mean", "max"])
@pytest.mark.parametrize("templates", [("{}",), TEMPLATES])
def test_names_stand_in_the_prompts_instead_of_labels(mode: Any, templates: tuple[str, ...]) -> None:
    """Each label is as if it were asked alone, its names filled into the templates by hand."""
    labels = tuple(f"n{number}" for number in range(len(NAMES)))
    found = label_scores(Labels(labels, templates, mode, NAMES))
    for at, some in enumerate(NAMES):
        prompts = [fill_template(template, name) for name in some for template in templates]
        if mode == "max":
            each = np.concatenate([label_scores(Labels((prompt,))) for prompt in prompts], axis=1)
            np.testing.assert_array_equal(found[:, at], each.max(axis=1))
        else:
            units = hashed(prompts).values.astype(np.float64)
            expected = represent_means((units.mean(axis=0))[None], "asif")[:, 0]
            np.testing.assert_allclose(found[:, at], expected, rtol=0, atol=3e-7)


def test_one_name_each_is_like_labels_of_these_names() -> None:
    names = tuple((animal,) for animal in ANIMALS)
    labels = tuple(map(str, range(len(ANIMALS))))
    for mode in ("mean", "max"):
        named = label_scores(Labels(labels, TEMPLATES, mode, names))  # type: ignore[arg-type]
        np.testing.assert_array_equal(named, label_scores(Labels(ANIMALS, TEMPLATES, mode)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((("a",),), "1 lists of names for 2 labels"),
        ((("a",), ()), "the label 'dog' has a blank name, or none"),
        ((("a",), ("b", " ")), "the label 'dog' has a blank name, or none"),
        ((("a",), ("b\0",)), "a name of 'dog' contains a NUL character: 'b\\x00'"),
        ((("a",), (MEGABYTE,)), f"a name of 'dog' has 1,048,576 characters: '{'a' * 40}'…"),
    ],
)
def test_names_that_cannot_be_used(names: tuple[tuple[str, ...], ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Labels(("cat", "dog"), names=names)
    assert caught.value.came == message


def test_one_template_is_the_same_in_both_modes() -> None:
    one = [label_scores(Labels(ANIMALS, ("a {}",), mode)) for mode in ("mean", "max")]
    np.testing.assert_array_equal(*one)


@pytest.mark.parametrize("mode", ["mean", "max"])
def test_the_order_and_company_of_labels_do_not_matter(mode: Any) -> None:
    plain = label_scores(Labels(ANIMALS, TEMPLATES, mode))
    order = [3, 0, 4, 2, 1]
    moved = label_scores(Labels(tuple(ANIMALS[at] for at in order), TEMPLATES, mode))
    np.testing.assert_array_equal(moved, plain[:, order])
    np.testing.assert_array_equal(label_scores(Labels(ANIMALS[1:3], TEMPLATES, mode)), plain[:, 1:3])
    turned = label_scores(Labels(ANIMALS, TEMPLATES[::-1], mode))
    np.testing.assert_allclose(turned, plain, rtol=0, atol=3e-7)


@pytest.mark.parametrize("mode", ["mean", "max"])
def test_prompts_are_encoded_some_thousand_at_a_time(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = Labels(tuple(map(str, range(11))), TEMPLATES, mode)
    whole, seen = label_scores(labels), []

    def encode(texts: Any) -> Embeddings:
        seen.append(list(texts))
        return hashed(texts)

    for rows, batches in ((1, 11), (7, 6), (3 * 11, 1), (PROMPTS_PER_BATCH, 1)):
        monkeypatch.setattr("asif.classify.PROMPTS_PER_BATCH", rows)
        seen.clear()
        np.testing.assert_array_equal(label_scores(labels, encode=encode), whole)
        assert len(seen) == batches
        assert [prompt for batch in seen for prompt in batch] == labels.prompts()


def test_equal_scores_go_to_the_earlier_label() -> None:
    images = fitted().represent("image", queries("image", 3))
    candidates = represent_labels(Labels(("b", "a", "c")), lambda texts: hashed(["same"] * len(texts)), fitted())
    assert rank_candidates(images, candidates, 3).indices.tolist() == [[0, 1, 2]] * 3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_ten_thousand_labels_in_bounded_memory(record_property: Any) -> None:
    script = SUPPORT / "engine_memory.py"
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, env=environment())
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    record_property("grown_mb", found["grown"])
    assert found["prompts"] == 30_000
    assert found["batch"] <= 4096
    assert 5 < found["grown"] < 150, f"{found['grown']:.0f} MB"
