"""JSON files in which any changed byte is found: one canonical spelling, with a checksum among the fields."""

from __future__ import annotations

import json
import re
from typing import Any

from asif.anchorset.format.atomic_io import RESTORE_ADVICE
from asif.errors import IntegrityError
from asif.vectors import dump_checksummed

MAX_INTEGER = (1 << 53) - 1  # the largest that every JSON reader keeps exactly
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def parse_json_object(data: bytes, where: str) -> dict[str, Any]:
    """Read untrusted bytes as a JSON object; raises IntegrityError, which names `where`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{where} is not JSON ({error})", "the JSON that was written", RESTORE_ADVICE) from error
    if not isinstance(value, dict):
        raise IntegrityError(f"{where} holds a {type(value).__name__}", "a JSON object", RESTORE_ADVICE)
    return value


def check_checksum(fields: dict[str, Any], data: bytes, where: str) -> None:
    """Raise IntegrityError unless `data` is exactly what `dump_checksummed` writes for these fields."""
    unsigned = {name: value for name, value in fields.items() if name != "checksum"}
    try:
        intact = dump_checksummed(unsigned) == data
    except (ValueError, RecursionError):  # lone surrogates, NaN: `dump_checksummed` never writes them
        intact = False
    if not intact:
        raise IntegrityError(f"{where} was changed: its checksum does not fit", "the bytes as written", RESTORE_ADVICE)


def load_checksummed(data: bytes, where: str) -> JsonFields:
    """Read what `dump_checksummed` wrote; raises IntegrityError."""
    fields = parse_json_object(data, where)
    check_checksum(fields, data, where)
    return JsonFields(fields, where)


class JsonFields:
    """Read the fields of an untrusted JSON object by type; each method raises IntegrityError for another type."""

    def __init__(self, fields: Any, where: str) -> None:
        self._where = where
        if not isinstance(fields, dict):
            raise self.mismatch(fields, "a JSON object")
        self._fields: dict[str, Any] = fields

    def mismatch(self, found: Any, expected: str) -> IntegrityError:
        """Build the error for a value that is not the expected one."""
        shown = ascii(found)
        return IntegrityError(f"{self._where} holds {shown[:80]}", expected, RESTORE_ADVICE)

    def _get(self, name: str, kind: type, expected: str) -> Any:
        value = self._fields.get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.mismatch({name: value}, f"{name}: {expected}")
        return value

    def integer(self, name: str, least: int = 0, most: int = MAX_INTEGER) -> int:
        """Return an integer from `least` to `most`."""
        value: int = self._get(name, int, "a whole number")
        if not least <= value <= most:
            raise self.mismatch({name: value}, f"{name}: a whole number from {least} to {most}")
        return value

    def text(self, name: str) -> str:
        """Return a string."""
        value: str = self._get(name, str, "a string")
        return value

    def sha256(self, name: str) -> str:
        """Return a sha256 in hexadecimal; it holds digits alone, so it cannot lead to another folder."""
        value = self.text(name)
        if _SHA256.fullmatch(value) is None:
            raise self.mismatch({name: value}, f"{name}: 64 hexadecimal digits")
        return value

    def items(self, name: str) -> list[Any]:
        """Return a list."""
        value: list[Any] = self._get(name, list, "a list")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object as it is."""
        value: dict[str, Any] = self._get(name, dict, "an object")
        return value

    def nested(self, name: str) -> JsonFields:
        """Return a reader of the fields of an object."""
        return JsonFields(self.mapping(name), f"{self._where}: {name}")

    def nested_each(self, name: str) -> list[JsonFields]:
        """Return readers of the fields of each object in a list."""
        return [JsonFields(item, f"{self._where}: {name}[{at}]") for at, item in enumerate(self.items(name))]

    def missing(self, name: str) -> bool:
        """Tell whether a field is null or absent."""
        return self._fields.get(name) is None
