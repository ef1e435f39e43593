"""Pair filters: select the anchors of a query by an expression over their records and by their licences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from asif.errors import NotFound, UsageError
from asif.pairs.filter_expression import parse_where
from asif.pairs.licences import Licence
from asif.pairs.pair import PairRecord

_LICENCES_SHOWN = 20  # licences in an error


@dataclass(frozen=True)
class PairFilter:
    """Hold conditions on pairs, all of which must hold: expressions, and lists of licences.

    A pair must have one licence of each list. Raises UsageError for an invalid expression, and for no licences.

    >>> PairFilter.of("source = 'web'", ["cc-by", "CC0"]).as_dict()
    {'where': "source = 'web'", 'licences': ['cc-by', 'cc0']}
    """

    where: tuple[str, ...] = ()
    licences: tuple[tuple[Licence, ...], ...] = ()

    @classmethod
    def of(cls, where: str | None = None, licences: Sequence[str] | None = None) -> PairFilter:
        """Build a filter of an expression (see `pairs.filter_expression`) and licence names (see `pairs.licences`)."""
        if isinstance(licences, str):
            raise UsageError(f"the licences are one text: {licences[:40]!r}", "a list", "pass licences=[…]")
        if licences is not None and not [name for name in licences if name.strip()]:
            raise UsageError("no licences", "one at least", "pass for example --license cc-by,cc0")
        if where is not None:
            parse_where(where)
        named = dict.fromkeys(Licence.read(name) for name in licences or () if name.strip())
        return cls(() if where is None else (where,), (tuple(named),) if named else ())

    def __bool__(self) -> bool:
        """Tell whether the filter has any condition."""
        return bool(self.where or self.licences)

    def __and__(self, other: PairFilter) -> PairFilter:
        """Return the filter that keeps the pairs that both filters keep."""
        return PairFilter(self.where + other.where, self.licences + other.licences)

    def __str__(self) -> str:
        licences = [f"licence is {' or '.join(map(str, some))}" for some in self.licences]
        return " and ".join(
            [f"({text})" if len(self.where) > 1 or licences else text for text in self.where] + licences
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the filter for JSON, without empty fields."""
        fields: dict[str, Any] = {}
        if self.where:
            fields["where"] = self.where[0] if len(self.where) == 1 else " and ".join(f"({one})" for one in self.where)
        if self.licences:
            both = [name for name in self.licences[0] if all(name in others for others in self.licences[1:])]
            fields["licences"] = [str(name) for name in both]
        return fields

    def predicate(self) -> Callable[[PairRecord], bool]:
        """Return a predicate of pairs; it is fast for many pairs with few licences."""
        conditions = [parse_where(text) for text in self.where]
        known: dict[str | None, bool] = {}

        def allowed(written: str | None) -> bool:
            if written not in known:
                found = None if written is None else Licence.read(written)
                known[written] = found is not None and all(
                    any(name.covers(found) for name in some) for some in self.licences
                )
            return known[written]

        if self.licences:
            conditions.append(lambda pair: allowed(pair.licence))
        return lambda pair: all(holds(pair) for holds in conditions)

    def check(self, ref: str, counts: Counter[str | None]) -> None:
        """Raise NotFound for licences that no pair of `counts` has; the error names those that occur.

        Of a list of well-known licences it is enough that one occurs.
        """
        present = [Licence.read(written) for written in counts if written is not None]
        for some in self.licences:
            missing = [name for name in some if not any(name.covers(other) for other in present)]
            if [name for name in missing if not name.known] or len(missing) == len(some):
                named = sorted(counts.items(), key=lambda each: (each[0] is None, -each[1], each[0]))
                shown = [f"{written or 'none given'} ({count:,})" for written, count in named[:_LICENCES_SHOWN]]
                raise NotFound(
                    f"no pair of {ref} has the licence {', '.join(map(str, missing))}",
                    f"licences that it has: {', '.join(shown)}{', …' if len(named) > _LICENCES_SHOWN else ''}",
                    "name some of those; for others pass --where",
                )


NO_FILTER = PairFilter()
