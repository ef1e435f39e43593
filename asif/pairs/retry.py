"""Requests to a remote store, retried when the connection fails; library errors become asif's own."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from asif.errors import AsifError, InputRefused, OutOfSpace, Unreachable
from asif.pairs.redaction import HIDDEN, redact_text

PAUSES = (0.5, 1.5, 4.0)
"""Seconds before each further attempt."""
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_REFUSED = (401, 403, 407)
_GONE = (404, 410)
T = TypeVar("T")


def with_retries(shown: str, query: str, request: Callable[[], T]) -> T:
    """Return what `request` returns, retrying after each of PAUSES; `shown` names the place, `query` may be secret.

    Raises FileNotFoundError if the path does not exist, InputRefused without permission, OutOfSpace if a local copy did
    not fit, Unreachable after the last attempt. Each protocol's library has its own errors, which may quote
    credentials: none of them is passed on, not even as a cause.
    """
    for pause in (*PAUSES, None):
        try:
            return request()
        except AsifError:
            raise
        except Exception as raised:
            error = _find_cause(shown, raised)
            final = _translate_error(shown, error)
            if final is not None:
                raise final from None
            if pause is None:
                raise Unreachable(
                    f"{shown} does not answer: {describe_error(error, query)}",
                    f"a response to one of {len(PAUSES) + 1} attempts",
                    "check the connection and run the same command again: a build resumes",
                ) from None
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def describe_error(error: BaseException, query: str = "") -> str:
    """Return the first line of a library's error, without credentials."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else "no reason given"
    return f"{type(error).__name__}: {redact_text(text.replace(query, f'?{HIDDEN}') if query else text)}"


def _find_cause(shown: str, error: Exception) -> BaseException:
    """Return the cause of the FileNotFoundError that fsspec's http raises for any error."""
    hidden = isinstance(error, FileNotFoundError) and shown.rpartition("::")[2].startswith("http")
    return error.__cause__ or error if hidden else error


def _translate_error(shown: str, error: BaseException) -> Exception | None:
    """Return asif's error if another attempt would be useless, None if it may help."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return OutOfSpace(f"there is no room for a copy of {shown}", "room in the temporary folder", "free some space")
    status = _find_http_status(error)
    if isinstance(error, _MISSING) or status in _GONE:
        return FileNotFoundError(errno.ENOENT, "not found", shown)
    if isinstance(error, PermissionError) or status in _REFUSED or "Credential" in type(error).__name__:
        return InputRefused(
            f"{shown} may not be read{f' (status {status})' if status else ''}",
            "credentials that allow it (or an existing path: some stores give this error for paths that do not exist)",
            "log in as the store's own tools do, see docs/pairs.md, and run the same command again",
        )
    return None


def _find_http_status(error: BaseException) -> int | None:
    """Return the HTTP status in an error of aiohttp, gcsfs, adlfs or huggingface_hub."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status", "status_code", "code"):
            if isinstance(value := getattr(holder, name, None), int):
                return value
    return None
