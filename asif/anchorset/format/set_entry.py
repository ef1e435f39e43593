"""The entry of an anchor set in a list: its current version, or the error on opening it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.kinds import ANCHORS, SetKind
from asif.anchorset.format.manifest import Manifest
from asif.anchorset.format.references import check_set_name
from asif.errors import AsifError, IntegrityError
from asif.vectors import Side


@dataclass(frozen=True)
class SetEntry:
    """Describe the current version of an anchor set, or in `error` why it cannot be opened.

    `size` is in bytes on disk, over all versions; `encoders` are specs by side, `modalities` what sides hold;
    `aliases` is {alias: version}.
    """

    name: str
    size: int
    aliases: Mapping[str, str]
    version: str | None = None
    count: int | None = None
    dims: Mapping[Side, int] | None = None
    encoders: Mapping[Side, str] | None = None
    created: str | None = None
    modalities: Mapping[Side, str] | None = None
    error: str | None = None


def read_set_entry(path: Path, kind: SetKind = ANCHORS) -> SetEntry:
    """Read the entry of the set in a folder; an error becomes part of the entry."""
    folder, size, aliases = SetFolder(path, path.name, kind), 0, {}
    try:
        check_set_name(path.name)
        folder.refuse_symlinks()
        size = measure_folder(path)
        aliases = folder.aliases()
        if not aliases and folder.journal.is_dir():
            return SetEntry(path.name, size, {}, error="not built yet: run the interrupted build again to finish it")
        manifest = folder.current_manifest()
    except (AsifError, OSError) as error:
        return SetEntry(path.name, size, aliases, error=_format_error(error))
    return _build_entry(manifest, size, aliases)


def _build_entry(manifest: Manifest, size: int, aliases: Mapping[str, str]) -> SetEntry:
    encoders: dict[Side, str] = {side: info.spec for side, info in manifest.encoders.items()}
    return SetEntry(
        manifest.name,
        size,
        aliases,
        manifest.version,
        manifest.count,
        manifest.dims,
        encoders,
        manifest.created,
        manifest.modalities,
    )


def _format_error(error: AsifError | OSError) -> str:
    if isinstance(error, IntegrityError):
        return f"{error.came}; {error.fix}"
    return error.came if isinstance(error, AsifError) else str(error)


def measure_folder(path: Path) -> int:
    """Return the bytes of the files in a folder; skips files that vanish meanwhile and follows no symlinks."""
    total = 0
    for folder, _, files in os.walk(path):
        for file in files:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, file)).st_size
    return total
