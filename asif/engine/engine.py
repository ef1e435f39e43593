"""The engine: some anchors at a time answer, and are swapped for others between two calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import RLock
from types import TracebackType

import numpy as np

from asif.aligners import Aligner, Hubness
from asif.anchorset import AnchorSet, OpenAnchors, PairFilter, Store, default_home
from asif.classify import Labels, represent_labels
from asif.compare import Candidates, scores
from asif.encoders import Device, ImageEncoder, ImageSource, TextEncoder
from asif.engine.build import DEFAULT_ANCHORS
from asif.engine.encoder_pool import Encoders
from asif.engine.opener import Opener
from asif.engine.predict import Result, Wanted, answer, encoded
from asif.engine.snapshots import Role, Serving
from asif.engine.watcher import Watch, Watched, check_moves
from asif.errors import BadImage, UsageError
from asif.kernels import KernelName as Kernel
from asif.tuning import TASKS, Task
from asif.vectors import Embeddings, Float32, Side

BLOCK_SCORES = 1 << 24
OTHER: dict[Side, Side] = {"image": "text", "text": "image"}


class Engine:
    """Answer questions with some anchors at a time; `swap` changes them between two calls.

    `anchors` is a reference (`name`, `name@alias`, `name@3`, or a path), or a union of sets of the store (`coco+own`);
    `where`, an expression, and `licences` leave pairs out. Each call may name others in the same way: nothing is
    encoded again for it, and the last few are kept as long as the served ones are. `home` is the store, by default
    ASIF_HOME or the user's data folder. `aligner` None means what suits the set: its profile for the task, where it was
    tuned, see `choose`; `hubness` None means the profile's correction, or none beside an aligner that is named.
    Encoders are loaded when first needed, shared between sets, and checked against the set's fingerprints:
    EncoderMismatch names what differs. With `watch` the engine follows its reference wherever another process moves it,
    see `watching`, until it is closed; raises UsageError for a reference that cannot move.
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
        kernel: Kernel = "auto",
        watch: bool = False,
    ) -> None:
        self.home = home or default_home()
        self.device: Device = device
        self.kernel: Kernel = kernel
        if watch:
            check_moves(anchors)
        self.follows = anchors
        self._encoders = Encoders(self.home / "cache" / "texts.sqlite", device)
        self._opener = Opener(self.home, aligner, hubness, kernel, device, self._encoders)
        self._swapping = RLock()
        self._serving = self._opener.open(anchors, PairFilter.of(where, licences))
        self._watch = Watch(Store(self.home), self) if watch else None

    # ---- which anchors are served

    @property
    def anchors(self) -> OpenAnchors:
        """Return the anchors that new calls use."""
        return self._serving.anchors

    @property
    def anchor_set(self) -> AnchorSet:
        """Return the anchor set that new calls use; raises UsageError where it is a view of some pairs."""
        anchors = self.anchors
        if not isinstance(anchors, AnchorSet):
            raise UsageError(
                f"{anchors.ref}, which is no set of its own",
                "one anchor set, whole",
                "make it one: asif anchors subset, or asif anchors merge",
            )
        return anchors

    @property
    def exactly(self) -> tuple[str, ...]:
        """Return the versions that are served, as references that cannot move."""
        return self._serving.exactly

    def role(
        self,
        task: Task = "classify",
        *,
        anchors: str | None = None,
        where: str | None = None,
        licences: Sequence[str] | None = None,
    ) -> Role:
        """Return which aligner and hubness correction new calls use for a task."""
        return self._asked(anchors, where, licences).roles[task]

    def swap(self, ref: str, *, where: str | None = None, licences: Sequence[str] | None = None) -> OpenAnchors:
        """Serve other anchors from the next call on; calls in flight finish on the old ones.

        Before that, while the old ones serve, everything that the first calls would wait for is done: encoders are
        loaded, aligners fitted, blocks brought to the device, the last questions represented, as far as the old ones
        were asked for them. If anything fails, the error is raised and the old anchors go on serving. An engine that
        watches follows `ref` from now on.
        """
        mask = PairFilter.of(where, licences)
        if self._watch is not None:
            check_moves(ref)
        with self._swapping:
            self._switch(self._opener.open(ref, mask))
            self.follows = ref
            return self.anchors

    def follow(self, ref: str) -> None:
        """Serve what a reference means now, if it is the one that the engine follows; done as `swap` does."""
        with self._swapping:
            if ref == self.follows:
                self._switch(self._opener.open(ref, self._serving.mask))

    @property
    def watching(self) -> Watched | None:
        """Return what the engine follows, and the error of the last load if it failed; None if it does not watch."""
        return None if self._watch is None else Watched(self.follows, self.exactly, self._watch.error)

    def close(self) -> None:
        """Stop watching; what is served goes on answering."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _switch(self, fresh: Serving) -> None:
        """Prepare what is to be served next, then serve it, and let go of encoders that nobody needs any more."""
        old = self._serving
        self._encoders.follow(old.anchors, fresh.anchors)
        asked: list[Task] = [task for task in TASKS if old.roles[task].asked]
        for task in asked or TASKS[:1]:
            fresh.roles[task].warm()
        if fresh.anchors.fingerprint("text") == old.anchors.fingerprint("text"):  # so that their texts are known
            for labels in old.labels.latest():
                self._labels(labels, fresh)
        self._serving = fresh
        self._encoders.release(lambda side, spec: fresh.uses(side, spec) or old.uses(side, spec))

    def _asked(self, anchors: str | None, where: str | None, licences: Sequence[str] | None) -> Serving:
        return self._opener.asked(self._serving, anchors, PairFilter.of(where, licences))

    # ---- encoding

    def image_encoder(self, anchors: OpenAnchors) -> ImageEncoder:
        """Return the image encoder of a set, loaded and checked."""
        return self._encoders.image(anchors)

    def text_encoder(self, anchors: OpenAnchors) -> TextEncoder:
        """Return the text encoder of a set, loaded and checked."""
        return self._encoders.text(anchors)

    def encode_texts(self, texts: Sequence[str], anchors: OpenAnchors | str | None = None) -> Embeddings:
        """Encode texts with the set's text encoder; what was encoded before comes from the cache on disk."""
        if anchors is None or isinstance(anchors, str):
            anchors = self._asked(anchors, None, None).anchors
        return self._encoders.encode_texts(texts, anchors)

    def encode_images(
        self, images: Iterable[ImageSource], *, anchors: str | None = None
    ) -> Iterator[Float32 | BadImage]:
        """Encode images with the set's image encoder: yields for each, in order, a unit vector [di], or the error.

        The vectors can be asked about with `classify_vectors`, of any anchors that the same encoder made.
        """
        encoder = self.image_encoder(self._asked(anchors, None, None).anchors)
        for some, embeddings, _ in encoded(encoder, images):
            vectors = iter(() if embeddings is None else embeddings.values)
            for _, error in some:
                yield next(vectors) if error is None else error

    # ---- answering

    def _labels(self, labels: Labels, serving: Serving) -> Candidates:
        """Represent labels over the served anchors; the last few questions are remembered."""
        known = serving.labels.find(labels)
        if known is None:
            known = self._represented(labels, lambda texts: self.encode_texts(texts, serving.anchors), serving)
            serving.labels.keep(labels, known)
        return known

    def _represented(
        self, labels: Labels, encode: Callable[[Sequence[str]], Embeddings], serving: Serving
    ) -> Candidates:
        role = serving.roles["classify"]
        return self._corrected(represent_labels(labels, encode, role.fitted, self.kernel), role)

    def _corrected(self, candidates: Candidates, role: Role, queries: Side = "image") -> Candidates:
        """Give candidates their biases; the anchors' side of the queries is the bank."""
        hubness = role.choice.hubness
        if hubness.method == "none":
            return candidates
        return replace(candidates, biases=hubness.compute_biases(candidates.rows, role.bank(queries), self.kernel))

    def classify(
        self,
        images: Iterable[ImageSource],
        labels: Labels,
        *,
        top: int = 5,
        explain: int = 0,
        credits: bool = False,
        anchors: str | None = None,
        where: str | None = None,
        licences: Sequence[str] | None = None,
    ) -> Iterator[tuple[OpenAnchors, Result]]:
        """Label images; yields one result per image, in order, with the anchors that produced it.

        `explain` is how many anchors to name behind the first label, `credits` asks for all pairs behind it. `anchors`,
        `where` and `licences` say which anchors answer, those served if none of them is given. An image that cannot be
        decoded gives a result with an error and does not stop the others. What answers is what was meant at the time of
        the call.
        """
        return self._classify(self._asked(anchors, where, licences), images, labels, Wanted(top, explain, credits))

    def _classify(
        self, serving: Serving, images: Iterable[ImageSource], labels: Labels, wanted: Wanted
    ) -> Iterator[tuple[OpenAnchors, Result]]:
        encoder = self.image_encoder(serving.anchors)
        started = time.perf_counter()
        candidates = self._labels(labels, serving)
        label_ms = 1000 * (time.perf_counter() - started)
        for some, embeddings, encode_ms in encoded(encoder, images):
            answers = iter(answer(serving.roles["classify"], candidates, labels, embeddings, wanted))
            for source, error in some:
                name = "bytes" if isinstance(source, bytes) else str(source)
                if error is not None:
                    yield serving.anchors, Result(name, error=error, anchors=serving.anchors.named)
                    continue
                found = next(answers)
                timings = {"labels": label_ms, "encode": encode_ms, **found.timings_ms}
                yield serving.anchors, replace(found, image=name, timings_ms=timings)

    def classify_vectors(
        self,
        images: Embeddings,
        labels: Labels,
        label_vectors: Embeddings | None = None,
        *,
        top: int = 5,
        explain: int = 0,
        credits: bool = False,
        anchors: str | None = None,
        where: str | None = None,
        licences: Sequence[str] | None = None,
    ) -> list[Result]:
        """Label image vectors [n, di]; `label_vectors` [labels x templates, dt] stand in for the text encoder.

        They are in the order of `labels.prompts()`; raises UsageError where there are more or fewer. For the rest see
        `classify`.
        """
        serving = self._asked(anchors, where, licences)
        if label_vectors is None:
            candidates = self._labels(labels, serving)
        else:
            prompts, rows = len(labels.prompts()), iter(label_vectors.values)
            if len(label_vectors) != prompts:
                raise UsageError(
                    f"{len(label_vectors)} label vectors",
                    f"{prompts}: one per label and template, label by label",
                    "encode every prompt, in this order",
                )

            def encode(texts: Sequence[str]) -> Embeddings:
                return Embeddings(np.stack(list(islice(rows, len(texts)))))

            candidates = self._represented(labels, encode, serving)
        return answer(serving.roles["classify"], candidates, labels, images, Wanted(top, explain, credits))

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
        """Score candidates of the other side for queries of `side`: yields [some, c] for some queries after others.

        A correction for hubness holds candidates against the anchors' side of the queries. Memory: one block of at
        most 16 million scores, and the candidates' rows.
        """
        return self._score_blocks(self._asked(anchors, where, licences).roles["search"], side, queries, candidates)

    def _score_blocks(self, role: Role, side: Side, queries: Embeddings, candidates: Embeddings) -> Iterator[Float32]:
        rows = role.fitted.represent(OTHER[side], candidates, self.kernel)
        facing = self._corrected(Candidates(rows), role, side)
        step = max(1, BLOCK_SCORES // max(1, len(candidates)))
        for start in range(0, len(queries), step):
            some = Embeddings(queries.values[start : start + step])
            yield scores(role.fitted.represent(side, some, self.kernel), facing)
