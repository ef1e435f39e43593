"""Import a bundle: unpack it into a staging folder, verify it as a whole, and only then publish it.

A bundle is untrusted. Until it is published its files are in `anchors/.incoming`, under a lock: only one import runs at
a time, and it removes the files that a killed one left.
"""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.atomic_io import (
    atomic_write_bytes,
    check_free_space,
    fsync_path,
    has_content,
    make_folder,
    move_content_file,
    translate_write_errors,
)
from asif.anchorset.format.blocks import block_file_size
from asif.anchorset.format.fit_cache import hash_anchors
from asif.anchorset.format.folder import CURRENT_ALIAS, SetFolder, refuse_link
from asif.anchorset.format.kinds import ANCHORS
from asif.anchorset.format.locks import acquire_lock
from asif.anchorset.format.manifest import FileEntry, Manifest
from asif.anchorset.format.own_store import close_to_others
from asif.anchorset.format.references import check_set_name
from asif.anchorset.format.verify import verify_set_folder
from asif.anchorset.select.compatibility import check_compatible
from asif.anchorset.sharing.bundle import CONTENT_KINDS, MANIFEST_FILE, list_bundle_files
from asif.anchorset.sharing.verified_copy import ByteProgress
from asif.anchorset.write.version import commit_version, current_utc_time, next_sequence_number
from asif.errors import Busy, Conflict, IntegrityError, UnknownFormat, UsageError
from asif.pairs.records import MAX_TABLE_BYTES, check_records_file
from asif.version import VERSION

_SPARE_BYTES = 1 << 20  # free space required beyond the size of the bundle
_INCOMING_FOLDER = ".incoming"


class BundleSource(Protocol):
    """A source of a bundle: an archive or a repository. `origin` names it; `retry_hint` says how to get it again.

    If it is `sequential`, every file must be fetched, in the order of the manifest.
    """

    origin: str
    retry_hint: str
    sequential: bool

    def read_manifest(self, scratch: Path) -> bytes:
        """Return the bytes of the manifest; `scratch` is a folder for temporary files, on the same disk."""
        ...

    def fetch_file(self, path: str, entry: FileEntry, to: Path, progress: ByteProgress) -> None:
        """Write a file of the bundle, durably, to a new file."""
        ...

    def check_end(self) -> None:
        """Check that nothing follows the last file."""
        ...


@dataclass(frozen=True)
class ImportResult:
    """Hold the version that has the imported anchors, and whether it was published or existed already."""

    anchors: AnchorSet
    published: bool


def import_bundle(sets: Path, source: BundleSource, name: str | None, progress: ByteProgress) -> ImportResult:
    """Publish the bundle as a set called `name`, by default its own name, in the folder `sets`.

    If a set of that name exists, it gets a new version, provided that `name` was given and the same encoders made both.
    If its current version has the same anchors and profiles already, nothing is done. Profiles are imported too; the
    operation names the imported version. Memory: one block, and about 100 bytes for each pair. Raises UsageError for
    a name that is taken or invalid, EncoderMismatch, InputRefused, IntegrityError for a damaged or forged bundle,
    OutOfSpace, Busy during another import, Conflict; then nothing of the bundle remains.
    """
    if name is not None:
        check_set_name(name)
    with _staging_folder(sets) as staging:
        with _source_errors(source, staging):
            manifest = Manifest.from_bytes(source.read_manifest(staging), MANIFEST_FILE)
            _check_bundle_manifest(manifest)
        folder = SetFolder(sets / (name or manifest.name), name or manifest.name)
        current = _check_importable(folder, manifest, name is not None)
        if current is not None and _has_same_anchors(current, manifest):
            return ImportResult(AnchorSet(folder, current.version), False)
        _check_room(sets, manifest, folder if not source.sequential else None)
        stage = SetFolder(staging / "set", None)
        with _source_errors(source, staging):
            _fetch_and_verify(source, manifest, stage, folder, progress)
        with translate_write_errors(folder.path, _SPARE_BYTES):
            return ImportResult(_publish_import(stage, folder, manifest, source.origin, name is not None), True)


