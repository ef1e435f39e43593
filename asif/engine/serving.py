"""The engine: one anchor set at a time answers, and is swapped for another between two calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from asif.aligners import Aligner, Fitted, Hubness
from asif.aligners.hubness import bank
from asif.anchorset import AnchorSet, default_home
from asif.classify import Labels, represent_labels
from asif.compare import Candidates, best_row, rank, scores
from asif.encoders import (
    Device,
    ImageEncoder,
    ImageSource,
    TextEncoder,
    load_image_encoder,
    load_text_encoder,
)
from asif.encoders.ahead import ahead
from asif.encoders.cache import TextCache
from asif.encoders.precomputed import PrecomputedEncoder
from asif.engine.choosing import Choice, choose
from asif.engine.fitting import fit
from asif.engine.opening import DEFAULT_ANCHORS, open_anchors
from asif.errors import BadImage, EncoderMismatch, UsageError
from asif.explain import Contributions, contributions
from asif.kernels import Engine as Kernel
from asif.pairs import PairRecord
from asif.tuning import TASKS, Task
from asif.vectors import Embeddings, Float32, Rows, Side

BATCH = 64
BLOCK_SCORES = 1 << 24
OTHER: dict[Side, Side] = {"image": "text", "text": "image"}
KEPT_LABELS = 8


@dataclass(frozen=True)
class Prediction:
    """One label and its raw score, a cosine between relative representations in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True)
class Evidence:
    """The anchors behind the first prediction: what each is, and what it adds to the score.

    `hubness` was taken off: the prediction's score is the sum of all contributions less it.
    """

    contributions: Contributions
    records: tuple[PairRecord, ...]
    hubness: float = 0.0


@dataclass(frozen=True)
class Result:
    """One image's labels, best first, or in `error` why it could not be read."""

    image: str
    predictions: tuple[Prediction, ...] = ()
    evidence: Evidence | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    error: BadImage | None = None


@dataclass(frozen=True)
class Role:
    """An aligner for one task, fitted to the served anchors when first needed; the banks of its hubness correction."""

    choice: Choice
    anchors: AnchorSet
    kernel: Kernel = "auto"
    banks: dict[Side, Rows] = field(default_factory=dict)

    @cached_property
    def fitted(self) -> Fitted:
        return fit(self.choice.aligner, self.anchors, self.kernel)


@dataclass(frozen=True)
class Serving:
    """One anchor set as it is served; a call keeps the one it began with to its end."""

    anchors: AnchorSet
    roles: Mapping[Task, Role]
    labels: dict[Labels, Candidates] = field(default_factory=dict)


