"""The names of encoders: `library:model`, and joins of several, `library:model+library:model`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Literal

from asif.encoders.audio.load import parse_audio_spec
from asif.errors import UsageError, suggest_nearest
from asif.vectors import Side

DEFAULT_ENCODERS: dict[Side, str] = {"image": "embedded:efficientnet-lite0", "text": "embedded:all-minilm-l6-v2"}

_SPEC_FORMS: dict[Side, tuple[str, ...]] = {
    "image": (
        "timm:<model>[@revision]",
        *("embedded:efficientnet-lite0", "embedded:efficientnet-lite1", "embedded:efficientnet-lite2"),
        "open-clip:<model>/<pretrained>",
    ),
    "text": (
        "sentence-transformers:<id>[@revision]",
        *("embedded:all-minilm-l6-v2", "embedded:bge-small-en"),
        "open-clip:<model>/<pretrained>",
    ),
}
_JOINT = re.compile(r"\+(?=[A-Za-z_-]+:|precomputed(?:\+|$)|\+*$|\++[A-Za-z_-]+:)")
"""A `+` before the name of a library, before another such `+`, or at the end."""
_LITES = "embedded:efficientnet-lite"
_SHORT = re.compile(rf"{_LITES}\d(\+\d)+")


def split_spec(spec: str) -> tuple[str, ...]:
    """Return the names of the encoders that a name joins, in order; one for an encoder that is not joined.

    A `+` in the path of a model that exists is a part of the path.

    >>> split_spec("timm:resnet50+embedded:efficientnet-lite0")
    ('timm:resnet50', 'embedded:efficientnet-lite0')
    >>> split_spec("embedded:efficientnet-lite0+2")
    ('embedded:efficientnet-lite0', 'embedded:efficientnet-lite2')
    """
    if _names_path(spec):
        return (spec,)
    return tuple(name for part in _JOINT.split(spec) for name in _expand_short(part))


def _expand_short(part: str) -> list[str]:
    """Return the names behind the short spelling of several EfficientNet-Lites, or the name of another encoder."""
    if _SHORT.fullmatch(part) is None:
        return [part]
    return [_LITES + number for number in part.removeprefix(_LITES).split("+")]


def join_specs(parts: Iterable[str]) -> str:
    """Return the name of a join of encoders: the short spelling if there is one.

    >>> join_specs(["embedded:efficientnet-lite0", "embedded:efficientnet-lite1"]), join_specs(["timm:a", "timm:b"])
    ('embedded:efficientnet-lite0+1', 'timm:a+timm:b')
    """
    listed = list(parts)
    if all(part.startswith(_LITES) for part in listed):
        return _LITES + "+".join(part.removeprefix(_LITES) for part in listed)
    return "+".join(listed)


def unify_spec(spec: str) -> str:
    """Return the one spelling of an encoder's name that sets record.

    >>> unify_spec("embedded:efficientnet-lite0+embedded:efficientnet-lite1"), unify_spec("timm:resnet50")
    ('embedded:efficientnet-lite0+1', 'timm:resnet50')
    """
    return join_specs(split_spec(spec))


def check_spec(spec: str, side: Side | Literal["audio"]) -> None:
    """Raise UsageError for an encoder name of the wrong form, of any part of a join; loads nothing."""
    if side == "audio":
        parse_audio_spec(spec)
        return
    parts = split_spec(spec)
    if len(parts) == 1:
        parse_spec(spec, side)
        return
    came = f"the {side} encoder is {spec!r}"
    if "" in parts:
        raise UsageError(
            f"{came}, which has an empty part", "the name of an encoder on each side of a +", "leave out that +"
        )
    if "precomputed" in parts:
        raise UsageError(
            f"{came}, which joins precomputed vectors",
            f"encoders that are loaded: {' or '.join(_SPEC_FORMS[side])}",
            "join the vectors yourself, each of unit length, and build from the joined ones",
        )
    for part in parts:
        parse_spec(part, side)
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice is not None:
        raise UsageError(f"{came}, which joins {twice} twice", "different encoders", "name each of them once")


def parse_spec(spec: str, side: Side) -> tuple[str, str]:
    """Split the name of one encoder into library and model; raises UsageError for an unknown library.

    >>> parse_spec("timm:resnet50.a1_in1k@main", "image")
    ('timm', 'resnet50.a1_in1k@main')
    """
    library, _, name = spec.partition(":")
    known = {pattern.partition(":")[0] for pattern in _SPEC_FORMS[side]}
    embedded = {pattern.partition(":")[2] for pattern in _SPEC_FORMS[side] if pattern.startswith("embedded")}
    if library in known and "+" in name and not _names_path(spec):
        raise UsageError(
            f"the {side} encoder is {spec!r}",
            "the library of each part of a join",
            f"write {spec.replace('+', f'+{library}:')}, or check the path if it is one",
        )
    whole = all(name.partition("/")) if library == "open-clip" else name
    if library not in known or not whole or (library == "embedded" and name not in embedded):
        example = f"for example {DEFAULT_ENCODERS[side]}"
        if not name:
            fix = example
        elif library in known:
            default = DEFAULT_ENCODERS[side].partition(":")[2]
            fix = suggest_nearest(name, [default] if default.startswith(name) else embedded, example)
            fix = fix.replace("write ", "write embedded:")
        else:
            fix = suggest_nearest(library, known, example).replace(", if", f":{name}, if")
        raise UsageError(f"the {side} encoder is {spec!r}", " or ".join(_SPEC_FORMS[side]), fix)
    return library, name


def _names_path(spec: str) -> bool:
    """Tell whether a name holds the path of a model, or of open_clip's weights, that exists."""
    name = spec.partition(":")[2]
    paths = name.removeprefix("local-dir:"), name.partition("/")[2]
    return any(map(os.path.exists, paths))
