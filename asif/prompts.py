"""Prompts: templates by name, and readable words for labels.

The door to open_clip, for the templates with which its models are evaluated.
"""

from __future__ import annotations

import re
from importlib import import_module

from asif.errors import MissingDependency, UsageError, suggest_nearest

TEMPLATES_BY_NAME: dict[str, tuple[str, ...]] = {
    "plain": ("{}",),
    "photo": ("a photo of a {}.",),
    "photos": (
        "a photo of a {}.",
        "a close-up of a {}.",
        "a {} seen from afar.",
        "a small {}.",
        "a large {}.",
        "a dark picture with a {} in it.",
        "a bright picture with a {} in it.",
    ),
    "aerial": ("an aerial photo of {}.", "{} seen from above.", "a satellite image that shows {}."),
    "medical": ("a medical image that shows {}.", "a scan with signs of {}.", "findings: {}."),
    "sound": ("the sound of {}.",),
    "product": ("a product photo of a {}.", "a {} for sale.", "a {} on a white background."),
}
"""Templates by name; several are averaged."""
OPEN_CLIP_TEMPLATES = {
    "open-clip:imagenet": "OPENAI_IMAGENET_TEMPLATES",
    "open-clip:openai-simple": "SIMPLE_IMAGENET_TEMPLATES",
}
"""Names of templates, and their names in open_clip.zero_shot_metadata."""

_CAMEL = re.compile(r"(?<=[a-z]{2})(?=[A-Z][a-z])")
_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})")


def find_templates(name: str) -> tuple[str, ...]:
    """Find the templates of a name; raises UsageError for an unknown one, MissingDependency without open_clip.

    >>> find_templates("photo")
    ('a photo of a {}.',)
    """
    if name in TEMPLATES_BY_NAME:
        return TEMPLATES_BY_NAME[name]
    if name not in OPEN_CLIP_TEMPLATES:
        raise UsageError(
            f"the templates are {name!r}",
            f"one of {', '.join((*TEMPLATES_BY_NAME, *OPEN_CLIP_TEMPLATES))}",
            suggest_nearest(
                name,
                (*TEMPLATES_BY_NAME, *OPEN_CLIP_TEMPLATES),
                "choose one of them, or write your own with --template 'a photo of a {}.'",
            ),
        )
    try:
        module = import_module("open_clip.zero_shot_metadata")
    except ImportError as error:
        raise MissingDependency(
            f"the templates {name} without open_clip ({error})", "the package open_clip", "pip install open-clip-torch"
        ) from error
    return tuple(template("{}") for template in getattr(module, OPEN_CLIP_TEMPLATES[name]))


def make_readable(label: str) -> str:
    """Turn a data set's label into words: underscores, hyphens between words and CamelCase become blanks.

    Upper and lower case stay; so do a single letter and its hyphen, numbers, and names like iPhone or McDonald.

    >>> [make_readable(label) for label in ("car_side", "BACKGROUND_Google", "AnnualCrop", "inline-skate")]
    ['car side', 'BACKGROUND Google', 'Annual Crop', 'inline skate']
    >>> [make_readable(label) for label in ("t-shirt", "737-800", "iPhone", "McDonald", "n01440764", "_")]
    ['t-shirt', '737-800', 'iPhone', 'McDonald', 'n01440764', '_']
    """
    spaced = _HYPHEN.sub(" ", _CAMEL.sub(" ", label.replace("_", " ")))
    return " ".join(spaced.split()) or label
