"""The items of a gallery as rows of an aligner of tokens: a gallery holds vectors, so contents are encoded again, once.

Rows are kept by block, as those of other aligners are, without the bias of a hubness correction, which is kept apart.
Rows of items that no search has needed, because they were deleted before, are zero. A killed search is continued by
the next one: what was encoded is kept every minute.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from asif.aligners.hubness import append_bias
from asif.anchorset import AnchorSet, Gallery
from asif.anchorset.format.atomic_io import check_free_space
from asif.anchorset.format.deletion_list import find_live_slices
from asif.anchorset.format.fit_cache import FitKey, hash_anchors
from asif.anchorset.format.manifest import BlockEntry
from asif.compare import Candidates
from asif.engine.encoder_pool import EncoderPool
from asif.engine.predict import IMAGES_PER_BATCH
from asif.engine.search.block_copies import BlockCopies
from asif.engine.search.block_rows import Progress, ignore_progress
from asif.engine.search.item_contents import ItemContents
from asif.engine.search.row_cache import BIASES, ENCODED_ITEMS, delete_older_rows, describe_rows, keep_arrays, pack_rows
from asif.engine.snapshots import FittedTask
from asif.errors import AsifError, IntegrityError, UsageError
from asif.pairs.item import ItemRecord
from asif.vectors import OTHER_SIDE, DenseRows, Embeddings, FitArrays, Float32, Int64, Rows

_SECONDS_BETWEEN_SAVES = 60.0
_TEXTS_PER_BATCH = 512
_MANY_ITEMS = 100
"""From here on people wait long enough to be told why."""
_NOT_CORRECTED = {"method": "none"}
_ROWS, _BIASES = "0.values", "biases"

_log = logging.getLogger(__name__)


def represent_contents(gallery: Gallery, task: FittedTask, progress: Progress = ignore_progress) -> list[Rows]:
    """Return the rows of all items, in order, of an aligner of tokens; encodes those that are not kept.

    `progress` is called before, and after each batch, if there are many items to encode. Raises InputRefused, naming
    the first ones, if files of items are gone or have changed: what could be encoded is kept.
    """
    if task.encoders is None:
        raise make_worker_error(task)
    blocks = _ContentBlocks(gallery, task, task.encoders)
    blocks.read()
    blocks.encode_missing(progress)
    return list(blocks.join())


def make_worker_error(task: FittedTask) -> UsageError:
    """Return the error for an aligner of tokens in a search by workers, which have no encoders."""
    name = task.choice.aligner.name
    return UsageError(
        f"a search with the aligner {name} by the engine ray",
        "the engine local, which encodes the items of a gallery again",
        "leave --engine out, or name another aligner",
    )


@dataclass(frozen=True)
class _LiveItems:
    """Hold the places of some items in their block [n], ascending, and their rows in the gallery [n]."""

    entry: BlockEntry
    places: Int64
    rows: Int64

    def select(self, chosen: Any) -> _LiveItems:
        return _LiveItems(self.entry, self.places[chosen], self.rows[chosen])


@dataclass
class _ContentBlocks:
    """Hold the rows of the blocks of a gallery, by the sha256 of the block; zero where none was encoded."""

    gallery: Gallery
    task: FittedTask
    encoders: EncoderPool
    found: dict[str, Float32] = field(default_factory=dict)
    unkept: str | None = None
    """Why rows cannot be kept, once that is known."""

    @property
    def opened(self) -> AnchorSet:
        return self.gallery.opened

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """What biases depend on besides the block; rows do not depend on the hubness correction."""
        described = describe_rows(ENCODED_ITEMS, self.task, self.gallery.side)
        assert described is not None  # what reads tokens was trained on a whole set
        parameters: Mapping[str, Any] = described["parameters"]
        return parameters

    def make_key(self, sha256: str) -> FitKey:
        """Return the key of the rows of a block."""
        return self._make_key(sha256, ENCODED_ITEMS, {**self.parameters, "hubness": _NOT_CORRECTED})

    def _make_key(self, sha256: str, name: str, parameters: Mapping[str, Any]) -> FitKey:
        assert isinstance(self.task.anchors, AnchorSet)
        described = {"name": name, "parameters": parameters}
        return FitKey(sha256, hash_anchors(self.task.anchors.manifest), described)

    @cached_property
    def live(self) -> list[_LiveItems]:
        """The items by block; blocks of which several pieces are used are there once for each."""
        found, start = [], 0
        for entry in self.opened.manifest.blocks:
            places = np.flatnonzero(entry.live)
            found.append(_LiveItems(entry.whole, places, start + np.arange(len(places))))
            start += len(places)
        return found

    def read(self) -> None:
        """Read the rows that are kept, and check every byte of them; a damaged file is logged."""
        for entry in self.opened.manifest.files:
            arrays = self._read_kept(self.make_key(entry.sha256))
            if arrays is not None:
                self.found[entry.sha256] = arrays[_ROWS]

    def _read_kept(self, key: FitKey) -> FitArrays | None:
        try:
            return self.opened.cached_fit_of(key)
        except IntegrityError as error:
            _log.warning("represented items are not used: %s", str(error).splitlines()[0])
            return None

    def _list_missing(self) -> list[_LiveItems]:
        """List the items that have no row yet."""
        missing = []
        for items in self.live:
            rows = self.found.get(items.entry.sha256)
            lacking = items if rows is None else items.select(~rows[items.places].any(axis=1))
            missing += [lacking] if len(lacking.places) else []
        return missing

    def encode_missing(self, progress: Progress) -> None:
        """Encode the items that are left; raises InputRefused if some of them cannot be read, before or afterwards."""
        if not self._list_missing():
            return
        self._copy_rows()
        missing, contents = self._list_missing(), ItemContents(self.gallery)
        total, done = sum(len(items.places) for items in missing), 0
        if self.gallery.side == "image":
            for items in missing:
                contents.check(self.gallery.records(items.rows))
            contents.raise_trouble(total, self.task.choice.aligner.name)
        if total >= _MANY_ITEMS:
            _log.info("encoding %s items of %s again, to tokens, once", f"{total:,}", self.opened.ref)
            progress(0, total)
        for items in missing:

            def count(read: int, before: int = done) -> None:
                if total >= _MANY_ITEMS:
                    progress(before + read, total)

            self._encode(items, contents, count)
            done += len(items.places)
        contents.raise_trouble(total, self.task.choice.aligner.name)
        delete_older_rows(self.opened, ENCODED_ITEMS)

    def _copy_rows(self) -> None:
        """Copy the rows of equal items in blocks of other versions."""
        copies = BlockCopies.of(
            self.opened,
            self.gallery.side,
            lambda sha256: self.opened.has_fit_of(self.make_key(sha256)),
        )
        for entry in dict.fromkeys(items.entry for items in self._list_missing()):
            block = self.opened.folder.block(self.opened.manifest, entry)
            rows = None
            for copy in copies.find(block):
                kept = self._read_kept(self.make_key(copy.sha256))
                if kept is not None:
                    rows = self._take_rows(entry, kept[_ROWS].shape[1]) if rows is None else rows
                    lacking = ~rows[copy.mine].any(axis=1)
                    rows[copy.mine[lacking]] = kept[_ROWS][copy.theirs[lacking]]
            if rows is not None:
                self._keep(entry, rows)

    def _take_rows(self, entry: BlockEntry, width: int) -> Float32:
        """Return rows of a block that can be written to: a copy of those that are known."""
        known = self.found.get(entry.sha256)
        return np.zeros((entry.rows, width), np.float32) if known is None else np.array(known)

    def _encode(self, items: _LiveItems, contents: ItemContents, count: Callable[[int], None]) -> None:
        """Encode items of a block, and keep them as they come; `count` is called with how many were read."""
        rows, saved, read = None, time.monotonic(), 0
        try:
            for numbers, vectors, tried in self._encode_in_batches(self.gallery.records(items.rows), contents):
                if len(numbers):
                    made = self.task.fitted.represent(self.gallery.side, Embeddings(vectors), self.task.kernel)
                    assert isinstance(made, DenseRows)
                    rows = self._take_rows(items.entry, made.values.shape[1]) if rows is None else rows
                    rows[items.places[numbers]] = made.values
                if rows is not None and time.monotonic() - saved >= _SECONDS_BETWEEN_SAVES:
                    self._keep(items.entry, rows)
                    saved = time.monotonic()
                read += tried
                count(read)
        finally:
            if rows is not None:
                self._keep(items.entry, rows)

    def _encode_in_batches(
        self, items: Sequence[ItemRecord], contents: ItemContents
    ) -> Iterator[tuple[list[int], Float32, int]]:
        """Yield the numbers of items with their vectors, as the encoders of the aligner return them, and how many."""
        anchors = self.task.anchors
        if self.gallery.side == "text":
            for start in range(0, len(items), _TEXTS_PER_BATCH):
                texts = [item.captions[0] for item in items[start : start + _TEXTS_PER_BATCH]]
                numbers = list(range(start, start + len(texts)))
                yield numbers, self.encoders.encode_texts(texts, anchors).values, len(texts)
            return
        encoder = self.encoders.load_image_encoder(anchors)
        prepared = contents.prepare(items, encoder)
        while batch := list(islice(prepared, IMAGES_PER_BATCH)):
            usable = [each for each in batch if each.trouble is None]
            vectors = encoder.forward([each.ready for each in usable]) if usable else np.empty((0, 0), np.float32)
            yield [each.number for each in usable], vectors, len(batch)

    def _keep(self, entry: BlockEntry, rows: Float32) -> None:
        """Write the rows of a block, and hold them mapped; hold them as they are if they cannot be kept."""
        kept = self._write(self.make_key(entry.sha256), pack_rows(DenseRows(rows)))
        self.found[entry.sha256] = rows.copy() if kept is None else kept[_ROWS]

    def _write(self, key: FitKey, arrays: FitArrays) -> FitArrays | None:
        """Write arrays of a block, and return them mapped; None if that fails, which is logged once."""
        if self.unkept is not None:
            return None
        anchors, needed = self.task.anchors, sum(values.nbytes for values in arrays.values())
        assert isinstance(anchors, AnchorSet)
        try:
            check_free_space(
                self.opened.folder.fits, needed, "keeping represented items", "free some space, or each process encodes"
            )
            keep_arrays(self.opened, key, anchors, arrays)
            return self.opened.cached_fit_of(key)
        except (AsifError, OSError) as error:
            self.unkept = str(error).splitlines()[0]
            _log.warning("represented items are not kept: %s", self.unkept)
            return None

    def join(self) -> Iterator[Rows]:
        """Yield the live rows, in order, with the negative bias of the hubness correction as the last entry."""
        corrected = self.task.choice.hubness.method != "none"
        for entry in self.opened.manifest.blocks:
            rows = self.found[entry.sha256]
            biases = self._find_biases(entry, rows) if corrected else None
            for some in find_live_slices(entry.deleted, entry.rows):
                part = DenseRows(rows[some])
                yield part if biases is None else append_bias(part, -biases[some])

    def _find_biases(self, entry: BlockEntry, rows: Float32) -> Float32:
        """Return the hubness biases of a block [n], which are kept; not a number where there is no row."""
        key, there = self._make_key(entry.sha256, BIASES, self.parameters), rows.any(axis=1)
        kept = self._read_kept(key)
        if kept is not None and not np.isnan(kept[_BIASES][there]).any():
            return np.asarray(kept[_BIASES], np.float32)
        found = self.task.correct_hubness(Candidates(DenseRows(rows[there])), OTHER_SIDE[self.gallery.side]).biases
        biases = np.full(len(rows), np.nan, np.float32)
        biases[there] = found
        self._write(key, {_BIASES: biases})
        delete_older_rows(self.opened, BIASES)
        return biases
