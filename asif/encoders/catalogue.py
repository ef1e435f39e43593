"""List the encoders that can be named, and whether they are installed. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import metadata
from typing import Literal

from asif.encoders.audio.load import AUDIO_FORMS
from asif.encoders.embedded import ALL_WEIGHTS
from asif.encoders.spec import DEFAULT_ENCODERS
from asif.vectors import Side


@dataclass(frozen=True)
class EncoderEntry:
    """Describe one form of encoder name: its models, the installed version, and how to install it.

    `dim` is None if it depends on the model; `installed` and `install` are None if nothing has to be installed.
    """

    side: Side | Literal["audio"]
    spec: str
    about: str
    dim: int | None = None
    installed: str | None = None
    install: str | None = None


def list_encoders() -> list[EncoderEntry]:
    """List the forms of encoder names by side, those that need no network first.

    >>> [entry.spec.partition(":")[0] for entry in list_encoders() if entry.side == "text"]
    ['embedded', 'embedded', 'sentence-transformers', 'open-clip', 'precomputed']
    """
    return [
        *(_describe_embedded("image", f"efficientnet-lite{size}") for size in range(3)),
        _describe_library("image", "timm:<model>[@revision]", "timm", "any model of timm.list_models(pretrained=True)"),
        _describe_open_clip("image"),
        _describe_precomputed("image"),
        *(_describe_embedded("text", name) for name in ("all-minilm-l6-v2", "bge-small-en")),
        _describe_library(
            "text", "sentence-transformers:<id>[@revision]", "sentence-transformers", "a model of the hub, or a folder"
        ),
        _describe_open_clip("text"),
        _describe_precomputed("text"),
        *_describe_audio(),
    ]


def _describe_audio() -> list[EncoderEntry]:
    """Describe the encoders of sounds, all of which decode by soundfile and resample by soxr."""
    about = (
        "mel statistics, not learned: a baseline; no network needed",
        "a CLAP of the hub, or a folder: its audio tower; published weights not run",
        "a Whisper: its encoder, mean over frames; published weights not run",
        "wav2vec2, HuBERT, WavLM, AST; published weights not run",
    )
    try:
        found = metadata.version("soundfile")
    except metadata.PackageNotFoundError:
        found = None
    forms = (AUDIO_FORMS[-1], *AUDIO_FORMS[:-1])
    install = "pip install 'asif-engine[audio]'"
    return [
        *(EncoderEntry("audio", form, text, None, found, install) for form, text in zip(forms, about, strict=True)),
        _describe_precomputed("audio"),
    ]


def _describe_embedded(side: Side, name: str) -> EncoderEntry:
    """Describe an encoder whose weights are a package; it is installed when the weights are."""
    one = ALL_WEIGHTS[name]
    found = metadata.version(one.distribution) if one.path() is not None else None
    spec = f"embedded:{name}"
    about = "weights from the package index, no network needed"
    joined = "efficientnet-lite0+1+2" if side == "image" else f"all-minilm-l6-v2+{spec}"
    about += "; the default" if spec == DEFAULT_ENCODERS[side] else f"; joined: embedded:{joined}"
    return EncoderEntry(side, spec, about, one.dim, found, one.install)


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


def _describe_precomputed(side: Side | Literal["audio"]) -> EncoderEntry:
    """Describe precomputed vectors: no model, nothing to install."""
    return EncoderEntry(side, "precomputed", "vectors that come with the pairs; not named on the command line")
