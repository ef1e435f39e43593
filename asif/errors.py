"""The exceptions of asif, and their exit codes.

AsifError                1    a failure while running
├── MissingDependency    1    an optional library is not installed
├── Unreachable          1    the store that holds the data does not answer
├── Busy                 1    another process is doing the same thing now
│   └── Conflict         1    another process has changed the set meanwhile
├── UsageError           2    the call makes no sense: options, labels, templates, names
│   └── NotFound         2    no such anchor set, version or alias
├── InputRefused         3    the data that came in cannot be used
│   ├── BadMedia         3    one input of an encoder that cannot be used
│   │   ├── BadImage     3    one image that cannot be decoded safely
│   │   └── BadAudio     3    one sound that cannot be decoded, or has nothing to hear
│   └── BadEmbedding     3    NaN, infinite or zero vectors
├── EncoderMismatch      4    the anchor set was made with another encoder
├── Stale                4    a projector was trained on other anchors than these
├── IntegrityError       5    bytes on disk are not what was written
│   └── UnknownFormat    5    written by a newer asif
├── OutOfSpace           6    disk or memory is full
└── Interrupted        130    stopped by the user; finished work stays on disk

Every message has three parts: what came, what was expected, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class AsifError(Exception):
    """Report what came, what was expected and what to do about it.

    >>> print(AsifError("k is -3", "a whole number from 1", "pass --k 100"))
    k is -3
      expected: a whole number from 1
      to do:    pass --k 100
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, came: str, expected: str, fix: str) -> None:
        super().__init__(came, expected, fix)
        self.came = came
        self.expected = expected
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.came}\n  expected: {self.expected}\n  to do:    {self.fix}"


class MissingDependency(AsifError):
    """An optional library is not installed; the fix is the install command."""


class Unreachable(AsifError):
    """The store that holds the data does not answer; finished work stays on disk."""


class Busy(AsifError):
    """Another process is doing the same thing now."""


class Conflict(Busy):
    """Another process has changed the anchor set meanwhile; the current version is named."""


class UsageError(AsifError):
    """The call is invalid: options, labels, templates or names."""

    exit_code = 2


class NotFound(UsageError):
    """No such anchor set, version or alias."""


class InputRefused(AsifError):
    """The data that came in cannot be used."""

    exit_code = 3


class BadMedia(InputRefused):
    """One input of an encoder, an image or a sound, cannot be used; others can."""


class BadImage(BadMedia):
    """One image cannot be decoded within the limits."""


class BadAudio(BadMedia):
    """One sound cannot be decoded within the limits, or is silent."""


class BadEmbedding(InputRefused):
    """A vector is NaN, infinite or zero."""


class EncoderMismatch(AsifError):
    """The anchor set was made with another encoder than the one at hand."""

    exit_code = 4


class Stale(AsifError):
    """A projector was trained on other anchors than those at hand."""

    exit_code = 4


class IntegrityError(AsifError):
    """Bytes on disk are not what was written."""

    exit_code = 5


class UnknownFormat(IntegrityError):
    """An anchor set was written by a newer asif."""


class OutOfSpace(AsifError):
    """Disk or memory is full."""

    exit_code = 6


class Interrupted(AsifError):
    """The user stopped the run; finished work stays on disk."""

    exit_code = 130


def suggest_nearest(value: str, allowed: Iterable[str], otherwise: str = "choose one of them, or remove it") -> str:
    """Suggest the nearest allowed value, as advice for an error; `otherwise` is the advice if none is near.

    >>> suggest_nearest("cliptions", ["captions", "columns"])
    'write captions, if you meant that'
    >>> suggest_nearest("PARTS", ["parts"]), suggest_nearest("x", ["captions"], "name another")
    ('write parts, if you meant that', 'name another')
    """
    by_case = {each.casefold(): each for each in allowed}
    near = get_close_matches(value[:200].casefold(), by_case, 1)
    return f"write {by_case[near[0]]}, if you meant that" if near else otherwise
