"""A bundle: one version of a set as it is shared, its manifest and the files that the manifest lists, nothing else.

It has no deleted rows: blocks that have some, or that are listed in several row ranges, are rewritten. It has no
rejects either, which name rows that never became anchors, no parent, and not the folder that the pairs were read from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from asif.anchorset.edit.row_ranges import list_row_ranges, rewrite_ranges, split_at_new_blocks
from asif.anchorset.format.atomic_io import TEMPORARY_PREFIX, make_folder
from asif.anchorset.format.folder import CONTENT_SUFFIXES, SetFolder
from asif.anchorset.format.manifest import BlockEntry, FileEntry, Manifest

MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 64 << 20
CONTENT_KINDS = ("blocks", "pairs")


@dataclass(frozen=True)
class Bundle:
    """Hold a version to be shared: its manifest in the bundle, and the location on disk of each file, by its path."""

    manifest: Manifest
    locations: Mapping[str, Path]


def list_bundle_files(manifest: Manifest) -> dict[str, FileEntry]:
    """Return the files of a bundle except its manifest, {path: sha256 and size}, in their order in an archive."""
    files: dict[str, FileEntry] = {}
    for entry in manifest.blocks:
        files[make_bundle_path("blocks", entry.sha256)] = FileEntry(entry.sha256, entry.size)
        files[make_bundle_path("pairs", entry.pairs.sha256)] = entry.pairs
    return files


def make_bundle_path(kind: str, sha256: str) -> str:
    """Return the path of a block, or of a table of pairs, in a bundle."""
    return f"{kind}/{sha256}{CONTENT_SUFFIXES[kind]}"


@contextmanager
def pack_bundle(folder: SetFolder, version: str, scratch: Path | None) -> Iterator[Bundle]:
    """Pack a version; while this is open, rewritten blocks are in a temporary folder in `scratch`, or the system's.

    Writes nothing into the store. The same version gives the same bundle. Memory: one block. Raises IntegrityError,
    OutOfSpace, Conflict if the version is deleted meanwhile.
    """
    folder.refuse_symlinks()
    with folder.reading(version), tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=scratch) as temporary:
        manifest = folder.manifest(version)
        rewritten = SetFolder(Path(temporary), None)
        for kind in CONTENT_KINDS:
            make_folder(rewritten.path / kind)
        parts = split_at_new_blocks(list_row_ranges(folder, manifest))  # so that an edit changes few files
        blocks = [entry for part in parts for entry in rewrite_ranges(folder, part, rewritten)]
        outgoing = _make_outgoing_manifest(manifest, blocks)
        paths = list(list_bundle_files(outgoing))
        locations = {path: (rewritten if (rewritten.path / path).exists() else folder).path / path for path in paths}
        yield Bundle(outgoing, locations)


def _make_outgoing_manifest(manifest: Manifest, blocks: Sequence[BlockEntry]) -> Manifest:
    return replace(
        manifest,
        blocks=tuple(blocks),
        rows_in=manifest.count,
        rejected=0,
        rejects=None,
        parent=None,
        operation=_strip_folder(manifest.operation),
    )


def _strip_folder(operation: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the folder that the pairs were read from; the name of the file stays."""
    if "input" not in operation:
        return dict(operation)  # its source is no path
    return {**operation, "source": PurePath(operation["source"]).name}
