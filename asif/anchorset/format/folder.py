"""The folder of one anchor set: where its files lie, its versions, its aliases, its lock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from asif.anchorset.format.atomic_io import (
    RESTORE,
    check_size,
    make_folder,
    put_bytes,
    read_small,
    remove_leftovers,
    writing,
)
from asif.anchorset.format.blocks import Block, read_block
from asif.anchorset.format.checksummed_json import Fields, seal, unseal
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.anchorset.format.references import is_seq, is_version, seq_of
from asif.errors import IntegrityError, NotFound

CONTENT = {"blocks": ".safetensors", "pairs": ".parquet", "rejects": ".jsonl"}  # folder -> suffix after the sha256
CURRENT = "current"
Stamp = tuple[int, int, int]
"""Inode, size, and time of change in nanoseconds."""


@dataclass(frozen=True)
class SetFolder:
    """Find the files of one anchor set; `name` is what the set must call itself, None where any name will do."""

    path: Path
    name: str | None

    @property
    def journal(self) -> Path:
        """Return where builds in progress lie."""
        return self.path / "journal"

    def content(self, kind: str, sha256: str) -> Path:
        """Return where the content of that kind and sha256 lies."""
        return self.path / kind / f"{sha256}{CONTENT[kind]}"

    def block(self, manifest: Manifest, entry: BlockEntry) -> Block:
        """Map a block of a version; raises IntegrityError."""
        path = self.content("blocks", entry.sha256)
        check_size(path, entry.size)
        return read_block(path, entry.rows, manifest.dims, manifest.dtype)

    def fit(self, name: str) -> Path:
        """Return where a fit of that file name lies."""
        return self.path / "fits" / name

    def version_file(self, version: str) -> Path:
        """Return where the manifest of a version lies."""
        return self.path / "versions" / f"{version}.json"

    def check_links(self) -> None:
        """Raise IntegrityError where the set, or a folder in it, is a symlink and could lead out of the store."""
        inner = [self.path / kind for kind in (*CONTENT, "versions", "journal", "fits")]
        for folder in (self.path, *inner) if self.name is not None else inner:
            refuse_link(folder)

    def exactly(self, version: str) -> str:
        """Return the reference that means a version for ever."""
        return f"{self.name or self.path}@{version}"

    def versions(self) -> list[str]:
        """Return the versions, oldest first, by their file names alone."""
        found = (file.stem for file in (self.path / "versions").glob("*.json"))
        return sorted((stem for stem in found if is_version(stem)), key=lambda stem: (seq_of(stem), stem))

    def manifest(self, version: str) -> Manifest:
        """Read the manifest of a version; raises IntegrityError, UnknownFormat."""
        path = self.version_file(version)
        manifest = Manifest.from_bytes(read_small(path), str(path))
        if manifest.version != version:
            raise IntegrityError(f"{path} holds version {manifest.version}", "the version it is named by", RESTORE)
        if self.name is not None and manifest.name != self.name:
            raise IntegrityError(
                f"{path} belongs to the anchor set {manifest.name!r}",
                f"a version of {self.name!r}, as the folder is called",
                "rename the folder back, or open it by its path",
            )
        return manifest

    def aliases(self) -> dict[str, str]:
        """Read the aliases, {alias: version}; empty before the first version is published."""
        path = self.path / "aliases.json"
        if not path.is_symlink() and not path.exists():
            return {}
        fields = unseal(read_small(path), str(path))
        aliases = fields.mapping("aliases")
        checked = Fields(aliases, f"{path}: aliases")
        return {alias: checked.text(alias) for alias in aliases}

    def stamp(self) -> Stamp | None:
        """Return what tells the file of the aliases from any other; None where there is none."""
        try:
            found = (self.path / "aliases.json").stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def point(self, alias: str, version: str) -> None:
        """Move an alias to a version; the caller holds the lock."""
        aliases: Mapping[str, str] = {**self.aliases(), alias: version}
        put_bytes(self.path / "aliases.json", seal({"aliases": aliases}))

    def forget(self, alias: str) -> None:
        """Take an alias away; the caller holds the lock."""
        aliases = {name: version for name, version in self.aliases().items() if name != alias}
        put_bytes(self.path / "aliases.json", seal({"aliases": aliases}))

    def resolve(self, selector: str | None) -> str:
        """Return the version that an alias, a sequence number or a version means; raises NotFound, IntegrityError."""
        wanted = selector or CURRENT
        if is_seq(wanted):
            matching = [version for version in self.versions() if seq_of(version) == int(wanted)]
        elif is_version(wanted):
            matching = [wanted] if wanted in self.versions() else []
        else:
            matching = self._follow(wanted)
        if len(matching) > 1:
            raise IntegrityError(f"{self.path} has {len(matching)} versions {wanted}", "one of each number", RESTORE)
        if not matching:
            known = ", ".join([*sorted(self.aliases()), *self.versions()]) or "none yet"
            raise NotFound(
                f"the anchor set {self.name or str(self.path)!r} has no {wanted!r}", f"one of: {known}", "name another"
            )
        return matching[0]

    def _follow(self, alias: str) -> list[str]:
        target = self.aliases().get(alias)  # before the versions: whoever moves an alias has written its version
        versions = self.versions()
        if target is None or target in versions:
            return [] if target is None else [target]
        if self.aliases().get(alias) != target:
            return self._follow(alias)  # moved meanwhile, and where it pointed was deleted
        raise IntegrityError(
            f"the alias {alias!r} in {self.path} points at {target!a}, which is missing",
            f"one of: {', '.join(versions) or 'no version is there'}",
            RESTORE,
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the set's lock for writing, with the leftovers of dead writers removed."""
        from filelock import FileLock

        self.check_links()
        for folder in (self.path, *(self.path / kind for kind in (*CONTENT, "versions"))):
            make_folder(folder)
        lock = self.path / ".lock"
        with writing(lock, 4096):
            held = FileLock(lock, thread_local=False).acquire()
        with held:
            for folder in (
                self.path,
                self.journal,
                self.path / "fits",
                *(self.path / kind for kind in (*CONTENT, "versions")),
            ):
                remove_leftovers(folder)
            yield


def refuse_link(path: Path) -> None:
    """Raise IntegrityError where `path` is a symlink."""
    if path.is_symlink():
        raise IntegrityError(f"{path} is a symlink", "a plain folder inside the store", "put the folder itself there")
