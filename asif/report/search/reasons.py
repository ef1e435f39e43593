"""The reasons for a score as the page shows them: figures that are rounded so that they add up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from asif.engine.search.query import Query, QueryPart
from asif.engine.search.results import SearchEvidence, SearchResult
from asif.pairs import PairRecord, redact_url
from asif.report.audit.entries import shorten
from asif.report.search.pictures import Picture

_LEAST_DIGITS = 4
_MOST_DIGITS = 9
_SIGNIFICANT_DIGITS = 2  # of the largest contribution


@dataclass(frozen=True)
class Amount:
    """Hold a part of a sum: its figure, and the width of its bar in per cent of the widest of its list."""

    label: str
    figure: str
    width: float
    is_negative: bool


@dataclass(frozen=True)
class PairReason:
    """Hold an anchor pair behind a score; `origin` is source and licence, `link` its URL if that is one of the web.

    `picture` is the name of its picture on the page, empty if it has none.
    """

    id: str
    caption: str
    more_captions: int
    origin: str
    url: str
    link: str | None
    picture: str
    amount: Amount


@dataclass(frozen=True)
class Reasons:
    """Hold the reasons for a score: the figures of pairs and `remainder` add up to `total`, as do those of `parts`.

    `total` and `hubness`, empty if nothing is taken off, add up to `score`. `others` pairs are in the remainder.
    """

    pairs: Sequence[PairReason]
    others: int
    remainder: str
    total: str
    hubness: str
    score: str
    parts: Sequence[Amount]


def build_reasons(
    query: Query, result: SearchResult, evidence: SearchEvidence, pictures: Mapping[str, Picture]
) -> Reasons:
    """Prepare the evidence of one result for the page; `pictures` of pairs are by the sha256 of the image."""
    found = evidence.contributions
    values = [float(value) for value in found.values]
    digits = choose_digits(values)
    *units, remainder, hubness = round_to_sum([*values, found.remainder, -evidence.hubness], result.score, digits)
    total = sum(units) + remainder
    parts = round_to_sum(evidence.parts, total / 10**digits, digits)
    return Reasons(
        pairs=[
            _build_pair(record, amount, pictures)
            for record, amount in zip(evidence.records, _list_amounts([""] * len(units), units, digits), strict=True)
        ],
        others=found.others,
        remainder=format_units(remainder, digits),
        total=format_units(total, digits),
        hubness=format_units(hubness, digits) if evidence.hubness else "",
        score=format_units(total + hubness, digits),
        parts=_list_amounts([_name_part(part) for part in query.parts], parts, digits) if len(parts) > 1 else [],
    )


def choose_digits(values: Sequence[float]) -> int:
    """Choose the decimal places with which the largest value has two significant digits; at least four.

    >>> choose_digits([0.0152, 0.01]), choose_digits([0.00034, -0.00005]), choose_digits([])
    (4, 5, 4)
    """
    largest = max(map(abs, values), default=0.0)
    wanted = _SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(largest)) if largest else 0
    return min(max(wanted, _LEAST_DIGITS), _MOST_DIGITS)


def round_to_sum(values: Sequence[float], total: float, digits: int) -> list[int]:
    """Round values to units of 10^-digits so that they add up to the rounded total (method of largest remainders).

    Values whose sum is not the total are rounded one by one: a fault upstream shows on the page.

    >>> round_to_sum([0.14, 0.14, 0.14], 0.42, 1), round_to_sum([0.5, 0.5], 0.2, 1)
    ([2, 1, 1], [5, 5])
    """
    scaled = [value * 10**digits for value in values]
    units = [math.floor(value) for value in scaled]
    missing = round(total * 10**digits) - sum(units)
    if abs(sum(scaled) - total * 10**digits) >= 1 or not 0 <= missing <= len(units):
        return [round(value) for value in scaled]
    for place in sorted(range(len(units)), key=lambda at: units[at] - scaled[at])[:missing]:
        units[place] += 1
    return units


def format_units(units: int, digits: int) -> str:
    """Format a number of units of 10^-digits.

    >>> format_units(1234, 4), format_units(-7, 4), format_units(0, 4)
    ('0.1234', '-0.0007', '0.0000')
    """
    return f"{'-' if units < 0 else ''}{abs(units) / 10**digits:.{digits}f}"


def find_link(url: str) -> str | None:
    """Return a URL if a page may link to it: one of http or https, with a host, and without anything to hide.

    >>> find_link("https://a.example/1.jpg"), find_link("javascript:alert(1)"), find_link("https://key@a.example/")
    ('https://a.example/1.jpg', None, None)
    """
    try:
        split = urlsplit(url)
    except ValueError:
        return None
    is_safe = split.scheme in ("http", "https") and split.netloc and redact_url(url) == url
    return url if is_safe else None


def _list_amounts(labels: Sequence[str], units: Sequence[int], digits: int) -> list[Amount]:
    widest = max(map(abs, units), default=0) or 1
    return [
        Amount(label, format_units(unit, digits), 100 * abs(unit) / widest, unit < 0)
        for label, unit in zip(labels, units, strict=True)
    ]


def _build_pair(record: PairRecord, amount: Amount, pictures: Mapping[str, Picture]) -> PairReason:
    url, picture = record.url or "", pictures.get(record.image_sha256)
    return PairReason(
        id=shorten(record.id),
        caption=shorten(record.captions[0]) if record.captions else "",
        more_captions=max(0, len(record.captions) - 1),
        origin=" · ".join(shorten(name) for name in (record.source, record.licence) if name),
        url=shorten(redact_url(url)),
        link=find_link(url),
        picture=picture.name if picture else "",
        amount=amount,
    )


def _name_part(part: QueryPart) -> str:
    """Name a part of a query with its sign and weight, such as '- 2:snow'."""
    weight = "" if abs(part.weight) == 1 else f"{abs(part.weight):g}:"
    return f"{'- ' if part.weight < 0 else ''}{weight}{shorten(str(part))}"