@contextmanager
def _staging_folder(sets: Path) -> Iterator[Path]:
    """Hold the lock on an empty folder next to the sets."""
    staging = sets / _INCOMING_FOLDER
    refuse_link(staging)
    make_folder(staging)
    lock = acquire_lock(staging / ".lock", _make_busy_error)
    try:
        _clear_folder(staging)
        yield staging
    finally:
        _clear_folder(staging)
        lock.release()


def _make_busy_error() -> Busy:
    return Busy("another anchor set is coming into this store now", "one at a time", "wait for it, then try again")


def _clear_folder(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()


@contextmanager
def _source_errors(source: BundleSource, staging: Path) -> Iterator[None]:
    """Add to each IntegrityError where the bundle came from, and how to get it again."""
    try:
        yield
    except UnknownFormat:
        raise
    except IntegrityError as error:
        came = error.came.replace(f"{staging / 'set'}{os.sep}", "")
        full = came if source.origin in came else f"{source.origin}: {came}"
        raise IntegrityError(full, error.expected, source.retry_hint) from error


def _check_bundle_manifest(manifest: Manifest) -> None:
    """Raise IntegrityError for what no bundle has: items, deleted rows, rejects, wrong sizes, odd text or profiles."""
    if manifest.kind is not ANCHORS or any(entry.thumbnails for entry in manifest.blocks):
        raise IntegrityError("the manifest is one of a gallery", "one of an anchor set", "build the gallery here")
    if manifest.rejects is not None or any(entry.deleted for entry in manifest.blocks):
        raise IntegrityError("the manifest lists rejects or deleted rows", "anchors alone", "export the set with asif")
    for entry in manifest.blocks:
        size = block_file_size(entry.rows, manifest.dims, manifest.dtype)
        if entry.size != size:
            raise IntegrityError(
                f"the manifest gives a block of {entry.rows} rows {entry.size:,} bytes",
                f"{size:,}",
                "export it with asif",
            )
        if entry.pairs.size > MAX_TABLE_BYTES:
            raise IntegrityError(
                f"the manifest gives a table of pairs {entry.pairs.size:,} bytes",
                f"at most {MAX_TABLE_BYTES:,}",
                "export it with asif",
            )
    _check_text(json.loads(manifest.to_bytes()))
    for task, profile in manifest.profiles.items():
        if not isinstance(profile, dict) or not isinstance(profile.get("aligner"), str):
            raise IntegrityError(
                f"the manifest has the profile {ascii(profile)[:80]} for {task[:80]!a}",
                "an object with the name of an aligner",
                "export it with asif",
            )


def _check_text(value: Any) -> None:
    """Raise IntegrityError for text with control characters, which could rule a terminal, anywhere in a manifest."""
    if isinstance(value, str):
        if any(unicodedata.category(character) == "Cc" for character in value if character not in "\t\n"):
            raise IntegrityError(
                f"the manifest has control characters in {value[:80]!a}", "text without them", "export it with asif"
            )
    elif isinstance(value, (dict, list)):
        for each in value.items() if isinstance(value, dict) else value:
            _check_text(list(each) if isinstance(each, tuple) else each)


def _check_importable(folder: SetFolder, manifest: Manifest, name_given: bool) -> Manifest | None:
    """Return the current version of the set, or None; raises if the bundle cannot be its next version."""
    folder.refuse_symlinks()
    if not folder.path.exists():
        return None
    current = folder.current_manifest() if folder.versions() else None
    if not name_given and not (current and _has_same_anchors(current, manifest)):
        raise UsageError(
            f"there is an anchor set {folder.name!r} already",
            "a name that is free",
            f"pass --name {folder.name} to make this its next version, or another name",
        )
    if current is not None:
        check_compatible(current, manifest)
    return current


def _has_same_anchors(current: Manifest, manifest: Manifest) -> bool:
    return hash_anchors(current) == hash_anchors(manifest) and current.profiles == manifest.profiles


def _check_room(sets: Path, manifest: Manifest, known: SetFolder | None) -> None:
    """Raise OutOfSpace unless there is room for the files that the set `known` does not have."""
    files = list_bundle_files(manifest).items()
    needed = _SPARE_BYTES + sum(entry.size for path, entry in files if not (known and (known.path / path).exists()))
    check_free_space(sets, needed, f"the anchor set in {sets}", "free some space, or point ASIF_HOME at a larger disk")


def _fetch_and_verify(
    source: BundleSource, manifest: Manifest, stage: SetFolder, folder: SetFolder, progress: ByteProgress
) -> None:
    """Fetch all files, and verify them as a set."""
    for kind in (*CONTENT_KINDS, "versions"):
        make_folder(stage.path / kind)
    for path, entry in list_bundle_files(manifest).items():
        to, known = stage.path / path, folder.path / path
        with translate_write_errors(to, entry.size):
            if not source.sequential and has_content(known, entry.sha256):
                _link_or_copy(known, to)
                progress(entry.size)
            else:
                source.fetch_file(path, entry, to, progress)
            close_to_others(to)
    source.check_end()
    for block in manifest.blocks:
        _check_pair_table(stage.content_path("pairs", block.pairs.sha256), block.rows)
    atomic_write_bytes(stage.version_file(manifest.version), manifest.to_bytes())
    verify_set_folder(stage, manifest.version).raise_if_bad()
    stage.version_file(manifest.version).unlink()


def _link_or_copy(known: Path, to: Path) -> None:
    """Hard-link a file, or copy it if links are not possible."""
    try:
        os.link(known, to)
    except OSError:
        shutil.copyfile(known, to)


def _check_pair_table(path: Path, rows: int) -> None:
    try:
        check_records_file(path, rows)
    except (ValueError, TypeError, KeyError, OSError, NotImplementedError, OverflowError, MemoryError) as error:
        raise IntegrityError(f"{path} is no table of {rows} pairs ({error})", "the parquet as written", "") from error


def _publish_import(
    stage: SetFolder, folder: SetFolder, manifest: Manifest, origin: str, name_given: bool
) -> AnchorSet:
    """Publish the verified files as a new set, or as the next version of an existing one."""
    assert folder.name is not None
    operation = {
        "kind": "import",
        "from": origin,
        "ref": manifest.ref,
        "digest": manifest.digest,
        "created": manifest.created,
        "made_by": dict(manifest.operation),
    }
    published = replace(manifest, name=folder.name, operation=operation, created=current_utc_time(), asif=VERSION)
    if not folder.path.exists():
        return _publish_new_set(stage, folder, replace(published, seq=1, parent=None))
    with folder.locked():
        _check_importable(folder, manifest, name_given)
        for path, entry in list_bundle_files(manifest).items():
            move_content_file(stage.path / path, folder.path / path, entry.sha256)
        version = commit_version(
            folder, replace(published, seq=next_sequence_number(folder), parent=folder.aliases().get(CURRENT_ALIAS))
        )
        return AnchorSet(folder, version)


def _publish_new_set(stage: SetFolder, folder: SetFolder, manifest: Manifest) -> AnchorSet:
    atomic_write_bytes(stage.version_file(manifest.version), manifest.to_bytes())
    stage.set_alias(CURRENT_ALIAS, manifest.version)
    for kind in CONTENT_KINDS:
        fsync_path(stage.path / kind)
    try:
        os.rename(stage.path, folder.path)
    except OSError as error:
        if not folder.path.exists():
            raise
        raise Conflict(
            f"the anchor set {folder.name!r} was made meanwhile", "a name that is free", "try again under another name"
        ) from error
    fsync_path(folder.path.parent)
    return AnchorSet(folder, manifest.version)
