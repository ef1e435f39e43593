"""Small JSON files of what was measured on this machine: damage counts as absence, and none of them is needed."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from asif.vectors import dump_checksummed

TEMPORARY_PREFIX = ".tmp-"


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


Measured = TypeVar("Measured", bound=_Dataclass)


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a JSON object that `write_sealed` wrote; raises OSError or ValueError if it is missing or damaged."""
    data = path.read_bytes()
    fields = json.loads(data)
    if not isinstance(fields, dict) or fields.pop("checksum", None) is None or dump_checksummed(fields) != data:
        raise ValueError("its checksum is another one")
    return fields


def write_sealed(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum, by renaming a temporary file."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}")
    temporary.write_bytes(dump_checksummed(fields))
    os.replace(temporary, path)


class MeasurementCache(Generic[Measured]):
    """Keep dataclasses in a folder, one file for each key; a damaged or missing one is measured again."""

    def __init__(self, root: Path, kind: type[Measured]) -> None:
        self.root = root
        self._kind = kind

    def find(self, key: str) -> Measured | None:
        """Return what is kept under a key."""
        try:
            return self._kind(**read_sealed(self._place(key)))
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def add(self, key: str, value: Measured) -> None:
        """Keep a value; does nothing if the folder cannot be written."""
        with suppress(OSError):
            self.root.mkdir(parents=True, exist_ok=True)
            write_sealed(self._place(key), asdict(value))

    def _place(self, key: str) -> Path:
        return self.root / f"{key}.json"
