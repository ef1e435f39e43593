"""Names of anchor sets and references to them; what is accepted here cannot leave the store."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asif.errors import UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_VERSION = re.compile(r"([0-9]{6,18})-([0-9a-f]{12})", re.ASCII)
MOST_MEMBERS = 32  # of a union
SHOWN = 5  # ids in an error
_SEQ = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True)
class Reference:
    """Hold which anchor set is meant: `name` in the store, or the folder `path`; exactly one of them.

    `selector` is an alias, a sequence number or a whole version; None stands for the alias `current`.
    """

    name: str | None
    path: Path | None
    selector: str | None


def check_name(name: str, what: str = "anchor set name") -> str:
    """Return the name if it is one; raises UsageError otherwise.

    >>> check_name("coco-2017.train")
    'coco-2017.train'
    >>> check_name("../../etc")
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


def check_alias(alias: str) -> str:
    """Return the alias if it is one; it must not read as a sequence number or a version. Raises UsageError."""
    check_name(alias, "alias")
    if is_seq(alias) or is_version(alias):
        raise UsageError(f"the alias {alias!r}", "a name that is not itself a version", "begin it with a letter")
    return alias


def is_seq(selector: str) -> bool:
    """Tell whether a selector is a sequence number such as '3'."""
    return _SEQ.fullmatch(selector) is not None


def is_version(selector: str) -> bool:
    """Tell whether a selector is a whole version such as '000003-1f2e3d4c5b6a'."""
    return _VERSION.fullmatch(selector) is not None


def seq_of(version: str) -> int:
    """Return the sequence number in a version.

    >>> seq_of("000003-1f2e3d4c5b6a")
    3
    """
    return int(version.partition("-")[0])


def parse_reference(ref: str) -> Reference:
    """Read `name`, `name@alias`, `name@<seq>`, `name@<version>`, or a path to a set's folder with the same endings.

    What holds a slash, or begins with `.` or `~`, is a path; whoever takes references from strangers refuses
    those where `.path` is set. Raises UsageError.

    >>> parse_reference("coco@3")
    Reference(name='coco', path=None, selector='3')
    >>> parse_reference("./sets/coco@best").selector
    'best'
    """
    if "\0" in ref:
        raise UsageError(f"the reference {ref!a}", "a name or a path without NUL", "name an anchor set")
    if not _looks_like_path(ref):
        name, at, selector = ref.partition("@")
        return Reference(check_name(name), None, _check_selector(selector) if at else None)
    folder, at, selector = ref.rpartition("@")
    if not at or "/" in selector or os.sep in selector:
        folder, selector = ref, ""
    return Reference(None, Path(os.path.expanduser(folder)), _check_selector(selector) if selector else None)


def parse_union(ref: str) -> tuple[str, ...]:
    """Split a union of sets of the store, 'a+b@3', into references; what reads as a path is one. Raises UsageError.

    >>> parse_union("coco+own@best"), parse_union("./coco+own")
    (('coco', 'own@best'), ('./coco+own',))
    """
    parts = (ref,) if _looks_like_path(ref) else tuple(ref.split("+"))
    for part in parts:
        parse_reference(part)
    if len(parts) > MOST_MEMBERS:
        raise UsageError(f"a union of {len(parts)} sets", f"at most {MOST_MEMBERS}", "merge some of them")
    return parts


def can_move(ref: str) -> bool:
    """Tell whether what a reference means can change: it names an alias, or none, which is `current`.

    >>> can_move("coco"), can_move("coco@best"), can_move("coco@3")
    (True, True, False)
    """
    selector = parse_reference(ref).selector
    return selector is None or not (is_seq(selector) or is_version(selector))


def _looks_like_path(ref: str) -> bool:
    return "/" in ref or os.sep in ref or ref.startswith((".", "~"))


def _check_selector(selector: str) -> str:
    return selector if is_seq(selector) or is_version(selector) else check_alias(selector)


def first_few(names: Sequence[str]) -> str:
    """Write the first names of a list, for an error.

    >>> first_few(["a", "b"]), first_few(list("abcdefg"))
    ("'a', 'b'", "'a', 'b', 'c', 'd', 'e', …")
    """
    return ", ".join(map(repr, names[:SHOWN])) + (", …" if len(names) > SHOWN else "")
