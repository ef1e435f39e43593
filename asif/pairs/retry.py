"""Questions to a store elsewhere: asked again when the connection fails, errors in our own words."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from asif.errors import AsifError, InputRefused, OutOfSpace, Unreachable
from asif.pairs.redaction import HIDDEN, scrubbed

PAUSES = (0.5, 1.5, 4.0)
"""Seconds before each further attempt."""
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_REFUSED = (401, 403, 407)
_GONE = (404, 410)
T = TypeVar("T")


def asked(shown: str, query: str, question: Callable[[], T]) -> T:
    """Return the answer to a question about the place `shown`, whose `query` may be secret.

    Raises FileNotFoundError where there is nothing, InputRefused where one may not look, OutOfSpace where a copy found
    no room, Unreachable where no answer comes after a few attempts. Every library of a protocol has errors of its own,
    which may quote credentials: none of them is passed on, not even as a cause.
    """
    for pause in (*PAUSES, None):
        try:
            return question()
        except AsifError:
            raise
        except Exception as raised:
            error = _cause(shown, raised)
            known = _known(shown, error)
            if known is not None:
                raise known from None
            if pause is None:
                raise Unreachable(
                    f"{shown} does not answer: {told(error, query)}",
                    f"an answer at one of {len(PAUSES) + 1} attempts",
                    "check the connection and run the same again: what a build has done is kept, and it goes on",
                ) from None
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def told(error: BaseException, query: str = "") -> str:
    """Say what an error of a library says, in a line, without credentials."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else "no reason given"
    return f"{type(error).__name__}: {scrubbed(text.replace(query, f'?{HIDDEN}') if query else text)}"


def _cause(shown: str, error: Exception) -> BaseException:
    """Look behind the FileNotFoundError that fsspec's http makes of whatever goes wrong."""
    hidden = isinstance(error, FileNotFoundError) and shown.rpartition("::")[2].startswith("http")
    return error.__cause__ or error if hidden else error


def _known(shown: str, error: BaseException) -> Exception | None:
    """Tell whether another attempt would be in vain."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return OutOfSpace(f"there is no room for a copy of {shown}", "room in the temporary folder", "free some space")
    status = _status(error)
    if isinstance(error, _MISSING) or status in _GONE:
        return FileNotFoundError(errno.ENOENT, "not found", shown)
    if isinstance(error, PermissionError) or status in _REFUSED or "Credential" in type(error).__name__:
        return InputRefused(
            f"{shown} may not be read{f' (status {status})' if status else ''}",
            "credentials that allow it (or a place that exists: some stores answer like this where nothing is)",
            "log in as the store's own tools do, see docs/pairs.md, and run the same again",
        )
    return None


def _status(error: BaseException) -> int | None:
    """Return the HTTP status in an error of aiohttp, gcsfs, adlfs or huggingface_hub."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status", "status_code", "code"):
            if isinstance(value := getattr(holder, name, None), int):
                return value
    return None
