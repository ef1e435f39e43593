"""The entries of an audit's findings as HTML: anchors as thumbnails with captions, side by side where they belong."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

Results = Mapping[str, Any]
Pictures = Mapping[str, bytes] | None
"""JPEGs by sha256; None where no pairs were given, so that frames would say nothing."""

SIDE_BY_SIDE = 6  # anchors of a group
LONGEST = 160  # characters of a caption
CAPTIONS = 3  # of a pair that disagrees
BESIDE = {"near_image": "looks like", "near_text": "reads like"}


def entries(finding: Results, shown: int, pictures: Pictures) -> str:
    """Write the first entries of a finding, and how many more there are."""
    write: Callable[[Results, Pictures], str] = WRITERS.get(finding["kind"], group)
    first = finding["listed"][:shown]
    left = finding["entries"] - len(first)
    more = f'<p class="soft">{left:,} more: see audit.json.</p>' if left else ""
    kind = "grid" if write is single else "list"
    return f'<div class="{kind}">{"".join(write(each, pictures) for each in first)}</div>{more}'


def pairs_of(entry: Results) -> list[Results]:
    """Return the anchors that are shown of an entry."""
    return [*entry["pairs"][:SIDE_BY_SIDE], *(pair for name in BESIDE for pair in entry.get(name, ()))]


def group(entry: Results, pictures: Pictures) -> str:
    """Write anchors that belong together in one row: the first, and how near to it the others are."""
    pairs = entry["pairs"][:SIDE_BY_SIDE]
    hidden = entry["count"] - len(pairs)
    more = f'<span class="more">and {hidden:,} more</span>' if hidden else ""
    figures = ["", *map(nearness, pairs[1:])]
    cards = "".join(card(pair, pictures, near) for pair, near in zip(pairs, figures, strict=True))
    return f'<div class="row">{cards}{more}</div>'


def nearness(pair: Results) -> str:
    """Write how near an anchor is to the first of its group, where that is known."""
    if "image_cosine" not in pair:
        return ""
    return f"image {pair['image_cosine']:.3f} · caption {pair['caption_cosine']:.3f}"


def single(entry: Results, pictures: Pictures) -> str:
    """Write one anchor with how often it is used."""
    used = " · ".join(
        f"{side} {entry[f'{side}_queries']:,} ({100 * entry[f'{side}_share']:.1f} %)"
        for side in ("image", "text")
        if f"{side}_queries" in entry
    )
    return card(entry["pairs"][0], pictures, used)


def pairing(entry: Results, pictures: Pictures) -> str:
    """Write a pair, beside what its image looks like and what its caption reads like."""
    likeness = f"likeness: image {entry['image_likeness']:+.2f} · caption {entry['text_likeness']:+.2f}"
    beside = "".join(
        f'<div class="beside"><b>{word}</b>{"".join(card(pair, pictures, small=True) for pair in entry[name])}</div>'
        for name, word in BESIDE.items()
    )
    return f'<div class="row pairing">{card(entry["pairs"][0], pictures, likeness, most=CAPTIONS)}{beside}</div>'


def shared(entry: Results, pictures: Pictures) -> str:
    """Write a caption that many images share, with some of them."""
    pairs = entry["pairs"][:SIDE_BY_SIDE]
    hidden = entry["count"] - len(pairs)
    names = ", ".join(f"<code>{escape(cut(pair['id']))}</code>" for pair in pairs) + f", {hidden:,} more" * (hidden > 0)
    frames = "".join(frame(pair, pictures) for pair in pairs)
    said = f"<p><b>{entry['images']:,} images:</b> {escape(cut(entry['caption']))}</p><small>{names}</small>"
    return f'<div class="row shared card small"><div>{said}</div><div class="strip">{frames}</div></div>'


def card(pair: Results, pictures: Pictures, figures: str = "", *, most: int = 1, small: bool = False) -> str:
    """Write one anchor: thumbnail, caption, id, where it is from, figures."""
    captions = pair["captions"][:most]
    said = "".join(f"<p>{escape(cut(caption))}</p>" for caption in captions)
    further = len(pair["captions"]) - len(captions)
    more = f" +{further} caption{'s' * (further != 1)}" if further and not small else ""
    origin = " · ".join(escape(cut(name)) for name in (pair["source"], pair["licence"]) if name)
    about = f"<code>{escape(cut(pair['id']))}</code>{more}" + (f"<br>{origin}" if origin and not small else "")
    numbers = f'<span class="figures">{escape(figures)}</span>' if figures else ""
    text = f"<div>{said}{numbers}<small>{about}</small></div>"
    return f'<div class="card{" small" * small}">{frame(pair, pictures)}{text}</div>'


def frame(pair: Results, pictures: Pictures) -> str:
    """Write a thumbnail, or an empty frame where there is none; nothing where there are no pictures at all."""
    if pictures is None:
        return ""
    content = pictures.get(pair["image_sha256"])
    if content is None:
        return '<span class="frame" title="not among the pairs"></span>'
    return f'<span class="frame"><img alt="" src="data:image/jpeg;base64,{base64.b64encode(content).decode()}"></span>'


def cut(text: str) -> str:
    """Shorten a long text.

    >>> cut("a dog"), len(cut("x" * 1000))
    ('a dog', 160)
    """
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


WRITERS: dict[str, Callable[[Results, Pictures], str]] = {
    "disagreement": pairing,
    "hub": single,
    "never_used": single,
    "shared_caption": shared,
}
