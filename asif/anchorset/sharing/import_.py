"""A parcel comes in: unpacked beside the sets, verified as a whole, and only then published.

Nothing that it says is trusted. Until it is published it lies in `anchors/.incoming`, under a lock: one comes in at a
time, and what a killed one left is removed by the next.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.atomic_io import claim, flush, holds, make_folder, move_file, put_bytes, writing
from asif.anchorset.format.blocks import block_size
from asif.anchorset.format.fit_cache import anchors_hash
from asif.anchorset.format.folder import CURRENT, SetFolder, refuse_link
from asif.anchorset.format.manifest import FileEntry, Manifest
from asif.anchorset.format.references import check_name, seq_of
from asif.anchorset.format.verify import verify_folder
from asif.anchorset.select.compatibility import check_alike
from asif.anchorset.sharing.bundle import KINDS, MANIFEST, listed
from asif.anchorset.sharing.verified_copy import Progress
from asif.anchorset.write.publish import settle, utc_now
from asif.errors import Busy, Conflict, IntegrityError, OutOfSpace, UnknownFormat, UsageError
from asif.pairs.records import check_table
from asif.version import VERSION

SPARE = 1 << 20  # bytes left free beside what comes in
INCOMING = ".incoming"


class Source(Protocol):
    """Where a parcel comes from: `origin` names it, `again` says how to get it anew.

    `in_order`: every file must be fetched, in the order of the manifest.
    """

    origin: str
    again: str
    in_order: bool

    def begin(self, scratch: Path) -> bytes:
        """Return the bytes of the manifest; `scratch` is a folder to work in, on the same disk."""
        ...

    def fetch(self, path: str, entry: FileEntry, to: Path, progress: Progress) -> None:
        """Put a file of the parcel, durably, into a new file."""
        ...

    def finish(self) -> None:
        """Check that nothing comes after the last file."""
        ...


@dataclass(frozen=True)
class Arrival:
    """Hold the version that stands for what came in, and whether it was published, or there already."""

    anchors: AnchorSet
    published: bool


def receive(sets: Path, source: Source, name: str | None, progress: Progress) -> Arrival:
    """Publish what comes in as a set of that name, by default its own, in the folder `sets`.

    A set that is there gets a version, if it was named, and the same encoders made both. Where its current version has
    these very anchors and profiles already, nothing is done. Profiles come along; the version that came in is named by
    the operation. Memory: one block, and about 100 bytes for each pair. Raises UsageError for a name that is taken or
    none, EncoderMismatch, InputRefused, IntegrityError for what is not as it was sent, OutOfSpace, Busy while another
    parcel comes in, Conflict; then nothing is left of it.
    """
    if name is not None:
        check_name(name)
    with _staging(sets) as place:
        with _arriving(source, place):
            manifest = Manifest.from_bytes(source.begin(place), MANIFEST)
            _check_form(manifest)
        folder = SetFolder(sets / (name or manifest.name), name or manifest.name)
        current = _admit(folder, manifest, name is not None)
        if current is not None and _same(current, manifest):
            return Arrival(AnchorSet(folder, current.version), False)
        _check_room(sets, manifest, folder if not source.in_order else None)
        stage = SetFolder(place / "set", None)
        with _arriving(source, place):
            _unpack(source, manifest, stage, folder, progress)
        with writing(folder.path, SPARE):
            return Arrival(_publish(stage, folder, manifest, source.origin, name is not None), True)


@contextmanager
def _staging(sets: Path) -> Iterator[Path]:
    """Hold an empty folder beside the sets."""
    place = sets / INCOMING
    refuse_link(place)
    make_folder(place)
    lock = claim(place / ".lock", _busy)
    try:
        _clear(place)
        yield place
    finally:
        _clear(place)
        lock.release()


def _busy() -> Busy:
    return Busy("another anchor set is coming into this store now", "one at a time", "wait for it, then try again")


def _clear(place: Path) -> None:
    for path in place.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()


@contextmanager
def _arriving(source: Source, place: Path) -> Iterator[None]:
    """Say of what is not as it was sent where it came from, and how to get it again."""
    try:
        yield
    except UnknownFormat:
        raise
    except IntegrityError as error:
        came = error.came.replace(f"{place / 'set'}{os.sep}", "")
        named = came if source.origin in came else f"{source.origin}: {came}"
        raise IntegrityError(named, error.expected, source.again) from error


def _check_form(manifest: Manifest) -> None:
    """Raise IntegrityError for what no parcel has: hidden rows, rejects, blocks of a size other than their rows'."""
    if manifest.rejects is not None or any(entry.deleted for entry in manifest.blocks):
        raise IntegrityError("the manifest lists rejects or deleted rows", "anchors alone", "export the set with asif")
    for entry in manifest.blocks:
        size = block_size(entry.rows, manifest.dims, manifest.dtype)
        if entry.size != size:
            raise IntegrityError(
                f"the manifest gives a block of {entry.rows} rows {entry.size:,} bytes",
                f"{size:,}",
                "export it with asif",
            )


