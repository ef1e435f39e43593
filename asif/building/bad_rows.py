"""Bad rows of a build: how many are allowed, ids of several pairs, and pairs that later rows belong to."""

from __future__ import annotations

from dataclasses import dataclass

from asif.building.batch import PreparedPair
from asif.errors import InputRefused, UsageError
from asif.pairs import Reject, RowsApart
from asif.pairs.pair import ID_CONFLICT


@dataclass(frozen=True)
class Tolerance:
    """Limit the bad rows of a build: to a share of all rows, or to a number.

    >>> Tolerance.parse("1%").allowed(6000), Tolerance.parse("25").allowed(6000)
    (60, 25)
    """

    share: float = 0.01
    number: int | None = None

    @classmethod
    def parse(cls, text: str) -> Tolerance:
        """Read "1%" or "25"; raises UsageError for anything else."""
        try:
            if text.endswith("%"):
                share = float(text[:-1]) / 100
                if 0 <= share <= 1:
                    return cls(share)
            elif int(text) >= 0:
                return cls(number=int(text))
        except ValueError:
            pass
        raise UsageError(f"--max-bad-rows is {text!r}", "a share or a number of rows", "pass for example 1% or 25")

    def allowed(self, rows: int) -> int:
        """Return how many of `rows` rows may be bad."""
        return int(self.share * rows) if self.number is None else self.number


class BadRowCounter:
    """Count bad rows and raise when there are too many; `note` is appended to the advice of that error."""

    def __init__(self, allowed: int, rows: int, note: str = "") -> None:
        self.allowed = allowed
        self.rows = rows
        self.note = note
        self.reasons: list[Reject] = []

    def count(self, reject: Reject) -> None:
        """Count one reject, once for each of its rows; raises InputRefused, with the first reasons, above the limit."""
        if not reject.bad:
            return
        self.reasons += reject.split_rows()
        if len(self.reasons) > self.allowed:
            first = "; ".join(f"row {bad.row}: {bad.reason}" for bad in self.reasons[:3])
            ids = any(bad.reason == ID_CONFLICT for bad in self.reasons)
            raise InputRefused(
                f"{len(self.reasons)} bad rows ({first})",
                f"at most {self.allowed} bad rows of {self.rows:,}"
                + (", and one image for each id, with the rows of an id next to each other in a tar" if ids else ""),
                ("take no ids from the input with --column id=, in a tar also sort the rows by id, or " if ids else "")
                + f"mend the input, or allow more with --max-bad-rows{self.note}",
            )


class IdConflicts:
    """Find pairs whose id names another pair, so that a build stops early; about 150 bytes for each pair."""

    def __init__(self) -> None:
        self._ids: set[int] = set()
        self._pairs: set[int] = set()

    def add(self, prepared: PreparedPair) -> bool:
        """Add a pair, and tell whether it differs from all earlier ones with its id, of which there are some."""
        pair = prepared.pair
        if pair.id is None:
            return False
        name, whole = hash(pair.id), hash((pair.id, prepared.image_sha256, pair.captions))
        conflicts = name in self._ids and whole not in self._pairs
        self._ids.add(name)
        self._pairs.add(whole)
        return conflicts


class UnusablePairs:
    """Hold {first row: reason} of the rejected pairs that have later rows, which are then rejected too."""

    def __init__(self, apart: RowsApart | None) -> None:
        self._apart = apart
        self.reasons: dict[int, str] = {}

    def add(self, reject: Reject) -> None:
        """Add a reject, if it has later rows."""
        if self._apart is not None and self._apart.has_more_rows(reject.row):
            self.reasons[reject.row] = reject.reason
