"""The answers of a search as one HTML page: results with thumbnails, each opens to the reasons for its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asif.anchorset import AnchorsIdentity
from asif.anchorset.format.references import is_version, parse_sequence_number
from asif.engine.search.query import QueryPart
from asif.engine.search.results import SearchAnswer
from asif.modality import name_many
from asif.pairs import redact_url
from asif.report.audit.entries import shorten
from asif.report.html import render
from asif.report.search.cards import ResultCard, Thumbnail, build_card
from asif.report.search.pictures import Picture, choose_pictures
from asif.version import VERSION


@dataclass(frozen=True)
class PartView:
    """Hold a part of a query: the sign before it, its weight if that is not one, its kind if it is no text."""

    sign: str
    weight: str
    kind: str
    text: str


@dataclass(frozen=True)
class AnswerSection:
    """Hold the section of one query: its parts, what was searched in what way, and its results.

    Those `below` reach scores that chance alone would bring about.
    """

    parts: Sequence[PartView]
    text: str
    standing: str
    found: str
    how: str
    origin: str
    error: str
    relevant: int
    above: Sequence[ResultCard]
    below: Sequence[ResultCard]


def render_search_page(
    answers: Sequence[SearchAnswer],
    *,
    kind: str,
    aligner: str,
    thumbnail: Thumbnail,
    pair_thumbnails: Mapping[str, bytes] | None = None,
    title: str | None = None,
) -> str:
    """Render the answers of one search as a self-contained page.

    `kind` is what the items of the gallery are, `aligner` the one with which they were compared, `thumbnail` finds the
    WebP of an item by its row. Items without one get a frame with their id. `pair_thumbnails` {sha256 of the image:
    WebP} are those of the pairs behind results; pairs without one have no frame.
    """
    pictures = choose_pictures(answers, pair_thumbnails or {})
    sections = [_build_section(answer, kind, aligner, thumbnail, pictures) for answer in answers]
    origins = list(dict.fromkeys(section.origin for section in sections))
    return render(
        "search.html.jinja",
        title=title or " and ".join(dict.fromkeys(f"Search in {answer.gallery.name}" for answer in answers)),
        sections=sections,
        pictures=list(pictures.values()),
        origin=origins[0] if len(origins) == 1 else "",
        explained=any(card.reasons for section in sections for card in (*section.above, *section.below)),
        version=VERSION,
    )


def _build_section(
    answer: SearchAnswer, kind: str, aligner: str, thumbnail: Thumbnail, pictures: Mapping[str, Picture]
) -> AnswerSection:
    cards = [build_card(answer, each, kind, thumbnail, pictures) for each in answer.results]
    return AnswerSection(
        parts=list(map(_build_part, answer.query.parts)),
        text=shorten(redact_url(str(answer.query))),
        standing=_describe_standing(answer),
        found=f"{answer.searched:,} {name_many(kind)} searched, {_describe_standing(answer)}",
        how=_describe_space(answer, aligner),
        origin=f"gallery {_name_set(answer.gallery)} · anchors {_name_set(answer.anchors)}",
        error=answer.error.came if answer.error else "",
        relevant=answer.relevant,
        above=[card for card in cards if card.is_above_chance],
        below=[card for card in cards if not card.is_above_chance],
    )


def _describe_standing(answer: SearchAnswer) -> str:
    """Write how many of the best items are above chance."""
    return f"{answer.relevant:,} above chance" if answer.relevant else "none above chance"


def _describe_space(answer: SearchAnswer, aligner: str) -> str:
    if answer.space == "shared":
        return f"compared through the anchors, by the aligner {aligner}"
    return f"compared directly in the {answer.space} space, by cosine; anchors have no part in it"


def _build_part(part: QueryPart) -> PartView:
    return PartView(
        sign="-" if part.weight < 0 else "+",
        weight="" if abs(part.weight) == 1 else f"{abs(part.weight):g}:",
        kind="" if part.kind == "text" else part.kind,
        text=shorten(redact_url(str(part).removeprefix("item ") if part.kind == "item" else str(part))),
    )


def _name_set(identity: AnchorsIdentity) -> str:
    """Name a version with its digest, and the filter on its pairs."""
    version = identity.version
    number = f"{parse_sequence_number(version)}" if is_version(version) else version
    conditions = [
        f"{name} {'; '.join(map(str, values)) if isinstance(values, list | tuple) else values}"
        for name, values in identity.pair_filter.as_dict().items()
    ]
    return " ".join((f"{identity.name}@{number}", f"({identity.digest[:12]})", *conditions))
