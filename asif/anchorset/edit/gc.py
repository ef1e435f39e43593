"""Delete versions, and every file that no remaining version needs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from asif.anchorset.format.atomic_io import fsync_path
from asif.anchorset.format.fit_cache import find_unneeded_fits
from asif.anchorset.format.folder import CONTENT_SUFFIXES, SetFolder
from asif.errors import UsageError


@dataclass(frozen=True)
class DeletedFiles:
    """Hold what was deleted: the versions, oldest first, and the number and bytes of all files."""

    versions: tuple[str, ...]
    files: int
    bytes: int


def collect_garbage(folder: SetFolder, keep: int) -> DeletedFiles:
    """Delete all versions but the newest `keep` and those that aliases point at, and the files that only they need.

    A process that has a deleted version open can go on with what it has mapped, but cannot read more of it. Builds in
    progress are left alone. Raises UsageError for `keep` below 1, IntegrityError or UnknownFormat for a version that
    cannot be read, since the files it needs are not known.
    """
    if keep < 1:
        raise UsageError(f"{keep} versions are to be kept", "one, at least", "pass --keep 1")
    with folder.locked():
        versions = folder.versions()
        kept = {*versions[-keep:], *folder.aliases().values()}
        return delete_versions(folder, [version for version in versions if version not in kept])


def delete_versions(folder: SetFolder, doomed: Collection[str]) -> DeletedFiles:
    """Delete these versions, then every file that no other needs; the caller holds the lock.

    Versions are deleted first, so that no version is ever there without its files. A call that was killed is completed
    by the next one.
    """
    remaining = [folder.manifest(version) for version in folder.versions() if version not in doomed]
    needed: set[Path] = set()
    for manifest in remaining:
        needed |= {folder.content_path(kind, file.sha256) for kind, file in manifest.content_files}
    blocks = {entry.sha256 for manifest in remaining for entry in manifest.blocks}
    deleted = [folder.version_file(version) for version in sorted(doomed)]
    size = _delete_files(deleted, folder.path / "versions")
    for kind in CONTENT_SUFFIXES:
        unneeded = [path for path in sorted((folder.path / kind).glob("*")) if path not in needed]
        size += _delete_files(unneeded, folder.path / kind)
        deleted += unneeded
    fits = find_unneeded_fits(folder.fits, [manifest.digest for manifest in remaining], blocks)
    size += _delete_files(fits, folder.fits)
    return DeletedFiles(tuple(sorted(doomed)), len(deleted) + len(fits), size)


def _delete_files(paths: Collection[Path], folder: Path) -> int:
    """Delete files of a folder, durably; return their bytes."""
    size = 0
    for path in paths:
        size += path.lstat().st_size
        path.unlink()
    if paths:
        fsync_path(folder)
    return size
