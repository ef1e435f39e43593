"""Exact copies among anchors, and captions that many share: nothing is compared but hashes."""

from __future__ import annotations

import numpy as np

from asif.evaluate.audit.findings import LISTED, Entry, Finding, classes, grouped
from asif.evaluate.audit.pair_index import Remembered
from asif.vectors import Int64

SHARERS = 3  # images from which on a caption is listed as shared


def both(first: Int64, second: Int64) -> Int64:
    """Number rows, alike where both numbers are."""
    numbers: Int64 = first * (int(second.max(initial=0)) + 1) + second
    return numbers


def differ(numbers: Int64, rows: Int64) -> bool:
    """Tell whether rows have two numbers or more."""
    return bool((numbers[rows] != numbers[rows[0]]).any())


def same_pair(known: Remembered) -> Finding:
    """Find pairs that came several times: one image, the same captions, different ids."""
    found = [rows for rows in classes(both(known.image, known.captions)) if differ(known.family, rows)]
    rule = "The same image (by the sha256 of its file) with the same captions under several ids."
    return grouped("same_pair", rule, found, lambda rows: Entry(rows.tolist()))


def same_image(known: Remembered) -> Finding:
    """Find images that came with different captions, under different ids."""
    found = [rows for rows in classes(known.image) if differ(known.family, rows) and differ(known.captions, rows)]
    rule = "The same image (by the sha256 of its file) under several ids whose captions differ."
    return grouped("same_image", rule, found, lambda rows: Entry(rows.tolist()))


def same_embedding(known: Remembered, image_twins: Int64) -> Finding:
    """Find different files that the encoder cannot tell apart."""
    found = [rows for rows in classes(image_twins) if differ(known.image, rows)]
    rule = "Different files whose stored image embeddings are equal, byte for byte: nothing tells them apart."
    return grouped("same_embedding", rule, found, lambda rows: Entry(rows.tolist()))


def shared_caption(known: Remembered) -> Finding:
    """Find captions that stand beside at least SHARERS images; capitals and blanks do not count.

    Removable are pairs that have no caption of their own, but for the first of those with the same captions; none where
    at least half of the pairs have no caption of their own, because then the captions are labels.
    """
    pairs = np.unique(both(known.said, known.image[known.sayer]), return_index=True)[1]  # a caption, an image: once
    images = np.bincount(known.said[pairs])  # by caption
    common = images[known.said] >= SHARERS
    own = np.zeros(len(known.image), bool)
    own[known.sayer[~common]] = True
    labels = 2 * int((~own).sum()) >= len(own)
    without = np.flatnonzero(~own)
    spare = np.delete(without, np.unique(known.captions[without], return_index=True)[1])
    captions = np.flatnonzero(images >= SHARERS)
    order = captions[np.argsort(-images[captions], kind="stable")]
    rule = f"The same caption, but for capitals and blanks, beside at least {SHARERS} different images."
    notes = (
        ("At least half of the pairs have only such captions: these are labels, and sharing them is what labels do.",)
        if labels
        else ()
    )
    return Finding(
        "shared_caption",
        rule,
        np.unique(known.sayer[common]),
        spare[:0] if labels else spare,
        [sharing(known, int(caption), int(images[caption])) for caption in order[:LISTED]],
        len(order),
        notes=notes,
    )


def sharing(known: Remembered, caption: int, images: int) -> Entry:
    """Tell who shares a caption, beside how many different images."""
    rows = known.sayer[known.said == caption]
    first, end = np.searchsorted(known.sayer, [rows[0], rows[0] + 1])
    place = int(np.flatnonzero(known.said[first:end] == caption)[0])
    return Entry(rows.tolist(), {"images": images}, caption=place)
