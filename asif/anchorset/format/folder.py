"""The folder of one anchor set or gallery: the paths of its files, its versions, its aliases, its lock."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from asif.anchorset.format.atomic_io import (
    RESTORE_ADVICE,
    atomic_write_bytes,
    check_file_size,
    make_folder,
    read_small_file,
    remove_temporaries,
    translate_write_errors,
)
from asif.anchorset.format.blocks import AnchorBlock, read_block
from asif.anchorset.format.checksummed_json import JsonFields, load_checksummed
from asif.anchorset.format.kinds import ANCHORS, GALLERY, SetKind
from asif.anchorset.format.locks import WAIT_SECONDS, acquire_lock, is_held, read_holder
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.anchorset.format.references import is_sequence_number, is_version, parse_sequence_number
from asif.errors import Busy, Conflict, IntegrityError, NotFound, UsageError
from asif.vectors import dump_checksummed

CONTENT_SUFFIXES = {
    "blocks": ".safetensors",
    "pairs": ".parquet",
    "rejects": ".jsonl",
    "thumbnails": ".parquet",
}  # folder -> suffix after the sha256
_WRITTEN_ON_DEMAND = ("thumbnails",)
CURRENT_ALIAS = "current"
AliasStamp = tuple[int, int, int]
"""Inode, size and modification time in nanoseconds of the file of the aliases."""


@dataclass(frozen=True)
class SetFolder:
    """Locate the files of one set; `name` is the name its manifests must have, None if any name will do."""

    path: Path
    name: str | None
    kind: SetKind = ANCHORS

    @property
    def journal(self) -> Path:
        """Return the folder of the journals of builds in progress."""
        return self.path / "journal"

    def content_path(self, kind: str, sha256: str) -> Path:
        """Return the path of the content of that kind and sha256."""
        return self.path / kind / f"{sha256}{CONTENT_SUFFIXES[kind]}"

    def block(self, manifest: Manifest, entry: BlockEntry) -> AnchorBlock:
        """Map a block of a version into memory; raises IntegrityError."""
        path = self.content_path("blocks", entry.sha256)
        check_file_size(path, entry.size)
        return read_block(path, entry.rows, manifest.dims, manifest.dtype)

    @property
    def fits(self) -> Path:
        """Return the folder of the fit cache."""
        return self.path / "fits"

    def fit_path(self, name: str) -> Path:
        """Return the path of the fit with that file name."""
        return self.fits / name

    def version_file(self, version: str) -> Path:
        """Return the path of the manifest of a version."""
        return self.path / "versions" / f"{version}.json"

    def refuse_symlinks(self) -> None:
        """Raise IntegrityError if the set, or a folder in it, is a symlink and could lead out of the store."""
        inner = [self.path / kind for kind in (*CONTENT_SUFFIXES, "versions", "journal", "fits")]
        for folder in (self.path, *inner) if self.name is not None else inner:
            refuse_link(folder)

    def exactly(self, version: str) -> str:
        """Return the reference that always means a version."""
        return f"{self.name or self.path}@{version}"

    def versions(self) -> list[str]:
        """Return the versions, oldest first, by their file names alone."""
        found = (file.stem for file in (self.path / "versions").glob("*.json"))
        return sorted(
            (stem for stem in found if is_version(stem)), key=lambda stem: (parse_sequence_number(stem), stem)
        )

    def manifest(self, version: str) -> Manifest:
        """Read the manifest of a version; raises IntegrityError, UnknownFormat."""
        path = self.version_file(version)
        manifest = Manifest.from_bytes(read_small_file(path), str(path))
        if manifest.version != version:
            raise IntegrityError(
                f"{path} holds version {manifest.version}", "the version it is named by", RESTORE_ADVICE
            )
        if manifest.kind is not self.kind:
            other = "asif gallery" if manifest.kind is GALLERY else "asif anchors"
            raise UsageError(
                f"{self.path} is of the kind {manifest.kind.noun}", f"the kind {self.kind.noun}", f"use {other} for it"
            )
        if self.name is not None and manifest.name != self.name:
            raise IntegrityError(
                f"{path} belongs to the {self.kind.noun} {manifest.name!r}",
                f"a version of {self.name!r}, as the folder is called",
                "rename the folder back, or open it by its path",
            )
        return manifest

    def current_manifest(self) -> Manifest:
        """Read the manifest of the current version, again if it was deleted meanwhile; raises as `resolve` does."""
        while True:
            version = self.resolve(CURRENT_ALIAS)
            with suppress(Conflict), self.reading(version):
                return self.manifest(version)

    @contextmanager
    def reading(self, version: str) -> Iterator[None]:
        """Raise Conflict in place of an error about the files of a version if the version was deleted meanwhile.

        Whoever deletes a version deletes its manifest first, so that files which vanish later belong to no version.
        """
        try:
            yield
        except (IntegrityError, FileNotFoundError) as error:
            if os.path.lexists(self.version_file(version)):
                raise
            raise self.make_deleted_error(version) from error

    def make_deleted_error(self, version: str) -> Conflict:
        """Make the error for a version that was deleted while it was read."""
        current = self.aliases().get(CURRENT_ALIAS)
        return Conflict(
            f"{self.exactly(version)} was deleted while it was read; the current version is {current or 'none'}",
            "a version that is there until the end: a purge, or gc, has deleted this one",
            "open the set again; nothing is damaged",
        )

    def aliases(self) -> dict[str, str]:
        """Read the aliases, {alias: version}; empty before the first version is published."""
        path = self.path / "aliases.json"
        if not path.is_symlink() and not path.exists():
            return {}
        fields = load_checksummed(read_small_file(path), str(path))
        aliases = fields.mapping("aliases")
        checked = JsonFields(aliases, f"{path}: aliases")
        return {alias: checked.text(alias) for alias in aliases}

    def stamp(self) -> AliasStamp | None:
        """Return a stamp that changes whenever the aliases are written; None if there are no aliases."""
        try:
            status = (self.path / "aliases.json").stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def set_alias(self, alias: str, version: str) -> None:
        """Move an alias to a version; the caller holds the lock."""
        aliases: Mapping[str, str] = {**self.aliases(), alias: version}
        atomic_write_bytes(self.path / "aliases.json", dump_checksummed({"aliases": aliases}))

    def remove_alias(self, alias: str) -> None:
        """Delete an alias; the caller holds the lock."""
        aliases = {name: version for name, version in self.aliases().items() if name != alias}
        atomic_write_bytes(self.path / "aliases.json", dump_checksummed({"aliases": aliases}))

    def resolve(self, selector: str | None) -> str:
        """Return the version that an alias, a sequence number or a version means; raises NotFound, IntegrityError."""
        selector = selector or CURRENT_ALIAS
        if is_sequence_number(selector):
            matching = [version for version in self.versions() if parse_sequence_number(version) == int(selector)]
        elif is_version(selector):
            matching = [selector] if selector in self.versions() else []
        else:
            matching = self._resolve_alias(selector)
        if len(matching) > 1:
            raise IntegrityError(
                f"{self.path} has {len(matching)} versions {selector}", "one of each number", RESTORE_ADVICE
            )
        if not matching:
            known = ", ".join([*sorted(self.aliases()), *self.versions()]) or "none yet"
            raise NotFound(
                f"the {self.kind.noun} {self.name or str(self.path)!r} has no {selector!r}",
                f"one of: {known}",
                "name another",
            )
        return matching[0]

    def _resolve_alias(self, alias: str) -> list[str]:
        target = self.aliases().get(
            alias
        )  # read before the versions: a writer moves an alias after it wrote the version
        versions = self.versions()
        if target is None or target in versions:
            return [] if target is None else [target]
        if self.aliases().get(alias) != target:
            return self._resolve_alias(alias)  # the alias moved meanwhile, and its old version was deleted
        raise IntegrityError(
            f"the alias {alias!r} in {self.path} points at {target!a}, which is missing",
            f"one of: {', '.join(versions) or 'no version is there'}",
            RESTORE_ADVICE,
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the set for writing, after removing the temporary files of dead writers.

        Raises Busy if another process holds it for too long; errors of the system become AsifError.
        """
        self.refuse_symlinks()
        kinds = [self.path / kind for kind in (*CONTENT_SUFFIXES, "versions")]
        for folder in (self.path, *kinds):
            if folder.name not in _WRITTEN_ON_DEMAND:
                make_folder(folder)
        lock = acquire_lock(self._lock_file, self._make_busy_error, WAIT_SECONDS)
        try:
            with translate_write_errors(self.path, 4096):
                for folder in (self.path, self.journal, self.fits, *kinds):
                    remove_temporaries(folder)
                yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Tell whether the set is being written now; see `locks.is_held`."""
        return is_held(self._lock_file)

    @property
    def _lock_file(self) -> Path:
        return self.path / ".lock"

    def _make_busy_error(self) -> Busy:
        return Busy(
            f"{self.path} is locked by {read_holder(self._lock_file)}",
            f"a lock that is free within {WAIT_SECONDS:.0f} seconds",
            "wait for that process, or stop it: finished work stays on disk; then run the same command again",
        )


def refuse_link(path: Path) -> None:
    """Raise IntegrityError if `path` is a symlink."""
    if path.is_symlink():
        raise IntegrityError(f"{path} is a symlink", "a plain folder inside the store", "put the folder itself there")
