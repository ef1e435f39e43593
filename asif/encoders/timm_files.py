"""The names of ImageNet's classes, read from timm's files: importing timm would import torch."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from asif.errors import MissingDependency

SUBSETS = {
    1000: "imagenet_synsets.txt",
    11821: "imagenet12k_synsets.txt",
    21841: "imagenet22k_synsets.txt",
    21843: "imagenet21k_goog_synsets.txt",
}
"""The file that lists the WordNet ids of a classifier's classes, by their number."""


def read_imagenet_classes(count: int) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return WordNet ids, names (comma-separated lemmas) and definitions of ImageNet's classes, `count` each.

    Raises MissingDependency without timm or its files.
    """
    ids = _read_file(SUBSETS[count]).splitlines()
    names = _read_table("imagenet_synset_to_lemma.txt")
    definitions = _read_table("imagenet_synset_to_definition.txt")
    return tuple(ids), tuple(names[id_] for id_ in ids), tuple(definitions[id_] for id_ in ids)


def read_synset_names(ids: Sequence[str]) -> list[str] | None:
    """Return the lemmas of WordNet ids, separated by commas; None unless all are in ImageNet-21k."""
    known = set(_read_file(SUBSETS[21841]).splitlines())
    if not known.issuperset(ids):
        return None
    names = _read_table("imagenet_synset_to_lemma.txt")
    return [names[id_] for id_ in ids]


def _read_table(name: str) -> dict[str, str]:
    return dict(csv.reader(_read_file(name).splitlines(), delimiter="\t"))


def _read_file(name: str) -> str:
    spec = importlib.util.find_spec("timm")  # finds it, and runs nothing of it
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / "data" / "_info" / name
    if path is None or not path.is_file():
        raise MissingDependency(f"timm is not installed, or lacks {name}", "timm", "pip install -U timm")
    return path.read_text(encoding="utf-8")
