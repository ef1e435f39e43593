"""A service as its routes see it: what is served, the callers, the queue, the limits."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from asif.anchorset import Gallery
from asif.encoders.images import measure_image
from asif.engine import Engine
from asif.engine.encoder_pool import EncoderPool
from asif.errors import BadImage, BadMedia
from asif.modality import find_modality
from asif.service.config import ServeConfig
from asif.service.encode_queue import Encoded, EncodeQueue
from asif.service.fetch import Fetcher
from asif.service.keys import OWNER, Grant, KeyRing
from asif.service.metrics import Metrics
from asif.service.problem import Problem
from asif.service.schemas import ImageFile, ImageUrl, UploadedImage
from asif.service.slots import AnchorsSlot, GallerySlot
from asif.service.worker_board import WorkerBoard
from asif.tuning.criteria import TASKS
from asif.vectors import Float32

Result = TypeVar("Result")
_THREADS = 8


@dataclass(frozen=True)
class Call:
    """One request: who calls, until when he waits, and which anchors he expects, if he says so."""

    grant: Grant
    deadline: float
    expected_anchors: tuple[str, ...] = ()


class Service:
    """Hold what all requests share. `start` loads it, before which no request is answered."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.limits = config.limits
        self.keys = KeyRing(config.grants)
        self.metrics = Metrics()
        self.queue = EncodeQueue(config.limits.queue_items, config.limits.queue_bytes, self.metrics)
        self.fetcher = Fetcher(config.fetch_hosts, config.limits.body_bytes)
        self.anchors: dict[str, AnchorsSlot] = {}
        self.galleries: dict[str, GallerySlot] = {}
        self._images_per_pass: dict[str, int] = {}
        self.is_ready = self.is_draining = False
        self.failure: Exception | None = None
        self.when_started: Callable[[], None] = lambda: None
        self._threads = ThreadPoolExecutor(_THREADS, "asif-answer")
        self._changes = ThreadPoolExecutor(_THREADS, "asif-change")

    def start(self) -> None:
        """Open everything that is served, and load the encoders; raises what that raises."""
        config = self.config
        encoders = EncoderPool(config.home / "cache", config.device, config.backend)  # type: ignore[arg-type]
        board = WorkerBoard(config.state)
        for ref in config.anchors:
            slot = AnchorsSlot(ref, encoders, config.home, board, self.metrics)
            self.anchors[slot.name] = slot
            images = encoders.load_image_encoder(slot.anchors)
            self._images_per_pass[slot.anchors.fingerprint("image").digest] = images.batch
            encoders.load_text_encoder(slot.anchors)
            for task in TASKS if config.galleries else TASKS[:1]:  # fitted before requests are answered
                slot.find_engine(OWNER).role(task).warm()
        for ref in config.galleries:
            gallery = GallerySlot(ref, config.home)
            gallery.open()
            self.galleries[gallery.name] = gallery
        gc.collect()
        gc.freeze()  # what stays is not looked at again by every collection
        self.is_ready = True

    def stop(self) -> None:
        """End all threads; what waits to be encoded is encoded first."""
        self.queue.stop()
        for slot in self.anchors.values():
            slot.close()
        self._changes.shutdown()
        self._threads.shutdown()

    # ---- names

    def find_anchors(self, grant: Grant, name: str | None) -> AnchorsSlot:
        """Return the anchors of a name, or the caller's first ones; unknown and forbidden names answer alike."""
        seen = [slot for slot in self.anchors.values() if grant.may_see_anchors(slot.name)]
        return _find_slot(seen, name, "anchors")

    def find_gallery(self, grant: Grant, name: str | None) -> GallerySlot:
        """Return the gallery of a name, or the caller's first one; unknown and forbidden names answer alike."""
        seen = [slot for slot in self.galleries.values() if grant.may_see_gallery(slot.name)]
        return _find_slot(seen, name, "gallery")

    # ---- work

    async def run(self, work: Callable[..., Result], *arguments: object, **named: object) -> Result:
        """Run a function in a thread of the service, so that other requests go on."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *arguments, **named))

    async def change(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Run a change in a thread of its own kind: changes wait for each other, answers never for them."""
        return await asyncio.get_running_loop().run_in_executor(self._changes, partial(work, *arguments))

    async def find_engine(self, call: Call, name: str | None) -> tuple[AnchorsSlot, Engine]:
        """Return the anchors of a name, and the caller's engine over them, if they are those that he expects."""
        slot = self.find_anchors(call.grant, name)
        engine = slot.get_engine(call.grant)
        if engine is None:
            engine = await self.run(slot.find_engine, call.grant)
        check_expected(call, [engine.anchors.named.digest, engine.anchors.named.version])
        return slot, engine

    async def open_gallery(self, call: Call, name: str | None) -> Gallery:
        """Return the current version of the gallery of a name."""
        return await self.run(self.find_gallery(call.grant, name).open)

    async def read_images(self, images: Sequence[ImageFile | ImageUrl], engine: Engine) -> list[bytes | BadMedia]:
        """Return the files of images, or of sounds where the engine's anchors pair these.

        They are fetched where they are given by URL; there is a BadMedia for each that cannot be used.
        """
        are_images = find_modality(engine.anchors, "image") == "image"
        return list(await asyncio.gather(*(self.run(self._read_image, image, are_images) for image in images)))

    def _read_image(self, image: ImageFile | ImageUrl, is_image: bool) -> bytes | BadMedia:
        try:
            content = image.content if isinstance(image, ImageFile | UploadedImage) else self.fetcher.fetch(image.url)
            if not is_image:
                return content
            width, height = measure_image(content)
            if width * height > self.limits.pixels:
                raise BadImage(
                    f"an image of {width}x{height} pixels", f"at most {self.limits.pixels:,} pixels", "make it smaller"
                )
        except BadMedia as error:
            return error
        return content

    def admit(self, images: Sequence[bytes | BadMedia], texts: Sequence[str] = ()) -> AbstractContextManager[None]:
        """Keep room in the queue for images and texts, as long as a request works; raises Problem, 429, without any."""
        files = [image for image in images if isinstance(image, bytes)]
        return self.queue.admit(len(files) + len(texts), sum(map(len, files)) + sum(map(len, texts)))

    async def encode_images(
        self, call: Call, engine: Engine, images: Sequence[bytes | BadMedia]
    ) -> tuple[list[Float32 | BadMedia], Encoded[Float32 | BadMedia]]:
        """Encode images together with those of other requests: a vector for each, or why there is none."""
        readable = [image for image in images if not isinstance(image, BadMedia)]
        encoder = engine.anchors.fingerprint("image").digest
        encoded: Encoded[Float32 | BadMedia] = await self.queue.encode(
            "image",
            encoder,
            readable,
            lambda some: list(engine.encode_images(some)),
            call.deadline,
            self._images_per_pass.get(encoder),
        )
        found = iter(encoded.results)
        return [image if isinstance(image, BadMedia) else next(found) for image in images], encoded

    async def encode_texts(self, call: Call, engine: Engine, texts: Sequence[str]) -> dict[str, Float32]:
        """Encode texts together with those of other requests of the tenant; they are in his cache afterwards."""
        distinct = list(dict.fromkeys(texts))
        encoded: Encoded[Float32] = await self.queue.encode(
            "text",
            (call.grant.tenant, engine.anchors.fingerprint("text").digest),
            distinct,
            lambda some: list(engine.encode_texts(some).values),
            call.deadline,
        )
        return dict(zip(distinct, encoded.results, strict=True))


def _find_slot(slots: Sequence[Result], name: str | None, kind: str) -> Result:
    for slot in slots:
        if name is None or slot.name == name:  # type: ignore[attr-defined]
            return slot
    wanted = f"there is no {kind} {name!r}" if name is not None else f"no {kind} is served"
    route = "/v1/anchors" if kind == "anchors" else "/v1/galleries"
    raise Problem(404, wanted, f"a name that GET {route} lists", "check the name")


def check_expected(call: Call, served: Sequence[str]) -> None:
    """Raise a Problem, 412, if the caller expects other anchors than the served ones, named by digest or version."""
    if call.expected_anchors and not set(call.expected_anchors) & set(served):
        raise Problem(
            412,
            f"the anchors {served[0]} are served, version {served[1]}",
            f"those of If-Anchors-Match: {', '.join(call.expected_anchors)}",
            "ask for the anchors that are served now",
        )
