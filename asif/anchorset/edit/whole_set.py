"""Delete a whole anchor set, or give it another name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from asif.anchorset.format.atomic_io import (
    TEMPORARY_PREFIX,
    atomic_write_bytes,
    fsync_path,
    make_folder,
    remove_folder,
    remove_temporaries,
    temporary_path,
    translate_write_errors,
)
from asif.anchorset.format.folder import CURRENT_ALIAS, SetFolder
from asif.anchorset.format.locks import WAIT_SECONDS, acquire_lock, is_held
from asif.anchorset.format.set_entry import measure_folder
from asif.errors import Busy, IntegrityError, UsageError


@dataclass(frozen=True)
class DeletedSet:
    """Hold what was deleted with a set: its versions, oldest first, and its bytes on disk."""

    name: str
    versions: tuple[str, ...]
    bytes: int


def delete_set(folder: SetFolder) -> DeletedSet:
    """Delete a set with all versions, fits and unfinished builds; a damaged one, too.

    Raises UsageError while an alias other than `current` pins a version, Busy while a build of it runs.
    """
    with _whole_set(folder):
        pinned = sorted(set(_read_aliases(folder)) - {CURRENT_ALIAS})
        if pinned:
            raise UsageError(
                f"the alias {pinned[0]!r} points at a version of {folder.path.name!r}",
                "a set without aliases other than current",
                f"make sure that nobody uses it, then: asif anchors alias {folder.path.name} {pinned[0]} --delete",
            )
        deleted = DeletedSet(folder.path.name, tuple(folder.versions()), measure_folder(folder.path))
        remove_folder(folder.path)
        fsync_path(folder.path.parent)
    return deleted


def rename_set(folder: SetFolder, new: SetFolder) -> None:
    """Give a set another name, with all versions, aliases and fits; numbers, digests and files stay the same.

    If this is killed, the set has the old name, the new one, or both. Raises UsageError if the new name is taken or
    builds are unfinished, IntegrityError for a damaged manifest.
    """
    _refuse_taken(new)
    with _whole_set(folder):
        if folder.journal.is_dir() and any(path.is_dir() for path in folder.journal.iterdir()):
            raise UsageError(
                f"the anchor set {folder.path.name!r} has an unfinished build",
                "a set without one, since a build belongs to a name",
                "run the build again to finish it, then rename the set",
            )
        with temporary_path(new.path.parent) as stage:
            try:
                _copy_under_name(folder, SetFolder(stage, None), new.path.name)
                _refuse_taken(new)
                os.rename(stage, new.path)
            finally:
                shutil.rmtree(stage, ignore_errors=True)
        fsync_path(new.path.parent)
        remove_folder(folder.path)
        fsync_path(folder.path.parent)


@contextmanager
def _whole_set(folder: SetFolder) -> Iterator[None]:
    """Hold the lock of a set for a change of its folder; raises Busy while a build of it runs."""
    store_lock = acquire_lock(folder.path.parent / ".lock", _make_busy_error, WAIT_SECONDS)
    try:
        with folder.locked(), translate_write_errors(folder.path, 4096):
            if any(is_held(path) for path in folder.journal.glob("*.lock")):
                raise Busy(f"a build of {folder.path.name!r} is running", "a set at rest", "wait for it, or stop it")
            remove_temporaries(folder.path.parent)  # what a killed deletion left
            yield
    finally:
        store_lock.release()


def _make_busy_error() -> Busy:
    return Busy("another set of this store is deleted or renamed now", "one at a time", "wait for it, then try again")


def _read_aliases(folder: SetFolder) -> dict[str, str]:
    """Read the aliases of a set that is to be deleted; none if they are damaged."""
    try:
        return folder.aliases()
    except IntegrityError:
        return {}


def _refuse_taken(new: SetFolder) -> None:
    if os.path.lexists(new.path):
        raise UsageError(f"there is an anchor set {new.path.name!r} already", "a name that is free", "choose another")


def _copy_under_name(folder: SetFolder, stage: SetFolder, name: str) -> None:
    """Link all files of a set into a new folder, except for its manifests, which get the new name."""
    manifests = [folder.manifest(version) for version in folder.versions()]
    make_folder(stage.path / "versions")
    left_out = {".lock", *(f"{manifest.version}.json" for manifest in manifests)}
    for source, inner, files in os.walk(folder.path):
        inner[:] = [each for each in inner if Path(source) / each != folder.journal]
        target = stage.path / os.path.relpath(source, folder.path)
        for each in inner:
            make_folder(target / each)
        for file in files:
            if file not in left_out and not file.startswith(TEMPORARY_PREFIX):
                _link_or_copy(Path(source) / file, target / file)
        fsync_path(target)
    for manifest in manifests:
        atomic_write_bytes(stage.version_file(manifest.version), replace(manifest, name=name).to_bytes())


def _link_or_copy(known: Path, to: Path) -> None:
    try:
        os.link(known, to)
    except OSError:
        shutil.copyfile(known, to)
        fsync_path(to)
