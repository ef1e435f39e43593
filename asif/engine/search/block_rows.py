"""The items of a gallery as rows of an aligner, a block at a time: kept as files of the gallery, made where they lack.

The rows of a block depend on the block, the anchors, the aligner and its hubness correction, so versions that share a
block share its rows. A killed search is continued by the next one with the blocks that are left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.aligners.hubness import append_bias
from asif.aligners.neighbours import Neighbours
from asif.aligners.protocol import uses_texts
from asif.anchorset import AnchorSet, Gallery
from asif.anchorset.edit.row_ranges import group_into_blocks
from asif.anchorset.format.atomic_io import check_free_space
from asif.anchorset.format.blocks import AnchorBlock
from asif.anchorset.format.deletion_list import find_live_slices
from asif.anchorset.format.fit_cache import FitKey, hash_anchors
from asif.anchorset.format.manifest import BlockEntry
from asif.compare import Candidates
from asif.engine.search.block_copies import BlockCopies
from asif.engine.search.block_neighbours import BlockNeighbours
from asif.engine.search.gallery_rows import take_rows
from asif.engine.search.row_cache import (
    ITEMS,
    NEIGHBOURS,
    delete_older_rows,
    describe_rows,
    keep_arrays,
    pack_rows,
    unpack_rows,
)
from asif.engine.snapshots import FittedTask
from asif.errors import AsifError, IntegrityError
from asif.vectors import (
    OTHER_SIDE,
    Embeddings,
    FitArrays,
    FusedRows,
    Int64,
    Rows,
    Side,
    SparseRows,
    Texts,
    join_rows,
)

Progress = Callable[[int, int], None]
"""Takes the number of items that are represented, and of all that are to be."""

_MANY_ITEMS = 5_000
"""From here on people wait long enough to be told why."""

_log = logging.getLogger(__name__)


def ignore_progress(done: int, total: int) -> None:
    """Do nothing."""


def represent_items(gallery: Gallery, task: FittedTask, progress: Progress = ignore_progress) -> list[Rows]:
    """Return the rows of all items, in order; those of blocks that were represented before are read, if they are kept.

    Dense rows are views of mapped files. `progress` is called before, and after each block, if there are many items to
    represent. Raises IntegrityError for a block that was changed on disk, Conflict if the version is deleted meanwhile.
    Rows that depend on the words of items are made anew by each process.
    """
    if uses_texts(task.fitted) and gallery.side == "text":
        return _represent_texts(gallery, task)
    blocks = _RepresentedBlocks(gallery.opened, gallery.side, task, gallery.opened.manifest.blocks)
    blocks.read()
    blocks.represent_missing(progress)
    return blocks.join()


def represent_items_between(gallery: Gallery, task: FittedTask, start: int, stop: int) -> list[Rows]:
    """Return the rows of the items from `start` up to `stop`, as `represent_items` does; no others are made."""
    if uses_texts(task.fitted) and gallery.side == "text":
        return [row[start:stop] for row in _represent_texts(gallery, task)]
    entries = gallery.opened.manifest.blocks
    ends = np.cumsum([entry.count for entry in entries])
    own = [at for at, end in enumerate(ends.tolist()) if start < end and end - entries[at].count < stop]
    blocks = _RepresentedBlocks(gallery.opened, gallery.side, task, entries[own[0] : own[-1] + 1])
    blocks.read()
    blocks.represent_missing(ignore_progress)
    first = int(ends[own[0]]) - entries[own[0]].count
    return _cut_rows(blocks.join(), start - first, stop - first)


def _cut_rows(parts: Sequence[Rows], start: int, stop: int) -> list[Rows]:
    """Return the rows from `start` up to `stop` of parts."""
    found, first = [], 0
    for part in parts:
        begin, end = max(start - first, 0), min(stop - first, len(part))
        if begin < end:
            found.append(part[begin:end])
        first += len(part)
    return found


def _represent_texts(gallery: Gallery, task: FittedTask) -> list[Rows]:
    """Represent the items of a gallery of texts with their words."""
    gallery.check_vectors()
    rows, start = [], 0
    for block in gallery.vectors:
        texts = read_texts(gallery, np.arange(start, start + len(block)), task)
        rows.append(represent_vectors(block, gallery.side, task, texts))
        start += len(block)
    return [join_rows(rows)]


def represent_vectors(vectors: NDArray[Any], side: Side, task: FittedTask, texts: Texts | None = None) -> Rows:
    """Represent unit vectors [n, d] as rows of an aligner, with the negative hubness bias as the last entry."""
    rows = task.fitted.represent(side, Embeddings(np.asarray(vectors, np.float32), texts), task.kernel)
    return append_biases(rows, side, task)


def read_texts(gallery: Gallery, rows: Int64, task: FittedTask) -> Texts | None:
    """Read the texts of items at `rows` for an aligner that compares words; None for others, and for images."""
    if gallery.side == "image" or not uses_texts(task.fitted):
        return None
    return tuple(item.captions for item in gallery.records(rows))


def append_biases(rows: Rows, side: Side, task: FittedTask) -> Rows:
    """Give rows of candidates the negative bias of the hubness correction as their last entry, if there is one."""
    corrected = task.correct_hubness(Candidates(rows), OTHER_SIDE[side])
    return rows if corrected.biases is None else append_bias(rows, -corrected.biases)


@dataclass
class _RepresentedBlocks:
    """Hold the rows of the blocks of a gallery, deleted rows included, by the sha256 of the block."""

    opened: AnchorSet
    side: Side
    task: FittedTask
    entries: Sequence[BlockEntry]
    """The blocks, and pieces of blocks, whose rows are wanted, in order."""
    found: dict[str, FitArrays] = field(default_factory=dict)
    unkept: str | None = None
    """Why rows cannot be kept, once that is known."""

    @property
    def files(self) -> list[BlockEntry]:
        """Return the blocks, each once."""
        wanted = {entry.sha256 for entry in self.entries}
        return [entry for entry in self.opened.manifest.files if entry.sha256 in wanted]

    @cached_property
    def description(self) -> Mapping[str, Any] | None:
        """What rows depend on besides the block; None if none are kept."""
        return describe_rows(ITEMS, self.task, self.side)

    def make_key(self, sha256: str) -> FitKey:
        assert self.description is not None
        assert isinstance(self.task.anchors, AnchorSet)
        return FitKey(sha256, hash_anchors(self.task.anchors.manifest), self.description)

    def read(self) -> None:
        """Read the rows that are kept, and check every byte of them; a damaged file is logged."""
        if self.description is None:
            return
        hashes = [entry.sha256 for entry in self.files]
        with ThreadPoolExecutor() as pool:
            kept = zip(hashes, pool.map(self.read_block, hashes), strict=True)
            self.found = {sha256: arrays for sha256, arrays in kept if arrays is not None}

    def read_block(self, sha256: str) -> FitArrays | None:
        try:
            return self.opened.cached_fit_of(self.make_key(sha256))
        except IntegrityError as error:
            _log.warning("represented items are not used: %s", str(error).splitlines()[0])
            return None

    def represent_missing(self, progress: Progress) -> None:
        """Represent the blocks that are left, and keep each as soon as it is done."""
        missing = [entry for entry in self.files if entry.sha256 not in self.found]
        if not missing:
            return
        done, total = 0, sum(entry.rows for entry in missing)
        is_long = total >= _MANY_ITEMS
        if is_long:
            _log.info("representing %s items of %s over %s, once", f"{total:,}", self.opened.ref, self.task.anchors.ref)
            progress(0, total)
        sources = _Sources.of(self, missing)
        for entry in missing:
            self.opened.check_block(entry)
            block = self.opened.folder.block(self.opened.manifest, entry)
            rows = self._represent_block(entry, block, sources, total - done)
            self.found[entry.sha256] = self._keep(self.make_key, entry, pack_rows(rows), total - done)
            done += entry.rows
            if is_long:
                progress(done, total)
        if self.description is not None and self.unkept is None:
            for name in (ITEMS, NEIGHBOURS):
                delete_older_rows(self.opened, name)

    def _represent_block(self, entry: BlockEntry, block: AnchorBlock, sources: _Sources, left: int) -> Rows:
        """Represent a block: copy the rows of equal vectors in other blocks, and make the rest."""
        embeddings = Embeddings(np.asarray(block.side(self.side), np.float32))
        found = [(copy, self.read_block(copy.sha256)) for copy in sources.copies.find(block)]
        kept = [(copy, arrays) for copy, arrays in found if arrays is not None]
        parts = [take_rows(unpack_rows(arrays), copy.theirs) for copy, arrays in kept]
        places = [copy.mine for copy, _ in kept]
        rest = np.setdiff1d(np.arange(len(block)), np.concatenate([*places, np.empty(0, np.int64)]))
        near, neighbours = None, sources.neighbours
        if neighbours is not None:
            near = neighbours.find(entry.sha256, embeddings, [copy for copy, _ in kept], rest)
        if neighbours is not None and near is not None:
            self._keep(neighbours.make_key, entry, near.as_arrays(), left)
        if not kept:
            return self._represent(embeddings, neighbours, near)
        if len(rest):
            some = Embeddings(embeddings.values[rest])
            parts.append(self._represent(some, neighbours, None if near is None else near.take(rest)))
        return take_rows(join_rows(parts), np.argsort(np.concatenate([*places, rest])))

    def _represent(self, embeddings: Embeddings, neighbours: BlockNeighbours | None, near: Neighbours | None) -> Rows:
        if neighbours is None or near is None:
            return represent_vectors(embeddings.values, self.side, self.task)
        return append_biases(neighbours.represent(embeddings, near), self.side, self.task)

    def _keep(self, make_key: Callable[[str], FitKey], entry: BlockEntry, arrays: FitArrays, left: int) -> FitArrays:
        """Write arrays of a block, and return them mapped; return them as they are if they cannot be kept."""
        if self.description is None or self.unkept is not None:
            return arrays
        key, anchors = make_key(entry.sha256), self.task.anchors
        assert isinstance(anchors, AnchorSet)
        size = sum(values.nbytes for values in arrays.values())
        try:
            self._check_room(size * left // entry.rows)
            keep_arrays(self.opened, key, anchors, arrays)
            return self.opened.cached_fit_of(key) or arrays
        except (AsifError, OSError) as error:
            self.unkept = str(error).splitlines()[0]
            _log.warning("represented items are not kept: %s", self.unkept)
            return arrays

    def _check_room(self, needed: int) -> None:
        """Raise OutOfSpace unless all rows that are left fit on the disk."""
        folder = self.opened.folder.fits
        check_free_space(
            folder, needed, "keeping represented items", "free some space, or they are made by each process"
        )

    def join(self) -> list[Rows]:
        """Return the live rows, in order: dense ones as views, sparse ones as one part, fused ones by blocks."""
        first = unpack_rows(next(iter(self.found.values())))
        if isinstance(first, SparseRows):
            widest = max(arrays["0.values"].shape[1] for arrays in self.found.values())
            return [_join_sparse(self._iter_live(), sum(entry.count for entry in self.entries), widest, first.width)]
        if isinstance(first, FusedRows):
            return [join_rows(group) for group in group_into_blocks(self._iter_live())]
        return list(self._iter_live())

    def _iter_live(self) -> Iterator[Rows]:
        for entry in self.entries:
            for some in find_live_slices(entry.deleted, entry.rows):
                yield unpack_rows(self.found[entry.sha256], some)


@dataclass(frozen=True)
class _Sources:
    """Hold from what the rows of blocks are made besides their vectors: rows of other blocks, and neighbours."""

    copies: BlockCopies
    neighbours: BlockNeighbours | None = None

    @classmethod
    def of(cls, blocks: _RepresentedBlocks, missing: Sequence[BlockEntry]) -> _Sources:
        """Look for what is kept; nothing is for rows that are not kept."""
        opened, task, names = blocks.opened, blocks.task, [entry.sha256 for entry in missing]
        if blocks.description is None:
            return cls(BlockCopies.of(opened, blocks.side, lambda sha256: False))
        copies = BlockCopies.of(opened, blocks.side, lambda sha256: opened.has_fit_of(blocks.make_key(sha256)))
        return cls(copies, BlockNeighbours.of(opened, task.anchors, task.fitted, blocks.side, task.kernel, names))


def _join_sparse(parts: Iterator[Rows], count: int, entries: int, width: int) -> SparseRows:
    """Join sparse rows into one index of all, a part at a time in memory besides the result."""
    indices, values, start = np.empty((count, entries), np.int64), np.empty((count, entries), np.float32), 0
    for part in parts:
        assert isinstance(part, SparseRows)
        even, some = part.widen(entries), slice(start, start + len(part))
        indices[some], values[some] = even.indices, even.values
        start += len(part)
    return SparseRows(indices, values, width)