class Engine:
    """Answer questions with one anchor set at a time; `swap` changes it between two calls.

    `anchors` is a reference (`name`, `name@alias`, `name@3`, or a path); `home` the store, by default ASIF_HOME or
    the user's data folder. `aligner` None means what suits the set: its profile for the task, where it was tuned, see
    `choose`; `hubness` None means the profile's correction, or none beside an aligner that is named. Encoders are
    loaded when first needed, shared between sets, and checked against the set's fingerprints: EncoderMismatch names
    what differs.
    """

    def __init__(
        self,
        anchors: str = DEFAULT_ANCHORS,
        *,
        home: Path | None = None,
        aligner: Aligner | None = None,
        hubness: Hubness | None = None,
        device: Device = "auto",
        kernel: Kernel = "auto",
    ) -> None:
        self.home = home or default_home()
        self._aligner = aligner
        self._hubness = hubness
        self.device: Device = device
        self.kernel: Kernel = kernel
        self._cache = TextCache(self.home / "cache" / "texts.sqlite")
        self._encoders: dict[tuple[Side, str], Any] = {}
        self._serving = self._open(anchors)

    @property
    def anchors(self) -> AnchorSet:
        """Return the anchor set that new calls use."""
        return self._serving.anchors

    def role(self, task: Task = "classify") -> Role:
        """Return which aligner and hubness correction new calls use for a task."""
        return self._serving.roles[task]

    def swap(self, ref: str) -> AnchorSet:
        """Serve another anchor set from the next call on; calls in flight finish on the old one.

        If the new set cannot be opened, or was made with other encoders than the loaded ones of the same name, the
        error is raised and the old set goes on serving.
        """
        self._serving = self._open(ref)
        return self._serving.anchors

    def _open(self, ref: str) -> Serving:
        anchors = open_anchors(ref, home=self.home, device=self.device)
        for (side, spec), encoder in self._encoders.items():
            if anchors.encoder_spec(side) == spec:
                check_fingerprint(anchors, side, encoder)
        roles: dict[Task, Role] = {
            task: Role(choose(anchors, task, self._aligner, self._hubness), anchors, self.kernel) for task in TASKS
        }
        return Serving(anchors, roles)

    def image_encoder(self, anchors: AnchorSet) -> ImageEncoder:
        """Return the image encoder of a set, loaded and checked."""
        encoder: ImageEncoder = self._encoder(anchors, "image", load_image_encoder)
        return encoder

    def text_encoder(self, anchors: AnchorSet) -> TextEncoder:
        """Return the text encoder of a set, loaded and checked."""
        encoder: TextEncoder = self._encoder(anchors, "text", load_text_encoder)
        return encoder

    def _encoder(self, anchors: AnchorSet, side: Side, load: Callable[[str, Device], Any]) -> Any:
        spec = anchors.encoder_spec(side)
        if spec == "precomputed":
            return PrecomputedEncoder(side, anchors.dims[side])
        if (side, spec) not in self._encoders:
            encoder = load(spec, self.device)
            check_fingerprint(anchors, side, encoder)
            self._encoders[side, spec] = encoder
        return self._encoders[side, spec]

    def encode_texts(self, texts: Sequence[str], anchors: AnchorSet | None = None) -> Embeddings:
        """Encode texts with the set's text encoder; what was encoded before comes from the cache on disk."""
        anchors = anchors or self.anchors
        fingerprint, dim = anchors.fingerprint("text").digest, anchors.dims["text"]
        known = self._cache.get(fingerprint, texts, dim)
        missing = sorted(set(texts) - set(known))
        if missing:
            fresh = Embeddings.from_raw(self.text_encoder(anchors).forward(missing)).values
            new = dict(zip(missing, fresh, strict=True))
            self._cache.put(fingerprint, new)
            known |= new
        return Embeddings(np.stack([known[text] for text in texts]))

    def _labels(self, labels: Labels, serving: Serving) -> Candidates:
        """Represent labels over the served anchors; the last few questions are remembered."""
        known = serving.labels.get(labels)
        if known is None:

            def encode(texts: Sequence[str]) -> Embeddings:
                return self.encode_texts(texts, serving.anchors)

            role = serving.roles["classify"]
            known = self._corrected(represent_labels(labels, encode, role.fitted, self.kernel), serving, role)
            for oldest in list(serving.labels)[: 1 - KEPT_LABELS]:
                serving.labels.pop(oldest, None)
            serving.labels[labels] = known
        return known

    def _corrected(self, candidates: Candidates, serving: Serving, role: Role, queries: Side = "image") -> Candidates:
        """Give candidates their biases; the anchors' side of the queries is the bank."""
        hubness = role.choice.hubness
        if hubness.method == "none":
            return candidates
        if queries not in role.banks:
            role.banks[queries] = bank(role.fitted, serving.anchors, queries, self.kernel)
        return replace(candidates, biases=hubness.biases(candidates.rows, role.banks[queries], self.kernel))

    def classify(
        self, images: Iterable[ImageSource], labels: Labels, *, top: int = 5, explain: int = 0
    ) -> Iterator[tuple[AnchorSet, Result]]:
        """Label images; yields one result per image, in order, with the anchor set that produced it.

        `explain` is how many anchors to name behind the first label. An image that cannot be decoded gives a result
        with an error and does not stop the others. The set is the one served at the time of the call.
        """
        return self._classify(self._serving, images, labels, top, explain)

    def _classify(
        self, serving: Serving, images: Iterable[ImageSource], labels: Labels, top: int, explain: int
    ) -> Iterator[tuple[AnchorSet, Result]]:
        encoder = self.image_encoder(serving.anchors)
        started = time.perf_counter()
        candidates = self._labels(labels, serving)
        label_ms = 1000 * (time.perf_counter() - started)
        for some, embeddings, encode_ms in encoded(encoder, images):
            answers = iter(self._answer(serving, candidates, labels, embeddings, top, explain))
            for source, error in some:
                name = "bytes" if isinstance(source, bytes) else str(source)
                if error is not None:
                    yield serving.anchors, Result(name, error=error)
                    continue
                answer = next(answers)
                timings = {"labels": label_ms, "encode": encode_ms, **answer.timings_ms}
                yield serving.anchors, replace(answer, image=name, timings_ms=timings)

    def encode_images(self, images: Iterable[ImageSource]) -> Iterator[Float32 | BadImage]:
        """Encode images with the set's image encoder: yields for each, in order, a unit vector [di], or the error."""
        for some, embeddings, _ in encoded(self.image_encoder(self.anchors), images):
            vectors = iter(() if embeddings is None else embeddings.values)
            for _, error in some:
                yield next(vectors) if error is None else error

    def score_blocks(self, side: Side, queries: Embeddings, candidates: Embeddings) -> Iterator[Float32]:
        """Score candidates of the other side for queries of `side`: yields [some, c] for some queries after others.

        A correction for hubness holds candidates against the anchors' side of the queries. Memory: one block of at
        most 16 million scores, and the candidates' rows.
        """
        serving, other = self._serving, OTHER[side]
        role = serving.roles["search"]
        rows = role.fitted.represent(other, candidates, self.kernel)
        facing = self._corrected(Candidates(rows), serving, role, side)
        step = max(1, BLOCK_SCORES // max(1, len(candidates)))
        for start in range(0, len(queries), step):
            some = Embeddings(queries.values[start : start + step])
            yield scores(role.fitted.represent(side, some, self.kernel), facing)

    def classify_vectors(
        self,
        images: Embeddings,
        labels: Labels,
        label_vectors: Embeddings | None = None,
        *,
        top: int = 5,
        explain: int = 0,
    ) -> list[Result]:
        """Label image vectors [n, di]; `label_vectors` [labels x templates, dt] stand in for the text encoder.

        They are in the order of `labels.prompts()`; raises UsageError where there are more or fewer.
        """
        serving = self._serving
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

            role = serving.roles["classify"]
            candidates = self._corrected(represent_labels(labels, encode, role.fitted, self.kernel), serving, role)
        return self._answer(serving, candidates, labels, images, top, explain)

    def _answer(
        self,
        serving: Serving,
        candidates: Candidates,
        labels: Labels,
        images: Embeddings | None,
        top: int,
        explain: int,
    ) -> list[Result]:
        """Represent image embeddings, rank the labels and take the first score apart."""
        if images is None or not len(images):
            return []
        started, fitted = time.perf_counter(), serving.roles["classify"].fitted
        rows = fitted.represent("image", images, self.kernel)
        represented = time.perf_counter()
        found = rank(rows, candidates, top)
        compared = time.perf_counter()
        timings = {
            "represent": 1000 * (represented - started) / len(images),
            "compare": 1000 * (compared - represented) / len(images),
        }
        results = []
        for at, (indices, values) in enumerate(zip(found.indices, found.scores, strict=True)):
            evidence = None
            if explain:
                query = rows[at : at + 1]
                row = best_row(query, candidates, int(indices[0]))
                split = contributions(fitted.parts(query, candidates.rows[row : row + 1]), explain)
                hubness = 0.0 if candidates.biases is None else float(candidates.biases[row])
                evidence = Evidence(split, tuple(serving.anchors.records(split.anchors)), hubness)
            predictions = tuple(
                Prediction(labels.labels[label], float(score)) for label, score in zip(indices, values, strict=True)
            )
            results.append(Result(f"vector {at}", predictions, evidence, timings))
        return results


def encoded(
    encoder: ImageEncoder, images: Iterable[ImageSource]
) -> Iterator[tuple[list[tuple[ImageSource, BadImage | None]], Embeddings | None, float]]:
    """Encode a batch at a time: the sources with their errors, embeddings of those without, milliseconds for each."""

    def prepare(source: ImageSource) -> tuple[ImageSource, Any]:
        try:
            return source, encoder.prepare(source)
        except BadImage as error:
            return source, error

    prepared = ahead(prepare, images)
    while some := list(islice(prepared, BATCH)):
        started = time.perf_counter()
        good = [tensor for _, tensor in some if not isinstance(tensor, BadImage)]
        embeddings = Embeddings.from_raw(encoder.forward(good)) if good else None
        encode_ms = 1000 * (time.perf_counter() - started) / max(1, len(good))
        judged = [(source, tensor if isinstance(tensor, BadImage) else None) for source, tensor in some]
        yield judged, embeddings, encode_ms


def check_fingerprint(anchors: AnchorSet, side: Side, encoder: ImageEncoder | TextEncoder) -> None:
    """Refuse an encoder that is not the one the anchors were made with, naming what differs."""
    theirs = anchors.fingerprint(side)
    if theirs == encoder.fingerprint:
        return
    differing = theirs.differences(encoder.fingerprint)
    details = "; ".join(f"{name}: {was!r} in the set, {now!r} here" for name, (was, now) in differing.items())
    raise EncoderMismatch(
        f"{side} encoder {encoder.spec} with fingerprint {encoder.fingerprint.digest[:12]} ({details})",
        f"fingerprint {theirs.digest[:12]}, with which {anchors.ref} was made",
        f"build the anchors anew with this encoder: asif build-anchors PAIRS --name {anchors.name} "
        f"--{side}-encoder {encoder.spec}",
    )
