"""What identifies a version of an anchor set in the JSON of every command that makes or moves one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asif.anchorset import AnchorSet, Manifest


def summarise_version(version: AnchorSet | Manifest) -> dict[str, Any]:
    """Return name, version, digest and number of anchors, for JSON."""
    return {
        "name": version.name,
        "version": version.version,
        "digest": version.digest,
        "anchors": version.count,
    }
