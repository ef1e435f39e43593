"""Profiles: what was found to suit an anchor set, kept with it as a version of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.references import seq_of
from asif.anchorset.format.versions import check_current
from asif.anchorset.write.publish import settle, utc_now


def publish_profile(
    folder: SetFolder, version: str, task: str, profile: Mapping[str, Any], asif_version: str
) -> AnchorSet:
    """Publish the next version of a set: the same anchors, and a profile for a task in place of an older one.

    One that was written before a kill, or is current already, is taken as it is. Raises Conflict where `version` is not
    the current one (any more): the profile was found for other anchors.
    """
    with folder.locked():
        check_current(folder, version, "the profile was found for")
        found = folder.manifest(version)
        recipe = found.operation.get("recipe")  # a ready-made set stays one
        manifest = replace(
            found,
            seq=max(map(seq_of, folder.versions())) + 1,
            parent=version,
            operation={"kind": "tune", "task": task, **({"recipe": recipe} if recipe else {})},
            created=utc_now(),
            profiles={**found.profiles, task: dict(profile)},
            asif=asif_version,
        )
        return AnchorSet(folder, settle(folder, manifest))
