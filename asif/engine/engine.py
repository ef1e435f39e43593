"""The engine: answers calls from a snapshot of some anchors, which is swapped for another between two calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np

from asif.aligners import Aligner, Hubness, TrainedAligner
from asif.aligners.protocol import reads_tokens
from asif.anchorset import AnchorSet, Gallery, OpenAnchors, PairFilter, Store, default_home
from asif.anchorset.format.references import is_movable_reference, parse_union
from asif.classify import Labels
from asif.defaults import DEFAULT_ANCHORS
from asif.encoders import Backend, Device, ImageEncoder, ImageInputs, TextEncoder
from asif.encoders.audio.windows import SoundEncoder
from asif.encoders.image_input import iter_images
from asif.engine.clip_spans import ClipSpan, ClipSpans
from asif.engine.encoder_pool import EncoderPool
from asif.engine.predict import (
    Classification,
    PredictOptions,
    classify_embeddings,
    classify_images,
    encode_in_batches,
    iter_vectors,
    score_in_blocks,
    take_label_texts,
    take_label_vectors,
    take_labels,
)
from asif.engine.search.block_rows import Progress, ignore_progress
from asif.engine.search.encode import EncodedQuery
from asif.engine.search.hub import Hub
from asif.engine.search.query import Query, QueryPart
from asif.engine.search.represented import find_represented
from asif.engine.search.results import SearchAnswer, SearchOptions
from asif.engine.search.search import search_encoded, search_gallery
from asif.engine.snapshots import CACHED_VIEWS, FittedTask, LruCache, Snapshot, SnapshotOpener
from asif.engine.watcher import Watcher, WatchState, check_can_move
from asif.errors import BadMedia, Conflict, UsageError
from asif.kernels import KernelName
from asif.modality import find_modality
from asif.pairs import PairRecord
from asif.tuning import TASKS, Task
from asif.vectors import SIDES, Embeddings, Float32, Side, gather_rows

if TYPE_CHECKING:
    from asif.cluster.pool import ClusterOptions
    from asif.engine.sharded.workers import SearchWorkers


class Engine:
    """Classify images and score candidates over some anchors at a time; `swap` changes them between two calls.

    `anchors` is a reference (`name`, `name@alias`, `name@3`, or a path), or a union of sets of the store (`coco+own`);
    `where`, an expression, and `licences` leave pairs out. Each call may name other anchors in the same way: nothing is
    encoded again for them, and the last few are cached as long as the served ones are. `home` is the store, by default
    ASIF_HOME or the user's data folder. `aligner` None means the set's profile for the task if it was tuned, else a
    good default, see `choose_aligner`; `hubness` None means the profile's correction, or none with a named aligner.
    Encoders are loaded when first needed, shared between sets, and checked against the set's fingerprints:
    EncoderMismatch names what differs. `backend` runs them: `auto` is the one that made the anchors, or the fastest one
    here that agrees with it; `encoders` of another engine are shared, in place of a device and a backend. `previous` is
    how many anchors that were served before stay prepared in memory, so that going back to them takes no time. With
    `watch` the engine follows its reference when another process moves it,
    see `watching`, until it is closed; raises UsageError for a reference that cannot move. The engine `ray` lets
    workers search anchors and galleries, each a share of the rows, until it is closed: on Ray here, or on a `cluster`;
    results are the same bits, see docs/scaling.md. It takes whole sets only.
    """

    def __init__(
        self,
        anchors: str = DEFAULT_ANCHORS,
        *,
        where: str | None = None,
        licences: Sequence[str] | None = None,
        home: Path | None = None,
        aligner: Aligner | None = None,
        hubness: Hubness | None = None,
        device: Device = "auto",
        backend: Backend = "auto",
        kernel: KernelName = "auto",
        encoders: EncoderPool | None = None,
        previous: int = 0,
        watch: bool = False,
        engine: Literal["local", "ray"] = "local",
        cluster: ClusterOptions | None = None,
    ) -> None:
        self.home = home or default_home()
        self.encoders = encoders or EncoderPool(self.home / "cache", device, backend)
        if isinstance(aligner, TrainedAligner):
            self.encoders = aligner.adapt_encoders(self.encoders)
        self.device, self.backend = self.encoders.device, self.encoders.backend
        self.kernel: KernelName = kernel
        if watch:
            check_can_move(anchors)
        self.follows = anchors
        self._workers = _open_workers(engine, cluster)
        kept: LruCache[tuple[tuple[str, ...], PairFilter], Snapshot] = LruCache(previous and previous + 1)
        self._opener = SnapshotOpener(
            self.home, aligner, hubness, kernel, self.encoders, previous=kept, workers=self._workers
        )
        self._swap_lock = RLock()
        self._clips: LruCache[str, ClipSpans] = LruCache(CACHED_VIEWS)
        self._hubs: LruCache[str, Hub] = LruCache(CACHED_VIEWS)
        self._snapshot = self._opener.open(anchors, PairFilter.of(where, licences))
        self._watcher = Watcher(Store(self.home), self) if watch else None

    # ---- classification and scores

    def classify(
        self,
        images: ImageInputs,
        labels: Labels | Sequence[str],
        *,
        top: int = 5,
        explain: int = 0,
        credits: bool = False,
        anchors: str | None = None,
        where: str | None = None,
        licences: Sequence[str] | None = None,
    ) -> Iterator[Classification]:
        """Classify images; yields one result per image, in order, which names the anchors that produced it.

        `images` are one or many: paths, bytes, binary file objects, Pillow images, uint8 arrays or tensors [h, w, 3] or
        [h, w]; raises UsageError for anything else. `labels` are texts, or `Labels` with templates of your own.
        `explain` is how many anchors to name behind the first label, `credits` adds all pairs behind it. `anchors`,
        `where` and `licences` select other anchors than the served ones. An image that cannot be decoded gives a result
        with an error and does not stop the others. References are resolved when the method is called, not when its
        results are read; if the version is deleted before it is explained, the current one answers instead, unless the
        reference names a version: then Conflict is raised.
        """
        snapshot = self._find_snapshot(anchors, where, licences)
        content = PredictOptions(top, explain, credits)

        def renew(old: Snapshot, deleted: Conflict) -> Snapshot:
            return self._renew_snapshot(old, deleted, anchors, where, licences)

        return classify_images(
            snapshot, self.encoders, iter_images(images), take_labels(labels), content, renew, self._locate
        )

    def _locate(
        self, anchors: OpenAnchors, records: Sequence[PairRecord], vector: Float32
    ) -> tuple[ClipSpan | None, ...]:
        """Return the spans of the sounds of pairs that are most like a vector; nothing for anchors without sounds."""
        encoder = self.image_encoder(anchors) if find_modality(anchors, "image") == "audio" else None
        if not isinstance(encoder, SoundEncoder):
            return ()
        clips = self._clips.get_or_put(anchors.ref, lambda: ClipSpans(anchors, encoder, self.home))
        return clips.find(records, vector)

    def _locate_found(self, gallery: Gallery, anchors: OpenAnchors, answer: SearchAnswer) -> SearchAnswer:
        """Add the spans of anchors of sounds to an answer about a gallery of sounds."""
        if gallery.side != "image":
            return answer
        results = []
        for result in answer.results:
            evidence = result.evidence
            if evidence is not None:
                vector = gather_rows(gallery.vectors, np.array([result.row], np.int64))[0].astype(np.float32)
                evidence = replace(evidence, spans=self._locate(anchors, evidence.records, vector))
            results.append(replace(result, evidence=evidence))
        return replace(answer, results=tuple(results))

    def classify_vectors(
        self,
        images: Embeddings,
        labels: Labels | Sequence[str],
        label_vectors: Embeddings | None = None,
        *,
        top: int = 5,
        explain: int = 0,
        credits: bool = False,
        anchors: str | None = None,
        where: str | None = None,
        licences: Sequence[str] | None = None,
    ) -> list[Classification]:
        """Classify image vectors [n, di]; `label_vectors` [labels x templates, dt] replace the text encoder.

        They are in the order of `labels.prompts()`; raises UsageError if there are more or fewer. For the other
        arguments see `classify`.
        """
        snapshot, labels = self._find_snapshot(anchors, where, licences), take_labels(labels)
        content = PredictOptions(top, explain, credits)
        try:
            return self._classify_vectors(snapshot, images, labels, label_vectors, content)
        except Conflict as deleted:
            snapshot = self._renew_snapshot(snapshot, deleted, anchors, where, licences)
            return self._classify_vectors(snapshot, images, labels, label_vectors, content)

    def _classify_vectors(
        self,
        snapshot: Snapshot,
        images: Embeddings,
        labels: Labels,
        label_vectors: Embeddings | None,
        content: PredictOptions,
    ) -> list[Classification]:
        task = snapshot.tasks["classify"]
        if label_vectors is None:
            candidates = snapshot.represent_labels(labels, self.encoders)
        else:
            candidates = task.represent_labels(labels, take_label_vectors(labels, label_vectors))
        return classify_embeddings(task, candidates, labels, images, content)

    def search(
        self,
        gallery: Gallery | str,
        *,
        texts: Sequence[str] = (),
        images: ImageInputs = (),
        sounds: ImageInputs = (),
        queries: Sequence[Query] = (),
        k: int = 20,
        offset: int = 0,
        where: str | None = None,
        within: str | None = None,
        only_relevant: bool = False,
        explain: int = 0,
        approximate: bool = False,
        anchors: str | None = None,
        via: str | None = None,
        progress: Progress = ignore_progress,
    ) -> Iterator[SearchAnswer]:
        """Search a gallery; yields one answer for each text, each image, each sound, then for each of `queries`.

        A query of the gallery's own kind, such as an image in a gallery of images, is compared in the space of its
        encoder, others by the aligner for search. `k` results follow the first `offset`; `where` is an expression that
        items match, `within` one outside of which items do not exist for the caller, `only_relevant` leaves out what
        chance would reach, see `SearchOptions`. `explain` is how many anchors to name behind each result. The search is
        exact, or with `approximate` finds the share `recall` of what an exact one does. `anchors` names others than the
        served ones: the gallery is not encoded again. `via` names further anchors, with texts of the same encoder: an
        input that only those pair, such as a sound for a gallery of images, goes by way of texts, and answers state
        what gets lost. `progress` is called with the number of items that are
        represented and that of all, if a first search of many items waits for them. Raises NotFound, EncoderMismatch
        for a gallery of another encoder, UsageError for a filter that no item matches.
        """
        options = SearchOptions(k, offset, where, only_relevant, explain, approximate, within)
        parts = [
            *(QueryPart("text", text) for text in take_label_texts(texts)),
            *(QueryPart("image", image) for image in iter_images(images)),
            *(QueryPart("audio", sound) for sound in iter_images(sounds)),
        ]
        opened = Gallery(gallery, home=self.home) if isinstance(gallery, str) else gallery
        represented = find_represented(self._find_snapshot(anchors, None, None), opened, progress)
        hub = None if via is None else self._find_hub(via)
        every = [*(Query((part,)) for part in parts), *queries]
        answers = search_gallery(represented, self.encoders, every, options, hub)
        return (self._locate_found(opened, represented.task.anchors, answer) for answer in answers)

    def _find_hub(self, via: str) -> Hub:
        """Return what turns inputs that other anchors pair into texts; that of the last few sets is kept."""
        if reads_tokens(self._snapshot.tasks["search"].fitted):
            name = self._snapshot.tasks["search"].choice.aligner.name
            raise UsageError(
                f"a search via {via} with the aligner {name}",
                "an aligner of vectors: an input becomes a vector of a text, which has no tokens",
                "name another aligner, or leave --via out",
            )
        task = self._find_snapshot(via, None, None).tasks["search"]
        return self._hubs.get_or_put(task.anchors.ref, lambda: Hub(task))

    def search_vectors(
        self, gallery: Gallery, queries: Sequence[EncodedQuery], options: SearchOptions
    ) -> list[SearchAnswer]:
        """Search a gallery for queries that are encoded already, as `search` does: one answer for each."""
        represented = find_represented(self._snapshot, gallery)
        return search_encoded(represented, self.encoders, queries, options)

    def score_blocks(
        self,
        side: Side,
        queries: Embeddings,
        candidates: Embeddings,
        *,
        anchors: str | None = None,
        where: str | None = None,
        licences: Sequence[str] | None = None,
    ) -> Iterator[Float32]:
        """Score candidates of the other side for queries of `side`: yields [some, c] for consecutive queries.

        The anchors of the queries' side are the query bank of a hubness correction. Memory: one block of at most 16
        million scores, and the candidates' rows.
        """
        task = self._find_snapshot(anchors, where, licences).tasks["search"]
        return score_in_blocks(task, side, queries, candidates)

    def role(
        self,
        task: Task = "classify",
        *,
        anchors: str | None = None,
        where: str | None = None,
        licences: Sequence[str] | None = None,
    ) -> FittedTask:
        """Return the aligner and the hubness correction that new calls use for a task."""
        return self._find_snapshot(anchors, where, licences).tasks[task]

    def _find_snapshot(self, anchors: str | None, where: str | None, licences: Sequence[str] | None) -> Snapshot:
        return self._opener.find(self._snapshot, anchors, PairFilter.of(where, licences))

    def _renew_snapshot(
        self,
        old: Snapshot,
        deleted: Conflict,
        anchors: str | None,
        where: str | None,
        licences: Sequence[str] | None,
    ) -> Snapshot:
        """Return the current version in place of one that was deleted; the engine serves it if the call named none.

        Raises the Conflict if the reference names a version, if it has not moved, or if other encoders made the current
        version.
        """
        ref = anchors or self.follows
        if not any(map(is_movable_reference, parse_union(ref))):
            raise deleted
        if anchors is None:
            self.follow(ref)
        new = self._find_snapshot(anchors, where, licences)
        encoders_differ = any(new.anchors.fingerprint(side) != old.anchors.fingerprint(side) for side in SIDES)
        if new.versions == old.versions or encoders_differ:
            raise deleted
        return new

    # ---- encoding

    def image_encoder(self, anchors: OpenAnchors) -> ImageEncoder:
        """Return the image encoder of a set, loaded and checked."""
        return self.encoders.load_image_encoder(anchors)

    def text_encoder(self, anchors: OpenAnchors) -> TextEncoder:
        """Return the text encoder of a set, loaded and checked."""
        return self.encoders.load_text_encoder(anchors)

    def encode_texts(self, texts: Sequence[str], anchors: OpenAnchors | str | None = None) -> Embeddings:
        """Encode texts with the set's text encoder: unit rows [n, dt]; embeddings in the cache on disk are reused.

        Texts that are longer than the encoder reads are reported, once for each encoder.
        """
        if anchors is None or isinstance(anchors, str):
            anchors = self._find_snapshot(anchors, None, None).anchors
        self.encoders.report_cut_texts(texts, anchors)
        return self.encoders.encode_texts(texts, anchors)

    def count_cut_texts(self, texts: Sequence[str], anchors: str | None = None) -> int:
        """Count the texts that are longer than the set's text encoder reads, so that their ends are cut off."""
        return self.encoders.count_cut_texts(texts, self._find_snapshot(anchors, None, None).anchors)

    def encode_images(self, images: ImageInputs, *, anchors: str | None = None) -> Iterator[Float32 | BadMedia]:
        """Encode images with the set's image encoder: yields for each, in order, a unit vector [di], or the error.

        `images` are what `classify` takes; `classify_vectors` takes the vectors, with any anchors that the same encoder
        made.
        """
        encoder = self.image_encoder(self._find_snapshot(anchors, None, None).anchors)
        return iter_vectors(encode_in_batches(encoder, iter_images(images)))

    # ---- the served anchors

    @property
    def anchors(self) -> OpenAnchors:
        """Return the anchors that new calls use."""
        return self._snapshot.anchors

    @property
    def anchor_set(self) -> AnchorSet:
        """Return the anchor set that new calls use; raises UsageError if it is a view of some pairs."""
        anchors = self.anchors
        if not isinstance(anchors, AnchorSet):
            raise UsageError(
                f"{anchors.ref}, which is a view of some pairs",
                "a complete anchor set",
                "make it one: asif anchors subset, or asif anchors merge",
            )
        return anchors

    @property
    def exactly(self) -> tuple[str, ...]:
        """Return the served versions, as references that cannot move."""
        return self._snapshot.versions

    def has_candidates(self, labels: Labels) -> bool:
        """Tell whether labels are represented over the served anchors already, so that nothing is to be encoded."""
        return self._snapshot.represented.get(labels) is not None

    def swap(self, ref: str, *, where: str | None = None, licences: Sequence[str] | None = None) -> OpenAnchors:
        """Serve other anchors from the next call on; calls in flight finish on the old ones.

        The new snapshot is prepared first, while the old one serves: encoders are loaded, aligners fitted, blocks
        copied to the device, the last labels and galleries represented, for the tasks that calls have used. If anything
        fails, the error is raised and the old anchors stay. An engine that watches follows `ref` from now on.
        """
        pair_filter = PairFilter.of(where, licences)
        if self._watcher is not None:
            check_can_move(ref)
        with self._swap_lock:
            self.serve(self.prepare(ref, pair_filter), ref)
            return self.anchors

    def prepare(self, ref: str, pair_filter: PairFilter, progress: Progress = ignore_progress) -> Snapshot:
        """Open the current version of a reference, and do the work that first calls would wait for; serves nothing.

        `progress` is called while a gallery is represented, and may raise an error to end that.
        """
        new = self._opener.open(ref, pair_filter)
        self._warm(new, progress)
        return new

    def serve(self, snapshot: Snapshot, ref: str) -> None:
        """Serve a prepared snapshot of the reference `ref` from the next call on; drop encoders that no anchors use."""
        old, self._snapshot, self.follows = self._snapshot, snapshot, ref
        self._opener.keep(old)
        self._opener.keep(snapshot)
        self.encoders.release_unused([*snapshot.list_anchors(), *old.list_anchors()])

    def follow(self, ref: str) -> None:
        """Serve the current version of a reference, if the engine still follows it; done as `swap` does.

        Raises Conflict if the engine stops watching while a gallery is represented: what is represented stays on disk.
        """
        watcher = self._watcher

        def check_watching(done: int, total: int) -> None:
            if watcher is not self._watcher:
                raise Conflict(
                    f"the engine was closed with {done:,} of {total:,} items represented over {ref}",
                    "an engine that is open until the swap",
                    "search again: the rest is represented then",
                )

        with self._swap_lock:
            if ref == self.follows:
                self.serve(self.prepare(ref, self._snapshot.pair_filter, check_watching), ref)

    @property
    def watching(self) -> WatchState | None:
        """Return what the engine follows, and the error of the last load if it failed; None if it does not watch."""
        return None if self._watcher is None else WatchState(self.follows, self.exactly, self._watcher.error)

    def __repr__(self) -> str:
        anchors, chosen = self.anchors, self._snapshot.tasks["classify"].choice
        encoders = " and ".join(anchors.encoder_spec(side) for side in SIDES)
        return f"<Engine {anchors.ref}: {anchors.count:,} anchors, {encoders}, aligner {chosen.aligner.name}>"

    def close(self) -> None:
        """Stop watching, and end the workers of the engine ray; the served anchors stay."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
        if self._workers is not None:
            self._workers.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _warm(self, new: Snapshot, progress: Progress) -> None:
        """Do for a snapshot what calls have made the served one do."""
        old = self._snapshot
        self.encoders.preload(new.anchors, old.anchors)
        used: list[Task] = [task for task in TASKS if old.tasks[task].is_fitted]
        for task in used or TASKS[:1]:
            new.tasks[task].warm()
        if new.anchors.fingerprint("text") == old.anchors.fingerprint("text"):  # label embeddings are in the cache
            for labels in old.represented.keys():  # noqa: SIM118
                new.represent_labels(labels, self.encoders)
        for seen in old.galleries.values():  # searches answer from the old rows until the new ones are made
            if seen.is_represented and seen.gallery.fingerprint == new.anchors.fingerprint(seen.side):
                find_represented(new, seen.gallery, progress).shared  # noqa: B018


def _open_workers(engine: Literal["local", "ray"], cluster: ClusterOptions | None) -> SearchWorkers | None:
    """Return the workers of the engine ray, which start on the first search; None for the local one.

    Raises UsageError for another engine, and for a cluster without the engine ray.
    """
    if engine not in ("local", "ray"):
        raise UsageError(f"the engine {engine!r}", "local or ray", "pass engine='ray', or leave it out")
    if engine == "local":
        if cluster is not None:
            raise UsageError("a cluster for the local engine", "the engine ray", "pass engine='ray'")
        return None
    from asif.cluster.pool import ClusterOptions
    from asif.engine.sharded.workers import SearchWorkers

    return SearchWorkers(cluster or ClusterOptions())