def _admit(folder: SetFolder, manifest: Manifest, named: bool) -> Manifest | None:
    """Return the current version of the set, None where there is none; raises where this cannot be the next one."""
    folder.check_links()
    if not folder.path.exists():
        return None
    current = folder.manifest(folder.resolve(CURRENT)) if folder.versions() else None
    if not named and not (current and _same(current, manifest)):
        raise UsageError(
            f"there is an anchor set {folder.name!r} already",
            "a name that is free",
            f"pass --name {folder.name} to make this its next version, or another name",
        )
    if current is not None:
        check_alike(current, manifest)
    return current


def _same(current: Manifest, manifest: Manifest) -> bool:
    return anchors_hash(current) == anchors_hash(manifest) and current.profiles == manifest.profiles


def _check_room(sets: Path, manifest: Manifest, known: SetFolder | None) -> None:
    """Raise OutOfSpace where there is no room for what is not in the set `known` already."""
    files = listed(manifest).items()
    needed = SPARE + sum(entry.size for path, entry in files if not (known and (known.path / path).exists()))
    free = shutil.disk_usage(sets).free
    if free < needed:
        raise OutOfSpace(
            f"{sets} has {free:,} bytes free",
            f"{needed:,} bytes needed",
            "free some space, or point ASIF_HOME at a larger disk",
        )


def _unpack(source: Source, manifest: Manifest, stage: SetFolder, folder: SetFolder, progress: Progress) -> None:
    """Get all files, and verify them as a set."""
    for kind in (*KINDS, "versions"):
        make_folder(stage.path / kind)
    for path, entry in listed(manifest).items():
        to, known = stage.path / path, folder.path / path
        with writing(to, entry.size):
            if not source.in_order and holds(known, entry.sha256):
                _share(known, to)
                progress(entry.size)
            else:
                source.fetch(path, entry, to, progress)
    source.finish()
    for block in manifest.blocks:
        _check_table(stage.content("pairs", block.pairs.sha256), block.rows)
    put_bytes(stage.version_file(manifest.version), manifest.to_bytes())
    verify_folder(stage, manifest.version).raise_if_bad()
    stage.version_file(manifest.version).unlink()


def _share(known: Path, to: Path) -> None:
    """Give a file a second name, or make a copy of it where that cannot be."""
    try:
        os.link(known, to)
    except OSError:
        shutil.copyfile(known, to)


def _check_table(path: Path, rows: int) -> None:
    try:
        check_table(path, rows)
    except (ValueError, TypeError, KeyError, OSError, NotImplementedError) as error:
        raise IntegrityError(f"{path} is no table of {rows} pairs ({error})", "the parquet as written", "") from error


def _publish(stage: SetFolder, folder: SetFolder, manifest: Manifest, origin: str, named: bool) -> AnchorSet:
    """Make what was verified a set of its own, or the next version of one."""
    assert folder.name is not None
    operation = {
        "kind": "import",
        "from": origin,
        "ref": manifest.ref,
        "digest": manifest.digest,
        "created": manifest.created,
        "made_by": dict(manifest.operation),
    }
    made = replace(manifest, name=folder.name, operation=operation, created=utc_now(), asif=VERSION)
    if not folder.path.exists():
        return _publish_new(stage, folder, replace(made, seq=1, parent=None))
    with folder.locked():
        _admit(folder, manifest, named)
        for path, entry in listed(manifest).items():
            move_file(stage.path / path, folder.path / path, entry.sha256)
        newest = max(map(seq_of, folder.versions()), default=0)
        version = settle(folder, replace(made, seq=newest + 1, parent=folder.aliases().get(CURRENT)))
    return AnchorSet(folder, version)


def _publish_new(stage: SetFolder, folder: SetFolder, made: Manifest) -> AnchorSet:
    put_bytes(stage.version_file(made.version), made.to_bytes())
    stage.point(CURRENT, made.version)
    for kind in KINDS:
        flush(stage.path / kind)
    try:
        os.rename(stage.path, folder.path)
    except OSError as error:
        if not folder.path.exists():
            raise
        raise Conflict(
            f"the anchor set {folder.name!r} was made meanwhile", "a name that is free", "try again under another name"
        ) from error
    flush(folder.path.parent)
    return AnchorSet(folder, made.version)
