"""Publish a tuned profile of an anchor set, aligner and parameters for a task, as a new version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.versions import check_current
from asif.anchorset.write.version import commit_version, current_utc_time, next_sequence_number


def publish_profile(
    folder: SetFolder, version: str, task: str, profile: Mapping[str, Any], asif_version: str
) -> AnchorSet:
    """Publish the next version of a set: the same anchors, and a profile for a task that replaces an older one.

    An equal version that a killed run wrote, or that is current already, is used as it is. Raises Conflict if
    `version` is no longer the current one: the profile was tuned for other anchors.
    """
    with folder.locked():
        check_current(folder, version, "the profile was found for")
        current = folder.manifest(version)
        recipe = current.operation.get("recipe")  # a ready-made set stays a ready-made set
        manifest = replace(
            current,
            seq=next_sequence_number(folder),
            parent=version,
            operation={"kind": "tune", "task": task, **({"recipe": recipe} if recipe else {})},
            created=current_utc_time(),
            profiles={**current.profiles, task: dict(profile)},
            asif=asif_version,
        )
        return AnchorSet(folder, commit_version(folder, manifest))
