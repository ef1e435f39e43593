"""Delete versions, and every file that no remaining one needs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from asif.anchorset.format.atomic_io import flush
from asif.anchorset.format.folder import CONTENT, SetFolder
from asif.errors import UsageError


@dataclass(frozen=True)
class Swept:
    """Hold what was deleted: versions, oldest first, and how many files and bytes with them."""

    versions: tuple[str, ...]
    files: int
    bytes: int


def collect(folder: SetFolder, keep: int) -> Swept:
    """Delete all versions but the newest `keep` and those that aliases point at, and what they alone need.

    Whoever has a deleted version open goes on with what is mapped, but cannot read more of it. Builds in progress are
    left alone. Raises UsageError for fewer than one, IntegrityError or UnknownFormat for a version that cannot be read:
    what it needs is not known.
    """
    if keep < 1:
        raise UsageError(f"{keep} versions are to be kept", "one, at least", "pass --keep 1")
    with folder.locked():
        versions = folder.versions()
        kept = {*versions[-keep:], *folder.aliases().values()}
        return sweep(folder, [version for version in versions if version not in kept])


def sweep(folder: SetFolder, doomed: Collection[str]) -> Swept:
    """Delete these versions, then every file that no other needs; the caller holds the lock.

    Versions go first, so that none is ever there in part; killed in between, the next sweep finishes.
    """
    remaining = [folder.manifest(version) for version in folder.versions() if version not in doomed]
    needed: set[Path] = set()
    for manifest in remaining:
        needed |= {folder.content("blocks", entry.sha256) for entry in manifest.blocks}
        needed |= {folder.content("pairs", entry.pairs.sha256) for entry in manifest.blocks}
        needed |= {folder.content("rejects", manifest.rejects.sha256)} if manifest.rejects else set()
    digests = {manifest.digest[:12] for manifest in remaining}
    gone = [folder.version_file(version) for version in sorted(doomed)]
    size = _delete(gone, folder.path / "versions")
    for kind in CONTENT:
        strays = [path for path in sorted((folder.path / kind).glob("*")) if path not in needed]
        size += _delete(strays, folder.path / kind)
        gone += strays
    fits = [path for path in sorted((folder.path / "fits").glob("*")) if path.name[:12] not in digests]
    size += _delete(fits, folder.path / "fits")
    return Swept(tuple(sorted(doomed)), len(gone) + len(fits), size)


def _delete(paths: Collection[Path], folder: Path) -> int:
    """Delete files of a folder, durably; return their bytes."""
    size = 0
    for path in paths:
        size += path.lstat().st_size
        path.unlink()
    if paths:
        flush(folder)
    return size
