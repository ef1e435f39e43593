"""The precisions in which encoders compute: float32, or a smaller one, whose vectors need anchors of their own."""

from __future__ import annotations

from typing import Literal, cast, get_args

from asif.errors import UsageError
from asif.vectors import Fingerprint

Precision = Literal["float32", "bfloat16", "float16"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def check_precision(precision: str) -> None:
    """Raise UsageError for a name that is no precision."""
    if precision not in PRECISIONS:
        raise UsageError(
            f"the precision is {precision!r}",
            f"one of {', '.join(PRECISIONS)}",
            "leave it out: encoders run in float32",
        )


def find_precision(fingerprint: Fingerprint) -> Precision:
    """Return the precision in which an encoder made anchors; float32 if its fingerprint names none that is known.

    >>> find_precision(Fingerprint({"dtype": "bfloat16"})), find_precision(Fingerprint({}))
    ('bfloat16', 'float32')
    """
    dtype = fingerprint.fields.get("dtype")
    return cast("Precision", dtype) if dtype in PRECISIONS else "float32"
