"""The aligner for a task: the one the caller named, else the set's profile, else a good default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asif.aligners import Aligner, Hubness, TrainedAligner, make_aligner
from asif.anchorset import OpenAnchors
from asif.errors import IntegrityError, UsageError
from asif.tuning import QUICK_CHECK_ROWS, Task, default_setting, has_repeated_images, has_repeated_texts


@dataclass(frozen=True)
class AlignerChoice:
    """An aligner and a hubness correction; `profile` is the task of the profile that they come from, if any."""

    aligner: Aligner
    hubness: Hubness
    profile: Task | None = None


def make_named_aligner(name: str, parameters: Mapping[str, Any]) -> Aligner | None:
    """Make the aligner of a name; None for `auto`, unless there are parameters, which then are those of `asif`.

    >>> make_named_aligner("auto", {"k": None}) is None, make_named_aligner("auto", {"k": 10}).name
    (True, 'asif')
    """
    if name != "auto":
        return make_aligner(name, **parameters)
    has_parameters = any(value is not None and value is not False for value in parameters.values())
    return make_aligner("asif", **parameters) if has_parameters else None


def choose_aligner(anchors: OpenAnchors, task: Task, aligner: Aligner | None, hubness: Hubness | None) -> AlignerChoice:
    """Choose the aligner for a task: the named one, else that of the set's profile, else the default for the task.

    The default is `cca(words)`: with a hubness correction for search, alone for labels if several images share each
    text, else in a sum with `asif`. It reads no words if vectors of texts come without texts; of large sets it is `cca`
    or `asif`, see `default_setting`. Raises IntegrityError for a profile that this version cannot read.
    """
    if isinstance(aligner, TrainedAligner):
        return AlignerChoice(aligner.find_trained(anchors), hubness or Hubness("none"))
    if aligner is not None:
        return AlignerChoice(aligner, hubness or Hubness("none"))
    profile = anchors.profiles.get(task)
    if profile is None:
        setting, correction = default_setting(
            task,
            anchors.count,
            texts_repeat=task == "classify" and has_repeated_texts(anchors, QUICK_CHECK_ROWS),
            images_repeat=task == "search" and has_repeated_images(anchors),
            words=encodes_texts(anchors),
        )
        return AlignerChoice(make_aligner(setting.family), hubness or correction)
    tuned, correction = _read_profile(profile, anchors.ref, task)
    return AlignerChoice(tuned, hubness or correction, task)


def encodes_texts(anchors: OpenAnchors) -> bool:
    """Tell whether an encoder makes the text vectors of a set, so that queries come with their texts."""
    return anchors.encoder_spec("text") != "precomputed"


def _read_profile(profile: Mapping[str, Any], ref: str, task: str) -> tuple[Aligner, Hubness]:
    """Make the aligner and the hubness correction of a profile."""
    try:
        return make_aligner(str(profile["aligner"])), Hubness(**profile.get("hubness", {"method": "none"}))
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        raise IntegrityError(
            f"the profile for {task} of {ref} cannot be read: {str(error).splitlines()[0]}",
            "an aligner and a hubness correction that this version has",
            f"upgrade asif, or tune again: asif tune --anchors {ref.partition('@')[0]} --task {task}",
        ) from error
