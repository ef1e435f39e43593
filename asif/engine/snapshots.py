"""Snapshots: the anchors that a call uses, with an aligner fitted for each task and caches that go when they do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from asif.aligners import Aligner, FittedAligner, Hubness
from asif.aligners.hubness import QueryBank, build_query_bank
from asif.aligners.protocol import reads_tokens
from asif.anchorset import AnchorSet, OpenAnchors, PairFilter, Store, View, open_view
from asif.anchorset.format.fit_cache import hash_anchors
from asif.anchorset.format.references import parse_union
from asif.classify import Labels, represent_labels
from asif.compare import Candidates
from asif.engine.aligner_choice import AlignerChoice, choose_aligner
from asif.engine.cached_fit import fit_aligner
from asif.engine.default_sets import open_anchors
from asif.engine.encoder_pool import EncoderPool
from asif.engine.label_checks import check_labels
from asif.errors import NotFound, UsageError
from asif.kernels import KernelName
from asif.tuning import TASKS, Task
from asif.vectors import SIDES, Embeddings, Rows, Side

if TYPE_CHECKING:
    from asif.engine.search.represented import RepresentedGallery
    from asif.engine.sharded.workers import SearchWorkers

CACHED_LABELS = 8
CACHED_VIEWS = 4
CACHED_GALLERIES = 2

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class LruCache(Generic[_Key, _Value]):
    """Cache the values of the `size` keys that were used last; safe for threads.

    >>> cache = LruCache[str, int](2)
    >>> for key in "abac":
    ...     cache.put(key, ord(key))
    >>> cache.get("a"), cache.get("b"), cache.keys()
    (97, None, ['c', 'a'])
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[_Key, _Value] = OrderedDict()  # the last used is the last
        self._lock = Lock()

    def get(self, key: _Key) -> _Value | None:
        """Return the value of a key, which counts as a use; None if it is not cached."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key]

    def put(self, key: _Key, value: _Value) -> None:
        """Cache a value, and drop the entry that has not been used for longest if there are too many."""
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            if len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def get_or_put(self, key: _Key, make: Callable[[], _Value]) -> _Value:
        """Return the value of a key; if it is not cached, make it, quickly, while other threads wait, and cache it."""
        with self._lock:
            if key not in self._entries:
                self._entries[key] = make()
            self._entries.move_to_end(key)
            if len(self._entries) > self._size:
                self._entries.popitem(last=False)
            return self._entries[key]

    def keys(self) -> list[_Key]:
        """Return the keys, the last used last."""
        with self._lock:
            return list(self._entries)

    def values(self) -> list[_Value]:
        """Return the values, the last used last."""
        with self._lock:
            return list(self._entries.values())


@dataclass(frozen=True)
class FittedTask:
    """An aligner for one task, fitted to the anchors on first use, and the query banks of its hubness correction.

    `encoders` encode items again for an aligner of tokens.
    """

    choice: AlignerChoice
    anchors: OpenAnchors
    kernel: KernelName = "auto"
    query_banks: dict[Side, QueryBank] = field(default_factory=dict)
    encoders: EncoderPool | None = None

    @cached_property
    def fitted(self) -> FittedAligner:
        return fit_aligner(self.choice.aligner, self.anchors, self.kernel)

    @property
    def is_fitted(self) -> bool:
        """Tell whether the aligner has been fitted: a call has used this task."""
        return "fitted" in self.__dict__

    def warm(self) -> None:
        """Do the work that first calls would wait for, once: fit, and copy anchors to a device, or quantise them."""
        self._first_rows  # noqa: B018

    @cached_property
    def _first_rows(self) -> list[Rows]:
        """The first anchor of each side, represented; none for an aligner of tokens, which anchors do not have."""
        if reads_tokens(self.fitted):
            return []
        first = [Embeddings(np.asarray(self.anchors.blocks(side)[0][:1], np.float32), ((),)) for side in SIDES]
        for _ in range(2):  # the kernels keep what a second search reads
            rows = [self.fitted.represent(side, one, self.kernel) for side, one in zip(SIDES, first, strict=True)]
        return rows

    def represent_labels(self, labels: Labels, encode: Callable[[Sequence[str]], Embeddings]) -> Candidates:
        """Represent labels over the anchors, as candidates for images, corrected for hubness."""
        return self.correct_hubness(represent_labels(labels, encode, self.fitted, self.kernel))

    def correct_hubness(self, candidates: Candidates, queries: Side = "image") -> Candidates:
        """Give candidates their hubness biases for queries of one side, estimated from the anchors of that side."""
        hubness = self.choice.hubness
        if hubness.method == "none":
            return candidates
        return replace(
            candidates, biases=hubness.compute_biases(candidates.rows, self._query_bank(queries), self.kernel)
        )

    def _query_bank(self, side: Side) -> QueryBank:
        if side not in self.query_banks:
            self.query_banks[side] = build_query_bank(self.fitted, self.anchors, side, self.kernel)
        return self.query_banks[side]


@dataclass(frozen=True)
class Snapshot:
    """The anchors that a call uses from its beginning to its end, even if others are swapped in meanwhile.

    `versions` are references to the versions of its sets, which cannot move. Represented labels and galleries, and
    snapshots of other anchors that calls named, are cached here, so that they are dropped with the served anchors.
    """

    anchors: OpenAnchors
    versions: tuple[str, ...]
    pair_filter: PairFilter
    tasks: Mapping[Task, FittedTask]
    workers: SearchWorkers | None = None
    represented: LruCache[Labels, Candidates] = field(default_factory=lambda: LruCache(CACHED_LABELS))
    views: LruCache[tuple[str | None, PairFilter], Snapshot] = field(default_factory=lambda: LruCache(CACHED_VIEWS))
    view_lock: Lock = field(default_factory=Lock)
    galleries: LruCache[Hashable, RepresentedGallery] = field(default_factory=lambda: LruCache(CACHED_GALLERIES))

    @property
    def members(self) -> tuple[AnchorSet, ...]:
        """Return the anchor sets that the anchors are from."""
        if isinstance(self.anchors, View):
            return self.anchors.members
        assert isinstance(self.anchors, AnchorSet)
        return (self.anchors,)

    def represent_labels(self, labels: Labels, encoders: EncoderPool) -> Candidates:
        """Represent labels as candidates for images; the candidates of the last few calls are cached."""
        candidates = self.represented.get(labels)
        if candidates is None:
            check_labels(labels, self.anchors, encoders)
            task = self.tasks["classify"]
            candidates = task.represent_labels(labels, lambda texts: encoders.encode_texts(texts, self.anchors))
            self.represented.put(labels, candidates)
        return candidates

    def list_anchors(self) -> list[OpenAnchors]:
        """List these anchors, and those of cached views."""
        return [each.anchors for each in (self, *self.views.values())]


@dataclass(frozen=True)
class SnapshotOpener:
    """Open snapshots of a store's anchors, with an engine's aligner, kernel and encoders."""

    home: Path
    aligner: Aligner | None
    hubness: Hubness | None
    kernel: KernelName
    encoders: EncoderPool
    mapped: WeakValueDictionary[tuple[str, str], AnchorSet] = field(default_factory=WeakValueDictionary)
    previous: LruCache[tuple[tuple[str, ...], PairFilter], Snapshot] = field(default_factory=lambda: LruCache(0))
    workers: SearchWorkers | None = None
    """What searches the anchors, and galleries over them, if it is not this process."""

    def open(self, ref: str, pair_filter: PairFilter) -> Snapshot:
        """Open the current version of a reference, or of a union of several, with the pairs that a filter keeps."""
        members = [self._open_set(part) for part in parse_union(ref)]
        versions = tuple(member.exactly for member in members)
        kept = self.previous.get((versions, pair_filter))
        if kept is not None and kept.members == tuple(members):
            return kept
        return self._open_members(members, pair_filter, versions)

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot that is served, so that opening it again later returns it with all that it has cached."""
        self.previous.put((snapshot.versions, snapshot.pair_filter), snapshot)

    def find(self, served: Snapshot, ref: str | None, pair_filter: PairFilter) -> Snapshot:
        """Return the snapshot that a call uses: the served one, or that of the anchors it names, cached with it.

        A filter without a reference narrows the served anchors further. An alias means its current version.
        """
        if ref is None and not pair_filter:
            return served
        versions = served.versions if ref is None else self._resolve(ref)
        pair_filter = served.pair_filter & pair_filter if ref is None else pair_filter
        if (versions, pair_filter) == (served.versions, served.pair_filter):
            return served
        found = served.views.get((ref, pair_filter))
        if found is None or found.versions != versions:
            with served.view_lock:  # threads that name the same view open it once
                found = served.views.get((ref, pair_filter))
                if found is None or found.versions != versions:
                    if ref is None:
                        found = self._open_members(served.members, pair_filter, served.versions)
                    else:
                        found = self.open(ref, pair_filter)
                    served.views.put((ref, pair_filter), found)
        return found

    def _open_set(self, ref: str) -> AnchorSet:
        """Open a set; one that is already open is not mapped a second time, so that devices hold its blocks once."""
        opened = open_anchors(ref, home=self.home, device=self.encoders.device, backend=self.encoders.backend)
        if self.workers is not None:
            from asif.engine.sharded.anchors import ShardedAnchorSet

            opened = ShardedAnchorSet(opened, self.workers)
        return self.mapped.setdefault((opened.exactly, hash_anchors(opened.manifest)), opened)

    def _open_members(
        self, members: Sequence[AnchorSet], pair_filter: PairFilter, versions: tuple[str, ...]
    ) -> Snapshot:
        """Choose an aligner for each task, and check that the loaded encoders made the sets."""
        is_whole_set = len(members) == 1 and not pair_filter
        if self.workers is not None and not is_whole_set:
            raise UsageError(
                "the engine ray with some pairs of a set, or with several sets",
                "one whole set, of which each worker maps a share",
                "make it a set: asif anchors subset, or asif anchors merge; or use another engine",
            )
        anchors: OpenAnchors = members[0] if is_whole_set else open_view(members, pair_filter)
        self.encoders.check_loaded(anchors)
        tasks: dict[Task, FittedTask] = {
            task: FittedTask(
                choose_aligner(anchors, task, self.aligner, self.hubness), anchors, self.kernel, encoders=self.encoders
            )
            for task in TASKS
        }
        return Snapshot(anchors, versions, pair_filter, tasks, self.workers)

    def _resolve(self, ref: str) -> tuple[str, ...] | None:
        """Return the versions that a reference means now; None if opening it may have to build one first."""
        store = Store(self.home)
        try:
            return tuple(store.resolve(part) for part in parse_union(ref))
        except NotFound:
            return None
