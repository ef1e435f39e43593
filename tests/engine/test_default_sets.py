"""Ready-made anchor sets are built on first use, once, and again when their recipe changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.engine_sets import IMAGE_DIM, fake_image, fake_text, make_set

import asif
from asif.encoders import ClassifierHead
from asif.errors import NotFound, UsageError

RECIPE = """name = "ready"
about = "three classes"
licence = "none"
[head]
encoder = "timm:fake"
text-encoder = "sentence-transformers:fake"
captions = [{captions}]
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a recipe file that asif knows as `ready`; building it takes no model."""
    head = ClassifierHead(
        np.eye(3, IMAGE_DIM, dtype=np.float32), ("n1", "n2", "n3"), ("cat", "dog", "owl"), ("x", "y", "z")
    )
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(captions='"{name}: {definition}"'))
    monkeypatch.setattr("asif.engine.default_sets.list_recipes", lambda: {"ready": path})
    monkeypatch.setattr("asif.engine.build.load_head", lambda *_: (fake_image(), head))
    monkeypatch.setattr("asif.engine.build.load_text_encoder", lambda *_: fake_text())
    return path


def test_a_ready_made_set_is_built_once_and_anew_when_its_recipe_changed(home: Path, recipe: Path) -> None:
    first = asif.open_anchors("ready", home=home)
    assert [record.captions for record in first.records(range(3))] == [("cat: x",), ("dog: y",), ("owl: z",)]
    assert asif.open_anchors("ready", home=home).version == first.version
    recipe.write_text(RECIPE.format(captions='"{name}", "a {name}"'))
    second = asif.open_anchors("ready", home=home)
    assert (second.manifest.seq, second.manifest.parent) == (2, first.version)
    assert second.records([0])[0].captions == ("cat", "a cat")
    assert asif.open_anchors("ready@1", home=home).digest == first.digest != second.digest
    assert first.records([0])[0].captions == ("cat: x",)  # the open one is what it was


def test_a_set_of_ones_own_by_a_ready_made_name_is_left_alone(home: Path, recipe: Path) -> None:
    own = make_set(home, "ready")
    assert asif.open_anchors("ready", home=home).version == own.version


def test_a_recipe_with_unknown_keys_is_refused(home: Path, recipe: Path) -> None:
    recipe.write_text(recipe.read_text() + 'colour = "red"\n')
    with pytest.raises(UsageError, match="colour"):
        asif.open_anchors("ready", home=home)


def test_an_unknown_name_lists_what_there_is(home: Path, hashing: None) -> None:
    make_set(home).close()
    make_set(home, "other").close()
    with pytest.raises(NotFound) as caught:
        asif.open_anchors("coco", home=home)
    assert (caught.value.expected, caught.value.exit_code) == ("one of: other, toy", 2)
    assert "asif build-anchors PAIRS --name coco" in caught.value.fix
