"""A parcel: one version of a set as it leaves the store, its manifest and the files that this lists, nothing else.

Deleted rows stay behind: blocks that have some, or come in pieces, are written anew. So do rejects, which name rows
that never became anchors, the parent, and the folder that the pairs were read from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from asif.anchorset.edit.row_ranges import pieces_of, regions, rewritten
from asif.anchorset.format.atomic_io import TEMPORARY, make_folder
from asif.anchorset.format.folder import CONTENT, SetFolder
from asif.anchorset.format.manifest import BlockEntry, FileEntry, Manifest

MANIFEST = "manifest.json"
KINDS = ("blocks", "pairs")


@dataclass(frozen=True)
class Parcel:
    """Hold a version that is to leave: what its manifest says there, and where each of its files lies, by path."""

    manifest: Manifest
    places: Mapping[str, Path]


def listed(manifest: Manifest) -> dict[str, FileEntry]:
    """Return the files of a parcel but its manifest, {path: sha256 and size}, in the order in which they come."""
    files: dict[str, FileEntry] = {}
    for entry in manifest.blocks:
        files[path_of("blocks", entry.sha256)] = FileEntry(entry.sha256, entry.size)
        files[path_of("pairs", entry.pairs.sha256)] = entry.pairs
    return files


def path_of(kind: str, sha256: str) -> str:
    """Return where a block, or a table of pairs, lies in a parcel."""
    return f"{kind}/{sha256}{CONTENT[kind]}"


@contextmanager
def packed(folder: SetFolder, version: str, scratch: Path | None) -> Iterator[Parcel]:
    """Pack a version; blocks that are written anew lie in `scratch`, by default the system's, while this is open.

    Nothing is written into the store. The same version gives the same parcel. Memory: one block. Raises IntegrityError,
    OutOfSpace.
    """
    folder.check_links()
    manifest = folder.manifest(version)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=scratch) as place:
        spare = SetFolder(Path(place), None)
        for kind in KINDS:
            make_folder(spare.path / kind)
        parts = regions(pieces_of(folder, manifest))  # so that little goes out again after an edit
        blocks = [entry for part in parts for entry in rewritten(folder, part, spare)]
        leaving = _outward(manifest, blocks)
        anew = {path for path in listed(leaving) if (spare.path / path).exists()}
        places = {path: (spare if path in anew else folder).path / path for path in listed(leaving)}
        yield Parcel(leaving, places)


def _outward(manifest: Manifest, blocks: Sequence[BlockEntry]) -> Manifest:
    return replace(
        manifest,
        blocks=tuple(blocks),
        rows_in=manifest.count,
        rejected=0,
        rejects=None,
        parent=None,
        operation=_without_folder(manifest.operation),
    )


def _without_folder(operation: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out where on this machine the pairs were read from; the name of the file stays."""
    if "input" not in operation:
        return dict(operation)  # its source is no path
    return {**operation, "source": PurePath(operation["source"]).name}
