"""The entries of an audit's findings as the page shows them: anchors as cards of a thumbnail, captions and figures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from asif.evaluate.audit.findings import AuditFinding, FindingEntry, MemberCosines
from asif.modality import name_many, reword
from asif.pairs import PairRecord
from asif.vectors import Side

Thumbnails = Mapping[str, bytes] | None
"""JPEGs by the sha256 of the image; None if no pairs were given, so that the page has no frames."""

Layout = Literal["pair", "single", "shared", "group"]

MAX_CHARACTERS = 160
"""Characters of a text on the page; longer ones are cut."""

_GROUP_CARDS = 6  # anchors of a group that are shown
_PAIR_CAPTIONS = 3  # captions shown of a pair that disagrees
_NEIGHBOUR_TITLES: dict[Side, str] = {"image": "looks like", "text": "reads like"}
_LAYOUTS: dict[str, Layout] = {
    "disagreement": "pair",
    "hub": "single",
    "never_used": "single",
    "shared_caption": "shared",
}


@dataclass(frozen=True)
class Card:
    """Hold what is shown of one anchor.

    `jpeg` is its thumbnail in base64, empty if it is missing, None on a page without thumbnails. `more_captions` are
    not shown; `origin` is source and licence.
    """

    id: str
    captions: tuple[str, ...]
    more_captions: int
    origin: str
    figures: str
    jpeg: str | None


@dataclass(frozen=True)
class EntryView:
    """Hold what is shown of one entry: cards of its anchors, how many are not shown, and the cards of neighbours.

    `neighbours` are titled lists of cards. `caption` is shared by `images` different images.
    """

    layout: Layout
    cards: Sequence[Card]
    hidden: int = 0
    neighbours: Sequence[tuple[str, Sequence[Card]]] = ()
    caption: str = ""
    images: int = 0
    noun: str = "images"


def find_layout(finding: AuditFinding) -> Layout:
    """Return the layout of a finding's entries."""
    return _LAYOUTS.get(finding.kind, "group")


def list_shown_rows(entry: FindingEntry) -> list[int]:
    """Return the rows of the anchors that the page shows of an entry."""
    return [*entry.rows[:_GROUP_CARDS], *(row for rows in entry.neighbours.values() for row in rows)]


def build_entry_view(
    finding: AuditFinding,
    entry: FindingEntry,
    records: Mapping[int, PairRecord],
    thumbnails: Thumbnails,
    modality: str = "image",
) -> EntryView:
    """Prepare one entry for the page; `modality` is what the first half of the pairs is."""
    layout = find_layout(finding)
    if layout == "pair":
        likeness = f"likeness: image {entry.likeness['image']:+.2f} · caption {entry.likeness['text']:+.2f}"
        card = _build_card(records[entry.rows[0]], thumbnails, reword(likeness, modality), _PAIR_CAPTIONS)
        neighbours = [
            (reword(_NEIGHBOUR_TITLES[side], modality), [_build_card(records[row], thumbnails) for row in rows])
            for side, rows in entry.neighbours.items()
        ]
        return EntryView(layout, [card], neighbours=neighbours)
    if layout == "single":
        return EntryView(
            layout, [_build_card(records[entry.rows[0]], thumbnails, reword(_format_use(entry), modality))]
        )
    rows = entry.rows[:_GROUP_CARDS]
    hidden = len(entry.rows) - len(rows)
    if layout == "shared":
        cards = [_build_card(records[row], thumbnails) for row in rows]
        images = entry.shared_caption.images if entry.shared_caption else 0
        text = shorten(entry.caption_text(records))
        return EntryView(layout, cards, hidden, caption=text, images=images, noun=name_many(modality))
    cosines = [reword(_format_cosines(each), modality) for each in entry.cosines[1 : len(rows)]]
    figures = ["", *cosines] if entry.cosines else [""] * len(rows)
    cards = [_build_card(records[row], thumbnails, figure) for row, figure in zip(rows, figures, strict=True)]
    return EntryView(layout, cards, hidden)


def _build_card(record: PairRecord, thumbnails: Thumbnails, figures: str = "", most_captions: int = 1) -> Card:
    jpeg = None if thumbnails is None else thumbnails.get(record.image_sha256, b"")
    return Card(
        id=shorten(record.id),
        captions=tuple(map(shorten, record.captions[:most_captions])),
        more_captions=max(0, len(record.captions) - most_captions),
        origin=" · ".join(shorten(name) for name in (record.source, record.licence) if name),
        figures=figures,
        jpeg=None if jpeg is None else base64.b64encode(jpeg).decode(),
    )


def _format_use(entry: FindingEntry) -> str:
    return " · ".join(f"{side} {use.queries:,} ({100 * use.share:.1f} %)" for side, use in entry.use.items())


def _format_cosines(cosines: MemberCosines) -> str:
    return f"image {cosines.image:.3f} · caption {cosines.caption:.3f}"


def shorten(text: str, most: int = MAX_CHARACTERS) -> str:
    """Cut a long text.

    >>> shorten("a dog"), len(shorten("x" * 1000))
    ('a dog', 160)
    """
    return text if len(text) <= most else text[: most - 1] + "…"
