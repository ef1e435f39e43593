"""Sums over the rows of a version, kept as a fit is, and followed from one version to another block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from asif.anchorset.blocks import Block, Float64
from asif.anchorset.fits import check_fit, fit_name
from asif.anchorset.folder import SetFolder
from asif.anchorset.manifest import BlockEntry, Manifest
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


def live(manifest: Manifest) -> dict[str, BlockEntry]:
    """Name the rows of each block that count in a version: whatever leaves some of them out must join the name."""
    return {entry.sha256: entry for entry in manifest.blocks}


def find_sums(folder: SetFolder, manifest: Manifest) -> KeptSums | None:
    """Find the sums over a version, else those from which fewest rows lead to it; None where it has no more itself.

    Raises IntegrityError for sums, or a block they were taken over, that were changed.
    """
    nearest, fewest, wanted = None, manifest.count, live(manifest)
    for other in kept_beside(folder, manifest):
        known = live(other)
        apart = sum({**wanted, **known}[name].rows for name in wanted.keys() ^ known.keys())
        if apart < fewest:
            nearest, fewest = other, apart
    if nearest is None:
        return None
    known = live(nearest)
    arrays = check_fit(folder.fit(fit_name(nearest, SUMS)), nearest, SUMS)
    added = [pair(folder.block(manifest, entry)) for name, entry in wanted.items() if name not in known]
    removed = [pair(folder.block(nearest, entry)) for name, entry in known.items() if name not in wanted]
    return KeptSums(arrays, added, removed)


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


def pair(block: Block) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the rows of both sides."""
    return block.image, block.text
