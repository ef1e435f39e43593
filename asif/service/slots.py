"""Named places for what is served: anchor sets that can be swapped and edited, and galleries that are updated."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, RLock

from asif.anchorset import AnchorSet, Gallery, OpenAnchors, PairFilter, Store, View, find_rows
from asif.anchorset.format.folder import AliasStamp
from asif.anchorset.format.kinds import GALLERY
from asif.anchorset.format.references import is_movable_reference, parse_reference, parse_union
from asif.engine import Engine
from asif.engine.encoder_pool import EncoderPool
from asif.engine.pair_thumbnails import PairThumbnails
from asif.engine.watcher import Watcher, is_settled
from asif.errors import AsifError, Conflict, EncoderMismatch, UsageError
from asif.service.config import name_reference
from asif.service.keys import OWNER, Grant, hash_key
from asif.service.metrics import Metrics
from asif.service.worker_board import WorkerBoard
from asif.vectors import SIDES

_log = logging.getLogger(__name__)


class AnchorsSlot:
    """Serve one name: the anchors that a reference means, swapped when it moves or is replaced.

    Each tenant has an engine of its own, so that nothing he used is in the caches of another; all engines share
    encoders and change to new anchors together. A version that cannot be served changes nothing: the old one stays.
    """

    def __init__(self, ref: str, encoders: EncoderPool, home: Path, board: WorkerBoard, metrics: Metrics) -> None:
        self.name = name_reference(ref)
        self.home = home
        self._encoders, self._board, self._metrics = encoders, board, metrics
        self._configured = ref
        self._engines: dict[tuple[str, str | None], Engine] = {}
        self._thumbnails: tuple[OpenAnchors, PairThumbnails] | None = None
        self._thumbnail_lock = Lock()
        self._lock = RLock()
        self._swaps = Lock()
        self._is_closed = False
        self._main = self._open_engine(OWNER)
        self._board.announce(self.name, self.exactly)
        self._watcher = Watcher(Store(home), self)

    @property
    def follows(self) -> str:
        """Return the reference that the name means."""
        return self._board.find_reference(self.name, self._configured)

    @property
    def shown_reference(self) -> str:
        """Return the reference as callers may see it: without the places of sets on this machine."""
        ref = self.follows
        return ref if all(parse_reference(part).name for part in parse_union(ref)) else self.name

    @property
    def exactly(self) -> tuple[str, ...]:
        """Return the served versions."""
        return self._main.exactly

    @property
    def anchors(self) -> OpenAnchors:
        """Return the anchors that are served, before the filter of a tenant."""
        return self._main.anchors

    def read_thumbnail(self, engine: Engine, name: str) -> bytes | None:
        """Return the thumbnail of a pair that a tenant's engine serves; None if it has none, or is none of his."""
        anchors = engine.anchors
        with self._thumbnail_lock:
            if self._thumbnails is None or self._thumbnails[0] is not self.anchors:
                self._thumbnails = self.anchors, PairThumbnails(self.anchors, self.home)
            thumbnails = self._thumbnails[1]
        belongs = anchors.named.pair_filter.predicate()
        for member in anchors.members if isinstance(anchors, View) else (anchors,):
            assert isinstance(member, AnchorSet)
            for record in member.records(find_rows(member, [name], missing_ok=True)):
                if belongs(record):
                    return thumbnails.read_thumbnail(record)
        return None

    @property
    def error(self) -> Exception | None:
        """Return why the version that the reference means is not served; None if it is."""
        return self._watcher.error

    def find_engine(self, grant: Grant) -> Engine:
        """Return the engine of a tenant; it is opened with his first request, which waits for a swap to end."""
        engine = self.get_engine(grant)
        if engine is not None:
            return engine
        with self._lock:
            key = grant.tenant, grant.where
            if key not in self._engines:
                self._engines[key] = self._open_engine(grant)
            return self._engines[key]

    def get_engine(self, grant: Grant) -> Engine | None:
        """Return the engine of a tenant, at once, if it is open."""
        return self._main if grant is OWNER else self._engines.get((grant.tenant, grant.where))

    def _open_engine(self, grant: Grant) -> Engine:
        """Open an engine with a cache of texts for one tenant, over the served versions if there are any."""
        texts = "texts.sqlite" if grant is OWNER else f"texts-{hash_key(grant.tenant)[:16]}.sqlite"
        ref = "+".join(self.exactly) if "_main" in self.__dict__ else self.follows
        engine = Engine(ref, where=grant.where, home=self.home, encoders=self._encoders.share(texts), previous=1)
        engine.follows = self.follows
        return engine

    def follow(self, ref: str) -> None:
        """Serve the current version of the reference, if the name still means it."""
        with self._swaps:
            if ref == self.follows:
                self._serve(ref)

    def swap(self, ref: str) -> None:
        """Make the name mean another reference; raises what opening it does, and EncoderMismatch for other encoders."""
        with self._swaps:
            self._serve(ref)
            self._board.set_reference(self.name, ref)

    def _serve(self, ref: str) -> None:
        """Prepare the anchors for all engines, then let all of them serve these."""
        try:
            self._check_encoders(ref)
            with self._lock:
                prepared = [(self._main, self._main.prepare(ref, PairFilter(), self._check_open))]
                for key, engine in list(self._engines.items()):
                    try:
                        prepared.append((engine, engine.prepare(ref, PairFilter.of(key[1]), self._check_open)))
                    except UsageError:  # no pair of the new anchors is for this tenant: his next request says so
                        del self._engines[key]
                for engine, snapshot in prepared:
                    engine.serve(snapshot, ref)
        except Exception:
            self._metrics.swaps.labels("failed").inc()
            raise
        self._metrics.swaps.labels("ok").inc()
        self._board.announce(self.name, self.exactly)

    def _check_open(self, done: int, total: int) -> None:
        """Give up what galleries wait for when the service stops."""
        if self._is_closed:
            raise Conflict("the service stops", "a service that runs", "ask another one")

    def _check_encoders(self, ref: str) -> None:
        """Refuse anchors of other encoders: clients have vectors and galleries of the served ones."""
        store, old = Store(self.home), self.anchors
        for part in parse_union(ref):
            with store.open(part) as new:
                for side in SIDES:
                    if new.encoder_spec(side) != old.encoder_spec(side):
                        raise EncoderMismatch(
                            f"{part} was made with {new.encoder_spec(side)}",
                            f"{old.encoder_spec(side)}, with which {self.name} is served",
                            "serve it under a name of its own: asif serve --anchors NAME --anchors OTHER",
                        )
                self._encoders.check_loaded(new)

    def find_editable(self) -> str:
        """Return the reference of the set, to be edited; raises UsageError if it is not the current version of one."""
        ref = self.follows
        if len(parse_union(ref)) > 1 or not is_movable_reference(ref) or parse_reference(ref).selector:
            raise UsageError(
                f"{self.name} means {self.shown_reference}, which is not the current version of one set",
                "a set that is served by its name alone",
                f"swap it to {parse_reference(parse_union(ref)[0]).name or self.name} first",
            )
        return ref

    def wait_for_workers(self) -> bool:
        """Wait until all workers serve what this one does."""
        return self._board.wait_for(self.name, self.exactly)

    def close(self) -> None:
        """Stop following the reference."""
        self._is_closed = True
        self._watcher.stop()


@dataclass
class GallerySlot:
    """Serve one gallery: its current version, opened again when it was updated."""

    ref: str
    home: Path
    _lock: Lock = field(default_factory=Lock)
    _opened: Gallery | None = None
    _stamp: AliasStamp | None = None

    @property
    def name(self) -> str:
        return name_reference(self.ref)

    def open(self) -> Gallery:
        """Return the current version; raises NotFound, IntegrityError. The old one stays open for those who read it."""
        store = Store(self.home, GALLERY)
        with self._lock:
            stamp = store.stamp(self.ref)
            if self._opened is None or stamp != self._stamp:
                exactly = store.resolve(self.ref)
                if self._opened is None or exactly != self._opened.opened.exactly:
                    self._opened = self._open_again()
                self._stamp = stamp if is_settled(stamp) else None
            return self._opened

    def _open_again(self) -> Gallery:
        """Open the new version; if it is damaged, the old one is served."""
        try:
            return Gallery(self.ref, home=self.home)
        except AsifError as error:
            if self._opened is None:
                raise
            _log.error("%s was updated, but the old version is still served: %s", self.name, str(error).splitlines()[0])
            return self._opened
