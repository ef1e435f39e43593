"""An anchor set, open: one version, its embeddings mapped into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import compress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.atomic_io import RESTORE, check_content, check_size, make_folder
from asif.anchorset.format.blocks import Block, Float64, UInt8, sum_rows
from asif.anchorset.format.checksummed_json import Fields, parse_object
from asif.anchorset.format.deletion_list import Mask, live_slices
from asif.anchorset.format.fit_cache import Arrays, check_fit, fit_name, kept_aligners, write_fit
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import BlockEntry, FileEntry, Manifest
from asif.anchorset.format.moment_cache import FEWEST, SUMS, KeptSums, find_sums
from asif.anchorset.format.protocol import Named
from asif.errors import AsifError, IntegrityError
from asif.pairs.pair import PairRecord, Reject
from asif.pairs.records import read_ids, read_records
from asif.vectors import SIDES, Fingerprint, Int64, Side

_CACHED_TABLES = 32
T = TypeVar("T")


class AnchorSet:
    """Read one version of an anchor set; it does not change while open, whatever is published meanwhile.

    Rows are numbered over all blocks, in the order of ids; deleted ones are hidden and do not count. Opening reads the
    manifest and checks that every file is there with its size; `verify` checks every byte. Raises IntegrityError,
    UnknownFormat.
    """

    def __init__(self, folder: SetFolder, version: str) -> None:
        folder.check_links()
        self.folder: SetFolder = folder
        self.manifest: Manifest = folder.manifest(version)
        self.version: str = version
        entries = self.manifest.blocks
        for entry in self.manifest.files:
            check_size(folder.content("pairs", entry.pairs.sha256), entry.pairs.size)
        if self.manifest.rejects is not None:
            check_size(folder.content("rejects", self.manifest.rejects.sha256), self.manifest.rejects.size)
        mapped = {entry.sha256: folder.block(self.manifest, entry) for entry in self.manifest.files}
        self._blocks: list[Block] | None = [mapped[entry.sha256] for entry in entries]
        there = [live_slices(entry.deleted, entry.rows) for entry in entries]
        self._live: dict[Side, list[NDArray[Any]]] = {  # kept: engines know arrays again by identity
            side: [block.side(side)[some] for block, each in zip(self._blocks, there, strict=True) for some in each]
            for side in SIDES
        }
        self._starts = np.cumsum([0, *(entry.count for entry in entries)])
        self._table = lru_cache(_CACHED_TABLES)(partial(load_pairs, folder))  # by whole blocks, which pieces share
        self._ids = lru_cache(_CACHED_TABLES)(partial(load_ids, folder))

    @property
    def name(self) -> str:
        """Return the set's name."""
        return self.manifest.name

    @property
    def ref(self) -> str:
        """Return the reference that means exactly this version, such as 'coco@3'."""
        return self.manifest.ref

    @property
    def exactly(self) -> str:
        """Return the reference that means this version for ever, from anywhere, such as 'coco@000003-1f2e3d4c5b6a'."""
        return self.folder.exactly(self.version)

    @property
    def named(self) -> Named:
        """Return what an answer says of the set."""
        return Named(self.name, self.version, self.digest)

    @property
    def digest(self) -> str:
        """Return the set digest: which pairs, which encoders."""
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
        """Return the embeddings of one side, as stored, mapped and read-only: blocks [n, d], never empty.

        A block with deleted rows, or with rows of others between its own, comes as several views: nothing is copied.
        """
        self._open_blocks()
        return list(self._live[side])

    def mean(self, side: Side) -> Float64:
        """Return the mean of the stored embeddings of one side [d], float64."""
        blocks = {entry.sha256: block for block, entry in zip(self._open_blocks(), self.manifest.blocks, strict=True)}
        sums = [_live_sum(blocks[entry.sha256], side, live) for entry, live in self.manifest.live_rows()]
        total: Float64 = np.add.reduce(sums, axis=0)
        return total / self.count

    def records(self, indices: Sequence[int] | Int64) -> list[PairRecord]:
        """Return what is remembered of the pairs at `indices`; reads the tables of their blocks only.

        Raises IndexError for a row there is none of, IntegrityError for a changed table.
        """
        rows = np.asarray(indices, np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= self.count):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of an anchor set of {self.count}")
        self._open_blocks()
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        live = {block: np.flatnonzero(self.manifest.blocks[block].live) for block in np.unique(owner).tolist()}
        places = zip(owner.tolist(), (rows - self._starts[owner]).tolist(), strict=True)
        return [self._table(self.manifest.blocks[block].whole)[live[block][row]] for block, row in places]

    def row_hashes(self, block: int) -> UInt8:
        """Return the row hashes [n, 32] of a block, by its place in the manifest; of the rows that are there."""
        return live_rows(self._open_blocks()[block].row_hash, self.manifest.blocks[block])

    def pairs(self, block: int) -> list[PairRecord]:
        """Return what is remembered of the pairs of a block that are there; raises IntegrityError."""
        return self._there(block, self._table)

    def ids(self, block: int) -> list[str]:
        """Return the ids of the pairs of a block that are there, and read nothing else; raises IntegrityError."""
        return self._there(block, self._ids)

    def _there(self, block: int, table: Callable[[BlockEntry], list[T]]) -> list[T]:
        self._open_blocks()
        entry = self.manifest.blocks[block]
        return list(compress(table(entry.whole), entry.live.tolist())) if entry.deleted else table(entry)

    def rejects(self) -> list[Reject]:
        """Return the rows that did not become anchors when the set was built, in order; raises IntegrityError."""
        entry = self.manifest.rejects
        return [] if entry is None else load_rejects(self.folder, entry)

    def fingerprint(self, side: Side) -> Fingerprint:
        """Return the fingerprint of the encoder that made one side."""
        return self.manifest.encoders[side].fingerprint

    def encoder_spec(self, side: Side) -> str:
        """Return the encoder that made one side, as the user names it."""
        return self.manifest.encoders[side].spec

    @property
    def profiles(self) -> dict[str, Any]:
        """Return what suits the set, {task: profile}, as it was tuned on it or on an earlier version."""
        return dict(self.manifest.profiles)

    def kept_fit(self, aligner: Mapping[str, Any]) -> dict[str, NDArray[Any]] | None:
        """Return what this aligner, by name and parameters, came to on these anchors; None where none was kept.

        Raises IntegrityError for a file that was changed, or fitted to other anchors.
        """
        path = self.folder.fit(fit_name(self.manifest, aligner))
        return check_fit(path, self.manifest, aligner) if path.exists() else None

    def kept_aligners(self, name: str) -> list[tuple[dict[str, Any], str]]:
        """List the fits that were kept of aligners of a name, the latest first: their parameters, and "" or a digest.

        The digest is that of the anchors it was fitted to, where these are others.
        """
        return kept_aligners(self.folder.fit("x").parent, self.manifest, name)

    def keep_fit(self, aligner: Mapping[str, Any], arrays: Arrays) -> bool:
        """Keep what an aligner came to beside the set; False where the store cannot be written, or is full."""
        path = self.folder.fit(fit_name(self.manifest, aligner))
        try:
            make_folder(path.parent)
            write_fit(path, self.manifest, aligner, arrays)
        except (OSError, AsifError):  # of a disk or its owner: all that writing a file raises
            return False
        return True

    def kept_sums(self) -> KeptSums | None:
        """Return sums that were kept for these anchors, or those of another version that shares most of them.

        None where there are none. Raises IntegrityError for a file that was changed.
        """
        return find_sums(self.folder, self.manifest)

    def keep_sums(self, arrays: Mapping[str, Float64]) -> bool:
        """Keep named sums over these anchors; False for few of them, or where the store cannot be written."""
        return self.count >= FEWEST and self.keep_fit(SUMS, arrays)

    def close(self) -> None:
        """Let go of the files; arrays that were handed out stay valid until they are dropped."""
        self._blocks = None
        self._live.clear()
        self._table.cache_clear()
        self._ids.cache_clear()

    def _open_blocks(self) -> list[Block]:
        if self._blocks is None:
            raise ValueError(f"the anchor set {self.ref} is closed")
        return self._blocks

    def __repr__(self) -> str:
        return f"<AnchorSet {self.name}@{self.version}: {self.count:,} anchors>"

    def __enter__(self) -> AnchorSet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def live_rows(values: NDArray[Any], entry: BlockEntry) -> NDArray[Any]:
    """Return the rows of a block that are there; a view where none is deleted."""
    return values[entry.live] if entry.deleted else values


