"""Files of anchor sets: their states, and manifests rewritten with a fitting checksum."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.anchorset_sets import files

from asif.vectors import dump_checksummed


def reseal(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change the newest manifest, and give it a checksum that fits."""
    path = files(folder / "versions")[-1]
    fields = json.loads(path.read_bytes())
    fields.pop("checksum")
    change(fields)
    path.write_bytes(dump_checksummed(fields))
    return path


def read_file_states(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return time of change, size and inode of every file in a folder."""
    states = {str(path): path.lstat() for path in [folder, *folder.rglob("*")]}
    return {path: (stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in states.items()}
