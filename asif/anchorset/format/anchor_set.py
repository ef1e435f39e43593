"""One version of an anchor set, opened: its embeddings are mapped into memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import compress
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.atomic_io import RESTORE_ADVICE, check_file_content, check_file_size, make_folder
from asif.anchorset.format.blocks import AnchorBlock, UInt8, sum_rows
from asif.anchorset.format.content import (
    find_record_groups,
    load_pair_columns,
    load_pair_ids,
    load_pair_table,
    load_record_group,
    load_rejects,
    load_thumbnails,
    select_live_rows,
)
from asif.anchorset.format.deletion_list import LiveRows, find_live_slices
from asif.anchorset.format.fit_cache import FitKey, list_fitted_aligners, read_matching_fit, write_fit
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.kinds import GALLERY, SetKind
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.anchorset.format.moment_cache import MIN_ANCHORS_FOR_SUMS, SUMS_FIT, CachedSums, find_cached_sums
from asif.anchorset.format.protocol import AnchorsIdentity, describe_as_html
from asif.errors import AsifError, IntegrityError
from asif.pairs.pair import PairRecord, Reject
from asif.pairs.records import take_records
from asif.vectors import Fingerprint, FitArrays, Float64, Int64, Side

_CACHED_TABLES, _CACHED_RECORD_GROUPS = 32, 512
_ROWS_READ = 4096  # records that an iteration makes at a time
_FEW_ROWS = 64
"""Up to so many items of a gallery, such as the results of a search, are read without all others of their blocks."""
_T = TypeVar("_T")


class AnchorSet:
    """Read one version of an anchor set, or of a gallery; it never changes, even when another version is published.

    Rows are numbered over all blocks, in the order of ids; deleted rows are hidden and do not count. Opening reads the
    manifest and checks that every file exists with its size; `verify` checks every byte. Raises IntegrityError,
    UnknownFormat. Tables are read when they are needed: Conflict if the version was deleted by then.
    """

    def __init__(self, folder: SetFolder, version: str) -> None:
        folder.refuse_symlinks()
        self.folder: SetFolder = folder
        self.version: str = version
        with folder.reading(version):
            self.manifest: Manifest = folder.manifest(version)
            _check_sizes(folder, self.manifest)
            mapped = {entry.sha256: folder.block(self.manifest, entry) for entry in self.manifest.files}
        entries = self.manifest.blocks
        self._blocks: list[AnchorBlock] | None = [mapped[entry.sha256] for entry in entries]
        slices = [find_live_slices(entry.deleted, entry.rows) for entry in entries]
        self._live: dict[Side, list[NDArray[Any]]] = {  # the same arrays each time: engines recognise them by identity
            side: [block.side(side)[some] for block, each in zip(self._blocks, slices, strict=True) for some in each]
            for side in self.manifest.sides
        }
        self._starts = np.cumsum([0, *(entry.count for entry in entries)])
        self._table = lru_cache(_CACHED_TABLES)(partial(load_pair_table, folder))  # by whole blocks: pieces share them
        self._record_groups = lru_cache(_CACHED_RECORD_GROUPS)(partial(find_record_groups, folder))
        self._record_group = lru_cache(_CACHED_RECORD_GROUPS)(partial(load_record_group, folder))
        self._ids = lru_cache(_CACHED_TABLES)(partial(load_pair_ids, folder))

    @property
    def kind(self) -> SetKind:
        """Return the kind of the set: anchors, or a gallery."""
        return self.manifest.kind

    @property
    def name(self) -> str:
        """Return the set's name."""
        return self.manifest.name

    @property
    def ref(self) -> str:
        """Return the reference to this version within its store, such as 'coco@3'."""
        return self.manifest.ref

    @property
    def exactly(self) -> str:
        """Return the reference that always means this version, such as 'coco@000003-1f2e3d4c5b6a'."""
        return self.folder.exactly(self.version)

    @property
    def named(self) -> AnchorsIdentity:
        """Return what a prediction names of the set: name, version and digest."""
        return AnchorsIdentity(self.name, self.version, self.digest)

    @property
    def digest(self) -> str:
        """Return the set digest, which depends on the pairs, the encoders and how they are stored."""
        return self.manifest.digest

    @property
    def count(self) -> int:
        """Count the anchors."""
        return self.manifest.count

    @property
    def dims(self) -> dict[Side, int]:
        """Return the dimensions by side."""
        return dict(self.manifest.dims)

    def blocks(self, side: Side) -> list[NDArray[Any]]:
        """Return the embeddings of one side as stored: blocks [n, d], never empty, mapped and read-only.

        A block with deleted rows, or with rows of other blocks between its own, gives several views: nothing is copied.
        """
        self._open_blocks()
        return list(self._live[side])

    def check_blocks(self) -> None:
        """Raise IntegrityError for a block of embeddings of which a byte was changed; reads all of them."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.check_block, {entry.whole for entry in self.manifest.blocks}))

    def check_block(self, entry: BlockEntry) -> None:
        """Raise IntegrityError if a byte of the embeddings of one block was changed."""
        with self.folder.reading(self.version):
            check_file_content(self.folder.content_path("blocks", entry.sha256), entry.sha256, entry.size)

    def mean(self, side: Side) -> Float64:
        """Return the mean of the stored embeddings of one side [d], float64."""
        blocks = {entry.sha256: block for block, entry in zip(self._open_blocks(), self.manifest.blocks, strict=True)}
        sums = [_live_sum(blocks[entry.sha256], side, live) for entry, live in self.manifest.distinct_live_rows()]
        total: Float64 = np.add.reduce(sums, axis=0)
        return total / self.count

    def records(self, indices: Sequence[int] | Int64) -> list[PairRecord]:
        """Return the records of the pairs at `indices`; reads the tables of their blocks only.

        Raises IndexError for a row out of range, IntegrityError for a changed table, Conflict for a deleted version.
        """
        rows = np.asarray(indices, np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= self.count):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a set of {self.count}")
        places = self._locate(rows)
        with self.folder.reading(self.version):
            few = self.kind is GALLERY and len(places) <= _FEW_ROWS
            if not few and len(self.manifest.blocks) <= _CACHED_TABLES:  # all tables stay in memory
                return [self._table(entry.whole)[row] for entry, row in places]
            return self._read_at(places)

    def _take_records(self, entry: BlockEntry, rows: Int64) -> Iterator[tuple[int, PairRecord]]:
        """Yield rows of a block with their pairs; reads the row groups that they are in."""
        starts = self._record_groups(entry)
        owner = np.searchsorted(starts, rows, side="right") - 1
        for group in np.unique(owner).tolist():
            here = rows[owner == group]
            yield from zip(here.tolist(), self._take_from_group(entry, group, here - starts[group]), strict=True)

    def _take_from_group(self, entry: BlockEntry, group: int, rows: Int64) -> list[PairRecord]:
        try:
            return take_records(self._record_group(entry, group), rows.tolist())
        except (ValueError, TypeError, KeyError, IndexError) as error:
            path = self.folder.content_path("pairs", entry.pairs.sha256)
            raise IntegrityError(
                f"{path} is no table of pairs ({error})", "the parquet as written", RESTORE_ADVICE
            ) from error

    def _read_at(self, places: Sequence[tuple[BlockEntry, int]]) -> list[PairRecord]:
        """Read the pairs at places, and no others of their blocks."""
        wanted: dict[BlockEntry, list[int]] = {}
        for entry, row in places:
            wanted.setdefault(entry.whole, []).append(row)
        found = {entry: dict(self._take_records(entry, np.array(rows, np.int64))) for entry, rows in wanted.items()}
        return [found[entry.whole][row] for entry, row in places]

    def thumbnail(self, row: int) -> bytes | None:
        """Return the thumbnail at a row of a gallery, WebP; None if it was built without. Raises as `records` does."""
        ((entry, place),) = self._locate(np.array([row], np.int64))
        with self.folder.reading(self.version):
            return load_thumbnails(self.folder, entry, [place])[0]

    def find_block(self, row: int) -> BlockEntry:
        """Return the entry of the block that a row is in."""
        return self._locate(np.array([row], np.int64))[0][0]

    def _locate(self, rows: Int64) -> list[tuple[BlockEntry, int]]:
        """Return the block of each row, and its place in there, deleted rows counted."""
        self._open_blocks()
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        entries = {block: self.manifest.blocks[block] for block in np.unique(owner).tolist()}
        live = {block: np.flatnonzero(entry.live) for block, entry in entries.items() if entry.deleted}
        places = zip(owner.tolist(), (rows - self._starts[owner]).tolist(), strict=True)
        return [(entries[block], int(live[block][row]) if block in live else row) for block, row in places]

    def row_hashes(self, block: int) -> UInt8:
        """Return the row hashes [n, 32] of the live rows of a block, given by its position in the manifest."""
        return select_live_rows(self._open_blocks()[block].row_hash, self.manifest.blocks[block])

    def pairs(self, block: int) -> list[PairRecord]:
        """Return the records of the live pairs of a block; raises IntegrityError."""
        return self._read_live(block, self._table)

    def ids(self, block: int) -> list[str]:
        """Return the ids of the live pairs of a block, and read nothing else; raises IntegrityError."""
        return self._read_live(block, self._ids)

    def _read_live(self, block: int, table: Callable[[BlockEntry], list[_T]]) -> list[_T]:
        self._open_blocks()
        entry = self.manifest.blocks[block]
        with self.folder.reading(self.version):
            rows = table(entry.whole)
        return list(compress(rows, entry.live.tolist())) if entry.deleted else rows

    def read_captions(self) -> list[tuple[str, ...]]:
        """Read the captions of all pairs, in the order of ids, and nothing else of them; raises IntegrityError."""
        blocks = range(len(self.manifest.blocks))
        return [captions for block in blocks for (captions,) in self.columns(block, ["captions"])]

    def columns(self, block: int, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return some columns of the live pairs of a block, a tuple for each pair; raises IntegrityError."""
        return self._read_live(block, lambda entry: load_pair_columns(self.folder, entry, names))

    def rejects(self) -> list[Reject]:
        """Return the rows that did not become anchors when the set was built, in order; raises IntegrityError."""
        entry = self.manifest.rejects
        with self.folder.reading(self.version):
            return [] if entry is None else load_rejects(self.folder, entry)

    def fingerprint(self, side: Side) -> Fingerprint:
        """Return the fingerprint of the encoder of one side."""
        return self.manifest.encoders[side].fingerprint

    def encoder_spec(self, side: Side) -> str:
        """Return the encoder of one side, as the user names it."""
        return self.manifest.encoders[side].spec

    @property
    def profiles(self) -> dict[str, Any]:
        """Return the profiles, {task: profile}: aligner and parameters, tuned on this version or on an earlier one."""
        return dict(self.manifest.profiles)

    def cached_fit(self, aligner: Mapping[str, Any]) -> dict[str, NDArray[Any]] | None:
        """Return the cached fit of an aligner, given by name and parameters, to these anchors; None if there is none.

        Raises IntegrityError for a file that was changed, or fitted to other anchors.
        """
        return self.cached_fit_of(FitKey.of(self.manifest, aligner))

    def cached_fit_of(self, key: FitKey) -> dict[str, NDArray[Any]] | None:
        """Return the cached fit with a key, such as one of a block, as `cached_fit` does."""
        path = self.folder.fit_path(key.file_name)
        try:
            return read_matching_fit(path, key) if path.exists() else None
        except IntegrityError:
            if os.path.lexists(path):
                raise
            return None  # a purge or gc has deleted it meanwhile

    def has_fit_of(self, key: FitKey) -> bool:
        """Tell whether a fit is cached, intact or not."""
        return self.folder.fit_path(key.file_name).exists()

    def cached_aligners(self, name: str) -> list[tuple[dict[str, Any], str]]:
        """List the cached fits of aligners of one name, newest first: their parameters, and "" or a digest.

        The digest identifies the anchors of the fit; it is empty if they are the anchors of this version.
        """
        return list_fitted_aligners(self.folder.fits, self.manifest, name)

    def cache_fit(self, aligner: Mapping[str, Any], arrays: FitArrays) -> bool:
        """Write the fit of an aligner to the cache; return False if the store cannot be written, or is full."""
        try:
            self.write_fit_of(FitKey.of(self.manifest, aligner), arrays)
        except (OSError, AsifError):  # all that writing a file raises
            return False
        return True

    def write_fit_of(self, key: FitKey, arrays: FitArrays) -> None:
        """Write a fit of this version, or of a block of it, to the cache.

        Raises OutOfSpace, AsifError for a store that cannot be written, Conflict if the version was deleted meanwhile.
        """
        path = self.folder.fit_path(key.file_name)
        make_folder(path.parent)
        write_fit(path, key, arrays)
        if not self.folder.version_file(self.version).exists():  # perhaps by a purge
            path.unlink(missing_ok=True)
            raise self.folder.make_deleted_error(self.version)

    def cached_sums(self) -> CachedSums | None:
        """Return the cached sums over these anchors, or over the version that shares most of them; None without any.

        Raises IntegrityError for a file that was changed.
        """
        return find_cached_sums(self.folder, self.manifest)

    def cache_sums(self, arrays: Mapping[str, Float64]) -> bool:
        """Write named sums over these anchors to the cache; return False for few anchors, or if that fails."""
        return self.count >= MIN_ANCHORS_FOR_SUMS and self.cache_fit(SUMS_FIT, arrays)

    def close(self) -> None:
        """Release the files; arrays that were returned stay valid until they are dropped."""
        self._blocks = None
        self._live.clear()
        self._table.cache_clear()
        self._ids.cache_clear()
        self._record_groups.cache_clear()
        self._record_group.cache_clear()

    def _open_blocks(self) -> list[AnchorBlock]:
        if self._blocks is None:
            raise ValueError(f"the {self.manifest.kind.noun} {self.ref} is closed")
        return self._blocks

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[PairRecord]:
        """Iterate over the records of all pairs, in the order of ids; some blocks are in memory at a time."""
        for start in range(0, self.count, _ROWS_READ):
            yield from self.records(range(start, min(start + _ROWS_READ, self.count)))

    def __repr__(self) -> str:
        return f"<AnchorSet {self.name}@{self.version}: {self.count:,} anchors>"

    def _repr_html_(self) -> str:
        """Return a small table for notebooks."""
        return describe_as_html(self)

    def __enter__(self) -> AnchorSet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_sizes(folder: SetFolder, manifest: Manifest) -> None:
    """Raise IntegrityError unless the files of a version have their sizes; a block is checked when it is mapped."""
    for kind, entry in manifest.content_files:
        if kind != "blocks":
            check_file_size(folder.content_path(kind, entry.sha256), entry.size)


def _live_sum(block: AnchorBlock, side: Side, live: LiveRows) -> Float64:
    """Subtract the deleted rows from the stored sum: exact for float16, whose sums fit into float64."""
    return block.sum(side) if live.all() else block.sum(side) - sum_rows(block.side(side)[~live])
