"""Sums over the rows of a version, kept as a fit is, and followed from one version to another block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.blocks import Block, Float64
from asif.anchorset.format.deletion_list import Mask
from asif.anchorset.format.fit_cache import check_fit, fit_name
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.errors import IntegrityError, UnknownFormat

Blocks = list[tuple[NDArray[Any], NDArray[Any]]]
"""Image and text rows of each block, [n, di] and [n, dt]."""

SUMS = {"name": "sums"}
"""How sums are called among the fits."""

FEWEST = 2048
"""Anchors below which sums are not kept.

Time to sum grows with the anchors times the square of the dimensions, time to read or write sums with the square alone,
so that one number does for all dimensions. With this many, the first time that sums are read has paid for writing them:
on one core, 1,280 and 384 dimensions, 124 ms to sum, 60 ms to write, 27 ms to read. With 1,024 it has not.
"""


@dataclass(frozen=True)
class KeptSums:
    """Hold named sums over some version, and the rows by which the asked version differs from that one."""

    arrays: Mapping[str, Float64]
    added: Blocks
    removed: Blocks

    @property
    def own(self) -> bool:
        """Tell whether they are those of the asked version."""
        return not self.added and not self.removed


def find_sums(folder: SetFolder, manifest: Manifest) -> KeptSums | None:
    """Find the sums over a version, else those from which fewest rows lead to it; None where it has no more itself.

    Raises IntegrityError for sums, or a block they were taken over, that were changed.
    """
    nearest, fewest = None, manifest.count
    for other in kept_beside(folder, manifest):
        apart = sum(int((step.added | step.removed).sum()) for step in steps(other, manifest))
        if apart < fewest:
            nearest, fewest = other, apart
    if nearest is None:
        return None
    arrays = check_fit(folder.fit(fit_name(nearest, SUMS)), nearest, SUMS)
    added: Blocks = []
    removed: Blocks = []
    for step in steps(nearest, manifest):
        block = folder.block(manifest, step.entry)
        added += [pair(block, step.added)] if step.added.any() else []
        removed += [pair(block, step.removed)] if step.removed.any() else []
    return KeptSums(arrays, added, removed)


@dataclass(frozen=True)
class Step:
    """Hold which rows of a block one version has and another has not, either way: [rows] each."""

    entry: BlockEntry
    added: Mask
    removed: Mask


def steps(known: Manifest, wanted: Manifest) -> Iterator[Step]:
    """Lead from one version to another, block by block, past those that have the same rows in both."""
    if known.blocks == wanted.blocks:
        return
    ours, theirs = dict(wanted.live_rows()), dict(known.live_rows())
    for entry in {**ours, **theirs}:
        none = np.zeros(entry.rows, bool)
        now, was = ours.get(entry, none), theirs.get(entry, none)
        if not np.array_equal(now, was):
            yield Step(entry, now & ~was, was & ~now)


def kept_beside(folder: SetFolder, manifest: Manifest) -> Iterator[Manifest]:
    """Yield the versions over which sums were kept: this one alone, if it is among them; else all that can be read."""
    if folder.fit(fit_name(manifest, SUMS)).exists():
        yield manifest
        return
    for version in folder.versions():
        try:
            other = folder.manifest(version)
        except (IntegrityError, UnknownFormat):  # `verify` tells; nothing is learnt from it here
            continue
        if folder.fit(fit_name(other, SUMS)).exists():
            yield other


def pair(block: Block, rows: Mask) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return some rows of both sides; views where they are all."""
    return (block.image, block.text) if rows.all() else (block.image[rows], block.text[rows])
