"""Write the parts of a version, content first, and make it the current one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from asif.anchorset.format.atomic_io import atomic_write_bytes, make_folder, write_content_file
from asif.anchorset.format.blocks import AnchorBlock, block_file_size, write_block
from asif.anchorset.format.folder import CONTENT_SUFFIXES, CURRENT_ALIAS, SetFolder
from asif.anchorset.format.manifest import BlockEntry, FileEntry, Manifest, build_version_name
from asif.anchorset.format.references import parse_sequence_number
from asif.anchorset.format.rejects import reject_fields
from asif.errors import IntegrityError
from asif.pairs.item import ItemRecord
from asif.pairs.pair import PairRecord, Reject
from asif.pairs.records import write_records, write_thumbnails
from asif.vectors import canonical_json


def store_block(folder: SetFolder, block: AnchorBlock, records: Sequence[PairRecord], dtype: str) -> BlockEntry:
    """Write a block, the table of its pairs, and their thumbnails if they have any; the caller holds the lock."""
    size = block_file_size(len(block), block.dims, dtype)
    stored = write_content_file(
        folder.path / "blocks", CONTENT_SUFFIXES["blocks"], lambda path: write_block(path, block, dtype), size
    )
    text = sum(len(record.id) + sum(map(len, record.captions)) + 64 for record in records)
    pairs = write_content_file(
        folder.path / "pairs", CONTENT_SUFFIXES["pairs"], lambda path: write_records(path, records), text
    )
    return BlockEntry(*stored, len(block), FileEntry(*pairs), thumbnails=_store_thumbnails(folder, records))


def _store_thumbnails(folder: SetFolder, records: Sequence[PairRecord]) -> FileEntry | None:
    images = [record.thumbnail if isinstance(record, ItemRecord) else None for record in records]
    size = sum(len(image) for image in images if image is not None)
    if not size:
        return None
    make_folder(folder.path / "thumbnails")
    return FileEntry(
        *write_content_file(
            folder.path / "thumbnails",
            CONTENT_SUFFIXES["thumbnails"],
            lambda path: write_thumbnails(path, images),
            size,
        )
    )


def store_rejects(folder: SetFolder, rejects: Sequence[Reject]) -> FileEntry:
    """Write the rejects of a version; the caller holds the lock."""
    lines = [canonical_json(reject_fields(reject)) + b"\n" for reject in rejects]

    def write(path: Path) -> None:
        with open(path, "xb") as file:
            file.writelines(lines)

    return FileEntry(
        *write_content_file(folder.path / "rejects", CONTENT_SUFFIXES["rejects"], write, sum(map(len, lines)))
    )


def next_sequence_number(folder: SetFolder) -> int:
    """Return the sequence number of the next version; the caller holds the lock."""
    return max(map(parse_sequence_number, folder.versions()), default=0) + 1


def commit_version(folder: SetFolder, manifest: Manifest) -> str:
    """Write the manifest and point `current` at it, or at an equal version that exists; the caller holds the lock."""
    current = folder.aliases().get(CURRENT_ALIAS)
    version = next((known for known in folder.versions()[-1:] if _is_same_version(folder, known, manifest)), None)
    if version is None:
        version = manifest.version
        atomic_write_bytes(folder.version_file(version), manifest.to_bytes())
    if current != version:
        folder.set_alias(CURRENT_ALIAS, version)
    return version


def _is_same_version(folder: SetFolder, version: str, manifest: Manifest) -> bool:
    """Tell whether `version` equals `manifest`: a killed run wrote it, or it is current already.

    A profile that was tuned since does not count: building a set again does not remove it.
    """
    if version != build_version_name(parse_sequence_number(version), manifest.digest):
        return False
    try:
        found = folder.manifest(version)
    except IntegrityError:
        return False  # damaged: `verify` reports it; write the next version
    if manifest.parent not in (version, found.parent):
        return False
    adapted = replace(found, seq=manifest.seq, parent=manifest.parent, created=manifest.created, asif=manifest.asif)
    if found.operation.get("kind") == "tune" and manifest.operation.get("kind") != "tune":
        adapted = replace(adapted, operation=manifest.operation, profiles=manifest.profiles)
    return adapted.to_bytes() == manifest.to_bytes()


def current_utc_time() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
