"""The names of ImageNet's classes are those that timm itself gives."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from asif.encoders.timm_files import SUBSETS, read_imagenet_classes, read_synset_names
from asif.errors import MissingDependency

NAMES = {1000: "imagenet-1k", 11821: "imagenet-12k", 21841: "imagenet-22k", 21843: "imagenet-21k"}


@pytest.mark.slow
@pytest.mark.parametrize("classes", SUBSETS)
def test_classes_are_those_of_timm(classes: int) -> None:
    from timm.data import ImageNetInfo

    info = ImageNetInfo(NAMES[classes])
    ids, names, definitions = read_imagenet_classes(classes)
    assert info.num_classes() == len(ids) == len(names) == len(definitions) == classes
    assert list(ids) == info.label_names()
    described = [f"{name}: {definition}" for name, definition in zip(names, definitions, strict=True)]
    assert described == [info.index_to_description(row, detailed=True) for row in range(classes)]
    assert list(names) == [info.index_to_description(row) for row in range(classes)]


def test_names_of_ids() -> None:
    assert read_synset_names(["n02124075", "n01440764"]) == ["Egyptian cat", "tench, Tinca tinca"]
    assert read_synset_names(["n02124075", "cat"]) is None
    assert read_synset_names([]) == []


@pytest.mark.parametrize("is_installed", [True, False])
def test_without_the_files(is_installed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = SimpleNamespace(origin=str(tmp_path / "__init__.py")) if is_installed else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(MissingDependency, match=r"lacks imagenet_synsets\.txt") as caught:
        read_imagenet_classes(1000)
    assert caught.value.fix == "pip install -U timm"
