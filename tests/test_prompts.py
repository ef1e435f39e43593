"""Readable labels, and templates by name."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asif.classify import Labels
from asif.errors import MissingDependency, UsageError
from asif.prompts import OPEN_CLIP_TEMPLATES, TEMPLATES_BY_NAME, find_templates, make_readable


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("car_side", "car side"),
        ("Faces", "Faces"),
        ("airplanes", "airplanes"),
        ("BACKGROUND_Google", "BACKGROUND Google"),
        ("n01440764", "n01440764"),
        ("inline-skate", "inline skate"),
        ("golden-retriever-puppy", "golden retriever puppy"),
        ("AnnualCrop", "Annual Crop"),
        ("HerbaceousVegetation", "Herbaceous Vegetation"),
        ("SeaLake", "Sea Lake"),
        ("t-shirt", "t-shirt"),
        ("x-ray", "x-ray"),
        ("737-800", "737-800"),
        ("iPhone", "iPhone"),
        ("McDonald", "McDonald"),
        ("HTML", "HTML"),
        ("  two  blanks ", "two blanks"),
        ("__init__", "init"),
        ("_", "_"),
        ("日本_語", "日本 語"),
    ],
)
def test_readable(label: str, words: str) -> None:
    assert make_readable(label) == words
    assert make_readable(words) == words


@given(st.text(min_size=1))
def test_readable_loses_no_letter(label: str) -> None:
    """Only blanks, underscores and hyphens go, and nothing comes but blanks."""

    def letters(text: str) -> str:
        return "".join(text.replace("_", "").replace("-", "").split())

    assert letters(make_readable(label)) == letters(label)
    assert make_readable(label).strip() or not label.strip()


@pytest.mark.parametrize("name", TEMPLATES_BY_NAME)
def test_our_templates_can_be_used(name: str) -> None:
    assert len(set(TEMPLATES_BY_NAME[name])) == len(Labels(("cat",), find_templates(name)).prompts())


def test_templates_of_open_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = dict.fromkeys(OPEN_CLIP_TEMPLATES.values(), (lambda c: f"{c} again", lambda c: f"a {c}."))
    package = ModuleType("open_clip")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "open_clip", package)
    monkeypatch.setitem(sys.modules, "open_clip.zero_shot_metadata", SimpleNamespace(**lists))
    assert find_templates("open-clip:imagenet")[1] == "a {}."
    assert len(find_templates("open-clip:openai-simple")) == 2
    assert Labels(("cat",), find_templates("open-clip:imagenet")).prompts()[1] == "a cat."


def test_without_open_clip_the_fix_is_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip.zero_shot_metadata", None)
    with pytest.raises(MissingDependency) as caught:
        find_templates("open-clip:imagenet")
    assert caught.value.fix == "pip install open-clip-torch"
    assert caught.value.exit_code == 1


def test_unknown_templates_name_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        find_templates("clip")
    assert caught.value.came == "the templates are 'clip'"
    assert all(name in caught.value.expected for name in (*TEMPLATES_BY_NAME, *OPEN_CLIP_TEMPLATES))
