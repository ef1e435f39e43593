"""The results of a search as the page shows them: a card each, of a thumbnail or text, figures, and the reasons."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from asif.engine.search.chance import format_chance
from asif.engine.search.results import SearchAnswer, SearchResult
from asif.pairs import redact_url
from asif.report.audit.entries import shorten
from asif.report.search.pictures import Picture
from asif.report.search.reasons import Reasons, build_reasons, find_link, format_units

Thumbnail = Callable[[int], bytes | None]
"""Return the thumbnail of an item by its row, WebP; None if there is none."""

_SCORE_DIGITS = 4
_TEXT_CHARACTERS = 4_000
_PLACE_CHARACTERS = 22


@dataclass(frozen=True)
class ResultCard:
    """Hold what is shown of one result.

    `webp` is its thumbnail in base64, empty if there is none; `text` the item itself if that is a text. `place` is the
    end of `uri`. `chance_note` says how many items chance alone would bring up to this score.
    """

    id: str
    alt: str
    text: str
    webp: str
    captions: tuple[str, ...]
    place: str
    uri: str
    link: str | None
    facts: dict[str, str]
    score: str
    chance: str
    chance_note: str
    is_above_chance: bool
    reasons: Reasons | None


def build_card(
    answer: SearchAnswer, result: SearchResult, kind: str, thumbnail: Thumbnail, pictures: Mapping[str, Picture]
) -> ResultCard:
    """Prepare one result for the page; `kind` is what items are; `pictures` of pairs are by the sha256 of the image."""
    item, expected = result.item, result.chance * answer.searched
    webp = (thumbnail(result.row) or b"") if kind == "image" else b""
    uri = redact_url(result.uri)
    return ResultCard(
        id=shorten(result.id),
        alt=shorten(item.captions[0] if item.captions else result.id),
        text=shorten(item.captions[0] if item.captions else "", _TEXT_CHARACTERS) if kind == "text" else "",
        webp=base64.b64encode(webp).decode(),
        captions=tuple(map(shorten, item.captions)) if kind != "text" else (),
        place=shorten_place(uri),
        uri=uri,
        link=find_link(result.uri),
        facts={"label": item.label or "", "source": item.source or "", "licence": item.licence or ""},
        score=format_units(round(result.score * 10**_SCORE_DIGITS), _SCORE_DIGITS),
        chance=format_chance(result.chance),
        chance_note=f"{format_expected(expected)} of {answer.searched:,} items",
        is_above_chance=answer.is_relevant(result),
        reasons=build_reasons(answer.query, result, result.evidence, pictures) if result.evidence else None,
    )


def shorten_place(uri: str) -> str:
    """Cut the beginning off a long place, before a folder if there is one.

    >>> shorten_place("/home/me/photos/2024/summer/beach.jpg"), shorten_place("a.jpg"), shorten_place("/x/" + "1" * 40)
    ('…/summer/beach.jpg', 'a.jpg', '…111111111111111111111')
    """
    if len(uri) <= _PLACE_CHARACTERS:
        return uri
    end = uri[1 - _PLACE_CHARACTERS :]
    slash = end.find("/")
    return "…" + (end[slash:] if slash >= 0 else end)


def format_expected(items: float) -> str:
    """Format a number of items that is expected, which is not whole.

    >>> format_expected(12345.6), format_expected(1.23), format_expected(0.9999), format_expected(0.0001)
    ('12,346', '1.2', '0.99', '<0.01')
    """
    if items < 0.01:
        return "<0.01"
    if items < 1:
        return f"{int(items * 100) / 100:.2f}"  # 0.999 is below one, and stays so
    return f"{items:.1f}" if items < 10 else f"{items:,.0f}"
