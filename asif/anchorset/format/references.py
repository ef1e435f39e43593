"""Names of anchor sets and references to them; no accepted name leads out of the store."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asif.errors import UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_VERSION = re.compile(r"([0-9]{6,18})-([0-9a-f]{12})", re.ASCII)
MAX_UNION_MEMBERS = 32  # of a union
_NAMES_SHOWN = 5  # ids in an error
_SEQUENCE_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True)
class Reference:
    """Refer to an anchor set: by its `name` in the store, or by the folder `path`; exactly one of them is set.

    `selector` is an alias, a sequence number or a complete version; None means the alias `current`.
    """

    name: str | None
    path: Path | None
    selector: str | None


def check_set_name(name: str, what: str = "anchor set name") -> str:
    """Return the name if it is valid; raises UsageError otherwise.

    >>> check_set_name("coco-2017.train")
    'coco-2017.train'
    >>> check_set_name("../../etc")
    Traceback (most recent call last):
        ...
    asif.errors.UsageError: the anchor set name '../../etc'
      expected: 1 to 64 of a-z 0-9 . _ -, a letter or digit first, no '..'
      to do:    choose another name
    """
    if _NAME.fullmatch(name) is None or ".." in name:
        shown = name if len(name) <= 80 else name[:77] + "…"
        raise UsageError(
            f"the {what} {shown!a}",
            "1 to 64 of a-z 0-9 . _ -, a letter or digit first, no '..'",
            "choose another name",
        )
    return name


def check_alias_name(alias: str) -> str:
    """Return the alias if it is valid: a name, but no sequence number or version. Raises UsageError."""
    check_set_name(alias, "alias")
    if is_sequence_number(alias) or is_version(alias):
        raise UsageError(f"the alias {alias!r}", "a name that is not itself a version", "begin it with a letter")
    return alias


def is_sequence_number(selector: str) -> bool:
    """Tell whether a selector is a sequence number such as '3'."""
    return _SEQUENCE_NUMBER.fullmatch(selector) is not None


def is_version(selector: str) -> bool:
    """Tell whether a selector is a complete version such as '000003-1f2e3d4c5b6a'."""
    return _VERSION.fullmatch(selector) is not None


def parse_sequence_number(version: str) -> int:
    """Return the sequence number in a version.

    >>> parse_sequence_number("000003-1f2e3d4c5b6a")
    3
    """
    return int(version.partition("-")[0])


def parse_reference(ref: str) -> Reference:
    """Read `name`, `name@alias`, `name@<seq>`, `name@<version>`, or a path to a set's folder with the same endings.

    A reference with a slash, or one that begins with `.` or `~`, is a path; a caller that takes references from
    strangers must refuse those with `.path`. Raises UsageError.

    >>> parse_reference("coco@3")
    Reference(name='coco', path=None, selector='3')
    >>> parse_reference("./sets/coco@best").selector
    'best'
    """
    if "\0" in ref:
        raise UsageError(f"the reference {ref!a}", "a name or a path without NUL", "name an anchor set")
    if not _looks_like_path(ref):
        name, at, selector = ref.partition("@")
        return Reference(check_set_name(name), None, _check_selector(selector) if at else None)
    folder, at, selector = ref.rpartition("@")
    if not at or "/" in selector or os.sep in selector:
        folder, selector = ref, ""
    return Reference(None, Path(os.path.expanduser(folder)), _check_selector(selector) if selector else None)


def parse_union(ref: str) -> tuple[str, ...]:
    """Split a union of sets of the store, 'a+b@3', into references; a path is a single one. Raises UsageError.

    >>> parse_union("coco+own@best"), parse_union("./coco+own")
    (('coco', 'own@best'), ('./coco+own',))
    """
    parts = (ref,) if _looks_like_path(ref) else tuple(ref.split("+"))
    for part in parts:
        parse_reference(part)
    if len(parts) > MAX_UNION_MEMBERS:
        raise UsageError(f"a union of {len(parts)} sets", f"at most {MAX_UNION_MEMBERS}", "merge some of them")
    return parts


def is_movable_reference(ref: str) -> bool:
    """Tell whether a reference can mean another version later: it names an alias, or none, which means `current`.

    >>> is_movable_reference("coco"), is_movable_reference("coco@best"), is_movable_reference("coco@3")
    (True, True, False)
    """
    selector = parse_reference(ref).selector
    return selector is None or not (is_sequence_number(selector) or is_version(selector))


def _looks_like_path(ref: str) -> bool:
    return "/" in ref or os.sep in ref or ref.startswith((".", "~"))


def _check_selector(selector: str) -> str:
    return selector if is_sequence_number(selector) or is_version(selector) else check_alias_name(selector)


def format_first_names(names: Sequence[str]) -> str:
    """Format the first names of a list, for an error message.

    >>> format_first_names(["a", "b"]), format_first_names(list("abcdefg"))
    ("'a', 'b'", "'a', 'b', 'c', 'd', 'e', …")
    """
    return ", ".join(map(repr, names[:_NAMES_SHOWN])) + (", …" if len(names) > _NAMES_SHOWN else "")
