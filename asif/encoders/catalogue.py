"""List the encoders that can be named, and whether they are installed. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import metadata

from asif.encoders.embedded import EMBEDDED_WEIGHTS
from asif.encoders.spec import DEFAULT_ENCODERS
from asif.vectors import Side


@dataclass(frozen=True)
class EncoderEntry:
    """Describe one form of encoder name: its models, the installed version, and how to install it.

    `dim` is None if it depends on the model; `installed` and `install` are None if nothing has to be installed.
    """

    side: Side
    spec: str
    about: str
    dim: int | None = None
    installed: str | None = None
    install: str | None = None


def list_encoders() -> list[EncoderEntry]:
    """List the forms of encoder names by side, those that need no network first.

    >>> [entry.spec.partition(":")[0] for entry in list_encoders() if entry.side == "text"]
    ['embedded', 'sentence-transformers', 'open-clip', 'precomputed']
    """
    return [
        *(_describe_embedded("image", f"efficientnet-lite{size}") for size in range(3)),
        _describe_library("image", "timm:<model>[@revision]", "timm", "any model of timm.list_models(pretrained=True)"),
        _describe_open_clip("image"),
        _describe_precomputed("image"),
        _describe_embedded("text", "all-minilm-l6-v2"),
        _describe_library(
            "text", "sentence-transformers:<id>[@revision]", "sentence-transformers", "a model of the hub, or a folder"
        ),
        _describe_open_clip("text"),
        _describe_precomputed("text"),
    ]


def _describe_embedded(side: Side, name: str) -> EncoderEntry:
    """Describe an encoder whose weights are a package; it is installed when the weights are."""
    one = EMBEDDED_WEIGHTS[name]
    found = metadata.version(one.distribution) if one.path() is not None else None
    spec = f"embedded:{name}"
    about = "weights from the package index, no network needed"
    about += "; the default" if spec == DEFAULT_ENCODERS[side] else "; joined: embedded:efficientnet-lite0+1+2"
    return EncoderEntry(side, spec, about, one.dim, found, "pip install 'asif-engine[embedded]'")


def _describe_library(side: Side, spec: str, library: str, about: str) -> EncoderEntry:
    """Describe the models of a library."""
    try:
        found = metadata.version(library)
    except metadata.PackageNotFoundError:
        found = None
    return EncoderEntry(side, spec, about, installed=found, install=f"pip install {library}")


def _describe_open_clip(side: Side) -> EncoderEntry:
    """Describe the towers of open_clip's models."""
    about = "a tower of open_clip.list_pretrained(), for reference; published weights not run"
    found = _describe_library(side, "open-clip:<model>/<pretrained>", "open_clip_torch", about)
    return replace(found, install="pip install 'asif-engine[open-clip]'")


def _describe_precomputed(side: Side) -> EncoderEntry:
    """Describe precomputed vectors: no model, nothing to install."""
    return EncoderEntry(side, "precomputed", "vectors that come with the pairs; not named on the command line")
