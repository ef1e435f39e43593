"""Exact duplicates among anchors, and captions shared by many images, found by comparing hashes."""

from __future__ import annotations

import numpy as np

from asif.evaluate.audit.findings import (
    MAX_ENTRIES,
    AuditFinding,
    FindingEntry,
    SharedCaption,
    build_group_finding,
    group_repeats,
)
from asif.evaluate.audit.pair_index import PairIndex
from asif.vectors import Int64

_MIN_IMAGES = 3  # that share a caption before it is listed


def find_same_pairs(index: PairIndex) -> AuditFinding:
    """Find pairs with the same image and the same captions under different ids."""
    equal = group_repeats(_combine_numbers(index.image, index.captions))
    groups = [rows for rows in equal if _differ(index.pair, rows)]
    rule = "The same image (by the sha256 of its file) with the same captions under several ids."
    return build_group_finding("same_pair", rule, groups)


def find_same_images(index: PairIndex) -> AuditFinding:
    """Find images that have different captions under different ids."""
    equal = group_repeats(index.image)
    groups = [rows for rows in equal if _differ(index.pair, rows) and _differ(index.captions, rows)]
    rule = "The same image (by the sha256 of its file) under several ids whose captions differ."
    return build_group_finding("same_image", rule, groups)


def find_same_embeddings(index: PairIndex, embeddings: Int64) -> AuditFinding:
    """Find different files with equal image embeddings; `embeddings` [n] numbers them."""
    groups = [rows for rows in group_repeats(embeddings) if _differ(index.image, rows)]
    rule = "Different files whose stored image embeddings are equal, byte for byte: they cannot be distinguished."
    return build_group_finding("same_embedding", rule, groups)


def find_shared_captions(index: PairIndex) -> AuditFinding:
    """Find captions shared by at least 3 images, ignoring case and spacing.

    Removable are pairs whose captions are all shared, except the first of those with the same captions; none if at
    least half of the pairs have only shared captions, because then the captions are class labels.
    """
    by_image = _combine_numbers(index.caption, index.image[index.caption_row])
    images = np.bincount(index.caption[np.unique(by_image, return_index=True)[1]])  # different images of each caption
    shared = images[index.caption] >= _MIN_IMAGES
    has_own = np.zeros(len(index.image), bool)
    has_own[index.caption_row[~shared]] = True
    labels = 2 * int((~has_own).sum()) >= len(has_own)
    without_own = np.flatnonzero(~has_own)
    removable = np.delete(without_own, np.unique(index.captions[without_own], return_index=True)[1])
    captions = np.flatnonzero(images >= _MIN_IMAGES)
    order = captions[np.argsort(-images[captions], kind="stable")]
    note = "At least half of the pairs have only such captions: these are labels, and sharing them is what labels do."
    return AuditFinding(
        "shared_caption",
        f"The same caption, ignoring case and spacing, for at least {_MIN_IMAGES} different images.",
        np.unique(index.caption_row[shared]),
        removable[:0] if labels else removable,
        [_build_shared_caption_entry(index, int(caption), int(images[caption])) for caption in order[:MAX_ENTRIES]],
        len(order),
        notes=(note,) if labels else (),
    )


def _build_shared_caption_entry(index: PairIndex, caption: int, images: int) -> FindingEntry:
    rows = index.caption_row[index.caption == caption]
    start, end = np.searchsorted(index.caption_row, [rows[0], rows[0] + 1])  # the captions of the first row
    position = int(np.flatnonzero(index.caption[start:end] == caption)[0])
    return FindingEntry(rows.tolist(), shared_caption=SharedCaption(position, images))


def _combine_numbers(first: Int64, second: Int64) -> Int64:
    """Number rows [n] so that two have the same number only if they are equal in both numberings."""
    numbers: Int64 = first * (int(second.max(initial=0)) + 1) + second
    return numbers


def _differ(numbers: Int64, rows: Int64) -> bool:
    """Tell whether the rows have at least two different numbers."""
    return bool((numbers[rows] != numbers[rows[0]]).any())
