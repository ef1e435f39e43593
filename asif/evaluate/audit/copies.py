"""Exact copies among anchors, and captions that many share: nothing is compared but hashes."""

from __future__ import annotations

import numpy as np

from asif.evaluate.audit.finding import MEMBERS, Entry, Finding, classes, grouped
from asif.evaluate.audit.remembered import Remembered
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
    return grouped("same_pair", rule, found, Entry)


def same_image(known: Remembered) -> Finding:
    """Find images that came with different captions, under different ids."""
    found = [
        rows for rows in classes(known.image) if differ(known.family, rows) and differ(known.captions, rows)
    ]
    rule = "The same image (by the sha256 of its file) under several ids whose captions differ."
    return grouped("same_image", rule, found, Entry)


def same_embedding(known: Remembered, image_twins: Int64) -> Finding:
    """Find different files that the encoder cannot tell apart."""
    found = [rows for rows in classes(image_twins) if differ(known.image, rows)]
    rule = "Different files whose stored image embeddings are equal, byte for byte: nothing tells them apart."
    return grouped("same_embedding", rule, found, Entry)


def shared_caption(known: Remembered) -> Finding:
    """Find captions that stand beside at least SHARERS images; capitals and blanks do not count.

    Removable are pairs that have no caption of their own, but for the first of those with the same captions; none where
    at least half of the pairs have no caption of their own, because then the captions are labels.
    """
    pairs = np.unique(both(known.said, known.image[known.sayer]), return_index=True)[1]  # a caption, an image: once
    sharers = np.bincount(known.said[pairs], minlength=int(known.said.max(initial=-1)) + 1)
    common = sharers[known.said] >= SHARERS
    count = len(known.image)
    own = np.bincount(known.sayer[~common], minlength=count) > 0
    order = np.argsort(known.said, kind="stable")
    order = order[common[order]]
    cuts = np.flatnonzero(np.diff(known.said[order])) + 1
    found = [np.sort(known.sayer[some]) for some in np.split(order, cuts) if len(some)]
    labels = 2 * int((~own).sum()) >= count
    notes = (
        ("At least half of the pairs have only such captions: these are labels, and sharing them is what labels do.",)
        if labels
        else ()
    )
    rule = f"The same caption, but for capitals and blanks, beside at least {SHARERS} different images."
    finding = grouped("shared_caption", rule, found, lambda rows: Entry(rows[:MEMBERS], {"sharers": len(rows)}), notes)
    without = np.flatnonzero(~own)
    first = np.unique(known.captions[without], return_index=True)[1]
    spare = without[:0] if labels else np.delete(without, first)
    return Finding("shared_caption", rule, finding.rows, spare, finding.entries, finding.total, {}, notes)
