"""Cached sums over the rows of a version, for moments; another version corrects them by the rows that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.blocks import AnchorBlock
from asif.anchorset.format.deletion_list import LiveRows
from asif.anchorset.format.fit_cache import FitKey, read_matching_fit
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.errors import IntegrityError, UnknownFormat
from asif.vectors import Float64

_RowBlocks = list[tuple[NDArray[Any], NDArray[Any]]]
"""Image rows [n, di] and text rows [n, dt] of each block."""

SUMS_FIT = {"name": "sums"}
"""The entry in the fit cache, in place of an aligner, under which sums are written."""

MIN_ANCHORS_FOR_SUMS = 2048
"""Sums over fewer anchors are not cached.

The time to sum grows with the anchors times the square of the dimensions, the time to read or write sums with the
square alone, so one number serves all dimensions. With 2,048 anchors, the first read of sums already repays writing
them: on one core, for 1,280 and 384 dimensions, 124 ms to sum, 60 ms to write, 27 ms to read. With 1,024 it does not.
"""


@dataclass(frozen=True)
class CachedSums:
    """Hold named sums over a version, and the rows by which the version of the query differs from it."""

    arrays: Mapping[str, Float64]
    added: _RowBlocks
    removed: _RowBlocks

    @property
    def is_exact(self) -> bool:
        """Tell whether these are the sums of exactly the version of the query."""
        return not self.added and not self.removed


def find_cached_sums(folder: SetFolder, manifest: Manifest) -> CachedSums | None:
    """Find the sums over a version, or over the version that differs from it by the fewest rows.

    Return None if none differs by fewer rows than the version has. Raises IntegrityError for changed sums or blocks.
    """
    nearest, fewest = None, manifest.count
    for other in _find_versions_with_sums(folder, manifest):
        differing = sum(int((change.added | change.removed).sum()) for change in iter_block_changes(other, manifest))
        if differing < fewest:
            nearest, fewest = other, differing
    if nearest is None:
        return None
    key = FitKey.of(nearest, SUMS_FIT)
    arrays = read_matching_fit(folder.fit_path(key.file_name), key)
    added: _RowBlocks = []
    removed: _RowBlocks = []
    for change in iter_block_changes(nearest, manifest):
        block = folder.block(manifest, change.entry)
        added += [_select_rows(block, change.added)] if change.added.any() else []
        removed += [_select_rows(block, change.removed)] if change.removed.any() else []
    return CachedSums(arrays, added, removed)


@dataclass(frozen=True)
class BlockChange:
    """Hold the rows of a block that only the new version has, and those that only the old one has: [rows] each."""

    entry: BlockEntry
    added: LiveRows
    removed: LiveRows


def iter_block_changes(old: Manifest, new: Manifest) -> Iterator[BlockChange]:
    """Yield the changes from one version to another, of each block whose live rows differ."""
    if old.blocks == new.blocks:
        return
    before, after = dict(old.distinct_live_rows()), dict(new.distinct_live_rows())
    for entry in {**after, **before}:
        none = np.zeros(entry.rows, bool)
        now, was = after.get(entry, none), before.get(entry, none)
        if not np.array_equal(now, was):
            yield BlockChange(entry, now & ~was, was & ~now)


def _find_versions_with_sums(folder: SetFolder, manifest: Manifest) -> Iterator[Manifest]:
    """Yield the versions with cached sums: this one alone, if it has them; otherwise all that can be read."""
    if folder.fit_path(FitKey.of(manifest, SUMS_FIT).file_name).exists():
        yield manifest
        return
    for version in folder.versions():
        try:
            other = folder.manifest(version)
        except (IntegrityError, UnknownFormat):  # `verify` reports it
            continue
        if folder.fit_path(FitKey.of(other, SUMS_FIT).file_name).exists():
            yield other


def _select_rows(block: AnchorBlock, rows: LiveRows) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return some rows of both sides of a block; views if they are all rows."""
    image, text = block.side("image"), block.side("text")
    return (image, text) if rows.all() else (image[rows], text[rows])
