"""Which aligner answers: the one that was named, or what suits the anchor set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asif.aligners import Aligner, Hubness, TrainedAligner, make_aligner
from asif.anchorset import OpenAnchors
from asif.errors import IntegrityError, UsageError
from asif.tuning import QUICK_CHECK_ROWS, Task, default_setting, has_repeated_texts


@dataclass(frozen=True)
class Choice:
    """Hold an aligner and a hubness correction; `profile` is the task whose profile they come from, if they do."""

    aligner: Aligner
    hubness: Hubness
    profile: Task | None = None


def named_aligner(name: str, parameters: Mapping[str, Any]) -> Aligner | None:
    """Make the aligner that was named; None for `auto`, unless it comes with parameters, which are those of `asif`.

    >>> named_aligner("auto", {"k": None}) is None, named_aligner("auto", {"k": 10}).name
    (True, 'asif')
    """
    if name != "auto":
        return make_aligner(name, **parameters)
    given = any(value is not None and value is not False for value in parameters.values())
    return make_aligner("asif", **parameters) if given else None


def choose(anchors: OpenAnchors, task: Task, aligner: Aligner | None, hubness: Hubness | None) -> Choice:
    """Take what is named; else what the set's profile says; else what does well on most sets.

    Without a profile that is `asif` for labels, or `cca` where several images share each text, and `procrustes`
    corrected for hubness for search. Raises IntegrityError for a profile that this version cannot read.
    """
    if isinstance(aligner, TrainedAligner):
        return Choice(aligner.find_trained(anchors), hubness or Hubness("none"))
    if aligner is not None:
        return Choice(aligner, hubness or Hubness("none"))
    profile = anchors.profiles.get(task)
    if profile is None:
        setting, correction = default_setting(
            task, texts_repeat=task == "classify" and has_repeated_texts(anchors, QUICK_CHECK_ROWS)
        )
        return Choice(make_aligner(setting.family), hubness or correction)
    found, tuned = read(profile, anchors.ref, task)
    return Choice(found, hubness or tuned, task)


def read(profile: Mapping[str, Any], ref: str, task: str) -> tuple[Aligner, Hubness]:
    """Read a profile."""
    try:
        return make_aligner(str(profile["aligner"])), Hubness(**profile.get("hubness", {"method": "none"}))
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        raise IntegrityError(
            f"the profile for {task} of {ref} cannot be read: {str(error).splitlines()[0]}",
            "an aligner and a hubness correction that this version has",
            f"upgrade asif, or tune again: asif tune --anchors {ref.partition('@')[0]} --task {task}",
        ) from error
