"""JSON files that betray any changed byte: one spelling only, with a checksum inside."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from asif.anchorset.format.atomic_io import RESTORE
from asif.errors import IntegrityError
from asif.vectors import canonical_json

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def seal(fields: Mapping[str, Any]) -> bytes:
    """Serialise fields with their checksum: canonical JSON and a newline.

    >>> parse_object(seal({"a": 1}), "here")["a"]
    1
    """
    checksum = hashlib.sha256(canonical_json(dict(fields))).hexdigest()
    return canonical_json({**fields, "checksum": checksum}) + b"\n"


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """Read untrusted bytes as a JSON object; raises IntegrityError."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{where} is not JSON ({error})", "the JSON that was written", RESTORE) from error
    if not isinstance(value, dict):
        raise IntegrityError(f"{where} holds a {type(value).__name__}", "a JSON object", RESTORE)
    return value


def check_seal(fields: dict[str, Any], data: bytes, where: str) -> None:
    """Raise IntegrityError unless `data` is exactly what `seal` writes for these fields."""
    unsealed = {name: value for name, value in fields.items() if name != "checksum"}
    try:
        intact = seal(unsealed) == data
    except (ValueError, RecursionError):  # lone surrogates, NaN: never written by `seal`
        intact = False
    if not intact:
        raise IntegrityError(f"{where} was changed: its checksum does not fit", "the bytes as written", RESTORE)


def unseal(data: bytes, where: str) -> Fields:
    """Read what `seal` wrote; raises IntegrityError."""
    fields = parse_object(data, where)
    check_seal(fields, data, where)
    return Fields(fields, where)


class Fields:
    """Read the fields of an untrusted JSON object by type; each method raises IntegrityError."""

    def __init__(self, fields: Any, where: str) -> None:
        self._where = where
        if not isinstance(fields, dict):
            raise self.wrong(fields, "a JSON object")
        self._fields: dict[str, Any] = fields

    def wrong(self, came: Any, expected: str) -> IntegrityError:
        """Make the error that says what stood here instead."""
        shown = ascii(came)
        return IntegrityError(f"{self._where} holds {shown[:80]}", expected, RESTORE)

    def _get(self, name: str, kind: type, expected: str) -> Any:
        value = self._fields.get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong({name: value}, f"{name}: {expected}")
        return value

    def whole(self, name: str, least: int = 0) -> int:
        """Return a whole number from `least`."""
        value: int = self._get(name, int, "a whole number")
        if value < least:
            raise self.wrong({name: value}, f"{name}: a whole number from {least}")
        return value

    def text(self, name: str) -> str:
        """Return a string."""
        value: str = self._get(name, str, "a string")
        return value

    def sha256(self, name: str) -> str:
        """Return a sha256 in hexadecimal, which therefore cannot be a path."""
        value = self.text(name)
        if _SHA256.fullmatch(value) is None:
            raise self.wrong({name: value}, f"{name}: 64 hexadecimal digits")
        return value

    def items(self, name: str) -> list[Any]:
        """Return a list."""
        value: list[Any] = self._get(name, list, "a list")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object as it is."""
        value: dict[str, Any] = self._get(name, dict, "an object")
        return value

    def within(self, name: str) -> Fields:
        """Return an object, to be read by type in turn."""
        return Fields(self.mapping(name), f"{self._where}: {name}")

    def within_each(self, name: str) -> list[Fields]:
        """Return a list of objects, to be read by type in turn."""
        return [Fields(item, f"{self._where}: {name}[{at}]") for at, item in enumerate(self.items(name))]

    def missing(self, name: str) -> bool:
        """Tell whether a field is null or absent."""
        return self._fields.get(name) is None
