"""Labels that are no words: numbers without names, and marks of images that have no label."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

_UNLABELLED = {"null", "<na>", "n/a", "#n/a", "unlabelled", "unlabeled"}
_UNLABELLED_AS_WRITTEN = {"None", "NA"}
"""Marks that pandas, numpy and Python write; `none` in lower case may be a class."""
_NO_CLASS = {"none", "unknown", "other", "ignore", "void", "?", "-"}
"""Labels that are classes among words, and say nothing about them among numbers."""
_NUMBERED = re.compile(r"(?:class|label|category|cls|idx|index|id)[\s_#.:-]*(\d+)", re.IGNORECASE)
_SHOWN_LABELS = 5


def is_unlabelled(label: str) -> bool:
    """Tell whether a label marks an image without one: a blank, a number below zero, nan, None, null.

    >>> [label for label in ("-1", "-1.0", "NaN", "None", " ", "n/a", "0", "none", "naan") if is_unlabelled(label)]
    ['-1', '-1.0', 'NaN', 'None', ' ', 'n/a']
    """
    word, number = label.strip(), _parse_float(label)
    if number is not None:
        return not 0 <= number < math.inf
    return not word or word in _UNLABELLED_AS_WRITTEN or word.casefold() in _UNLABELLED


def parse_number(label: str) -> float | None:
    """Return the number that a label consists of, in any spelling; None for words and for marks of no label.

    >>> [parse_number(label) for label in ("3", "03", "3.0", " 3", "3e0", "class 3", "LABEL_3", "737-800", "-1")]
    [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, None, None]
    """
    numbered = _NUMBERED.fullmatch(label.strip())
    number = float(numbered[1]) if numbered else _parse_float(label)
    return None if number is None or not 0 <= number < math.inf else number


def are_numbers(labels: Iterable[str]) -> bool:
    """Tell whether labels are numbers only, apart from marks of no class, so that no text encoder can read them.

    >>> are_numbers(["0", "1", "-1"]), are_numbers(["class 0", "unknown"]), are_numbers(["737", "A320"])
    (True, True, False)
    """
    words = [label for label in labels if not is_unlabelled(label) and label.strip().casefold() not in _NO_CLASS]
    return bool(words) and all(parse_number(label) is not None for label in words)


def list_labels(labels: Iterable[str]) -> str:
    """List the first labels for a message, each shortened.

    >>> list_labels(["cat", "dog"]), list_labels("abcdefg")
    ('cat, dog', 'a, b, c, d, e …')
    """
    short = [label if len(label) <= 40 else f"{label[:39]}…" for label in labels]
    return ", ".join(short[:_SHOWN_LABELS]) + (" …" if len(short) > _SHOWN_LABELS else "")


def _parse_float(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None