def live_hashes(folder: SetFolder, manifest: Manifest, entries: Sequence[BlockEntry]) -> Iterator[UInt8]:
    """Yield the row hashes [n, 32] of the rows that are there in each of some entries, in their order."""
    for entry in entries:
        yield live_rows(folder.block(manifest, entry).row_hash, entry)


def _live_sum(block: Block, side: Side, live: Mask) -> Float64:
    """Take what is not there off the stored sum: exact for float16, whose sums fit into float64."""
    return block.sum(side) if live.all() else block.sum(side) - sum_rows(block.side(side)[~live])


def load_rejects(folder: SetFolder, entry: FileEntry) -> list[Reject]:
    """Read rejects after checking every byte; raises IntegrityError."""
    path = folder.content("rejects", entry.sha256)
    check_content(path, entry.sha256, entry.size)
    lines = path.read_bytes().splitlines(keepends=True)
    fields = [Fields(parse_object(line, str(path)), str(path)) for line in lines]
    return [
        Reject(one.whole("row"), None if one.missing("id") else one.text("id"), one.text("reason")) for one in fields
    ]


def load_pairs(folder: SetFolder, entry: BlockEntry) -> list[PairRecord]:
    """Read the pairs of a block, deleted ones too, after checking every byte of the table; raises IntegrityError."""
    return _load(folder, entry, read_records)


def load_ids(folder: SetFolder, entry: BlockEntry) -> list[str]:
    """Read the ids alone of a block's pairs, as `load_pairs` does."""
    return _load(folder, entry, read_ids)


def _load(folder: SetFolder, entry: BlockEntry, read: Callable[[Path], list[T]]) -> list[T]:
    path = folder.content("pairs", entry.pairs.sha256)
    check_content(path, entry.pairs.sha256, entry.pairs.size)
    try:
        found = read(path)
    except (ValueError, TypeError, KeyError, OSError, NotImplementedError) as error:
        raise IntegrityError(f"{path} is no table of pairs ({error})", "the parquet as written", RESTORE) from error
    if len(found) != entry.rows:
        raise IntegrityError(f"{path} holds {len(found)} pairs", f"{entry.rows}, as its block", RESTORE)
    return found
