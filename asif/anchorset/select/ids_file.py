"""Files with the ids of pairs: one id per line, or a JSON list of strings, which holds any id."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from pathlib import Path

from asif.anchorset.format.atomic_io import atomic_write_bytes
from asif.errors import UsageError


def write_ids(path: Path, ids: Sequence[str]) -> None:
    """Write ids: as lines if that is safe for each of them, else as a JSON list."""
    atomic_write_bytes(path, serialise_ids(ids))


def serialise_ids(ids: Sequence[str]) -> bytes:
    r"""Return the content of a file of ids; `parse_ids` reads back exactly these.

    >>> serialise_ids(["a", "b c"]), serialise_ids([" a"])
    (b'a\nb c\n', b'[\n" a"\n]\n')
    """
    if all(map(_is_safe_line, ids)):
        lines = "".join(f"{name}\n" for name in ids).encode()
        if parse_ids(lines) == list(ids):
            return lines
    return ("[\n" + ",\n".join(map(json.dumps, ids)) + "\n]\n").encode()


def _is_safe_line(name: str) -> bool:
    """Tell whether an id stays the same as a line of text, also in an editor or another order."""
    return name.isprintable() and name == name.strip() != "" and "\ufeff" not in name


def parse_ids(data: bytes) -> list[str]:
    r"""Read the content of a file of ids; raises ValueError unless it is UTF-8.

    If all of it is a JSON list of strings, these are the ids. Otherwise each line is one, exactly as it is; empty lines
    are skipped, and so is a byte order mark before the first line. A line ends with \n or \r\n.

    >>> parse_ids(b"a\r\n\nb c\n"), parse_ids(b'["a", "\\n"]')
    (['a', 'b c'], ['a', '\n'])
    """
    text = data.removeprefix(codecs.BOM_UTF8).decode()
    listed = _parse_json_list(text)
    if listed is not None:
        return listed
    lines = text.split("\n")
    ended = [line.removesuffix("\r") for line in lines[:-1]]
    return [line for line in [*ended, lines[-1]] if line]


def _parse_json_list(text: str) -> list[str] | None:
    """Return the strings of a JSON list, or None for any other text."""
    if not text.lstrip().startswith("["):
        return None
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return listed if isinstance(listed, list) and all(isinstance(name, str) for name in listed) else None


def read_ids_file(path: Path) -> list[str]:
    """Read a file of ids, in either form; raises UsageError if it cannot be read, or has none."""
    try:
        ids = parse_ids(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read ({error})", "ids, one per line in UTF-8, or a JSON list of strings", "check it"
        ) from error
    if not ids:
        raise UsageError(f"{path} has no ids", "one id per line, or a JSON list of strings", "name at least one")
    return ids
