"""The log of the versions of an anchor set, and moving the aliases between them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from asif.anchorset.format.folder import CURRENT_ALIAS, SetFolder
from asif.anchorset.format.references import check_alias_name, parse_sequence_number
from asif.errors import Conflict, IntegrityError, NotFound, UnknownFormat, UsageError


@dataclass(frozen=True)
class LogEntry:
    """Describe a version in the log, or in `error` why it cannot be read; `aliases` point at it."""

    version: str
    seq: int
    aliases: tuple[str, ...]
    created: str | None = None
    operation: Mapping[str, Any] | None = None
    count: int | None = None
    rows_in: int | None = None
    rejected: int | None = None
    digest: str | None = None
    parent: str | None = None
    error: str | None = None


def read_version_log(folder: SetFolder) -> list[LogEntry]:
    """List the versions, newest first; a damaged version is listed with its error and does not hide the others.

    A version that is deleted meanwhile is left out.
    """
    aliases, entries = folder.aliases(), []
    for version in reversed(folder.versions()):
        with suppress(Conflict), folder.reading(version):
            entries.append(_read_log_entry(folder, version, aliases))
    return entries


def _read_log_entry(folder: SetFolder, version: str, aliases: Mapping[str, str]) -> LogEntry:
    seq, names = (
        parse_sequence_number(version),
        tuple(sorted(alias for alias, target in aliases.items() if target == version)),
    )
    try:
        found = folder.manifest(version)
    except (IntegrityError, UnknownFormat) as error:
        if not folder.version_file(version).exists():
            raise
        return LogEntry(version, seq, names, error=f"{error.came}; {error.fix}")
    return LogEntry(
        version,
        seq,
        names,
        found.created,
        found.operation,
        found.count,
        found.rows_in,
        found.rejected,
        found.digest,
        found.parent,
    )


def move_alias(folder: SetFolder, alias: str, selector: str, expect: str | None) -> str:
    """Point an alias, new or not, at the version that `selector` means; return that version.

    With `expect` the alias moves only if it points at the version that `expect` means. Raises Conflict if it does
    not, UsageError for a bad alias, NotFound, IntegrityError for a damaged version.
    """
    check_alias_name(alias)
    with folder.locked():
        version = folder.resolve(selector)
        folder.manifest(version)
        if expect is not None:
            _check_expected(folder, alias, folder.resolve(expect))
        folder.set_alias(alias, version)
    return version


def drop_alias(folder: SetFolder, alias: str, expect: str | None) -> str:
    """Delete an alias, with `expect` only if it points at the version that `expect` means; return its old version.

    Raises UsageError for `current`, NotFound for an alias that does not exist, Conflict as `move_alias` does.
    """
    if alias == CURRENT_ALIAS:
        raise UsageError(
            f"the alias {CURRENT_ALIAS!r} would be deleted", "another one", "move it: every set has a current version"
        )
    with folder.locked():
        if alias not in folder.aliases():
            known = ", ".join(sorted(folder.aliases()))
            raise NotFound(f"there is no alias {alias!r}", f"one of: {known}", "name another")
        version = folder.aliases()[alias]
        if expect is not None:
            _check_expected(folder, alias, folder.resolve(expect))
        folder.remove_alias(alias)
    return version


def _check_expected(folder: SetFolder, alias: str, expected: str) -> None:
    found = folder.aliases().get(alias)
    if found != expected:
        current = folder.aliases().get(CURRENT_ALIAS)
        raise Conflict(
            f"the alias {alias!r} points at {found or 'nothing'}; the current version is {current}",
            f"{expected}, as was expected",
            "look at the log, then name the version that it points at now",
        )


def roll_back(folder: SetFolder, selector: str | None) -> str:
    """Point `current` at the parent of the current version, or at the version that `selector` means; return it.

    Nothing is deleted. Raises NotFound if the parent does not exist (any more).
    """
    with folder.locked():
        current = folder.resolve(CURRENT_ALIAS)
        target = selector or folder.manifest(current).parent
        if target is None or (selector is None and target not in folder.versions()):
            raise NotFound(
                f"the parent of {current} is {target or 'none: it was the first'}",
                "a version before it",
                f"name one with --to: {', '.join(folder.versions())}",
            )
        version = folder.resolve(target)
        folder.manifest(version)
        folder.set_alias(CURRENT_ALIAS, version)
    return version


def check_current(folder: SetFolder, version: str, what: str) -> None:
    """Raise Conflict unless `version` is the current one; the caller holds the lock.

    `what` begins the error, before the version, such as "the profile was found for".
    """
    current = folder.aliases().get(CURRENT_ALIAS)
    if current != version:
        raise Conflict(
            f"{what} {version}, but the current version is {current}",
            "the version that is current",
            "review the changes (asif anchors diff), then repeat the operation on the current version",
        )
