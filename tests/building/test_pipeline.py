"""A build is a pipeline: what it makes is what a plain loop makes; its stages run at once, and end together."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.build_fakes import (
    OPERATION,
    FakeImages,
    FakeTexts,
    ListSource,
    build_set,
    identity,
    list_source,
    reject_lines,
    some_rows,
)
from support.examples import examples
from support.running_threads import SECONDS, check_threads_end, wait_until
from support.sequential_build import encode_rows_in_turn
from support.table_source import TableSource

from asif.anchorset import Journal, Store
from asif.building import BuildOptions, Tolerance, build_anchor_set
from asif.errors import AsifError, Interrupted, OutOfSpace
from asif.pairs import Pair, Reject
from asif.vectors import Fingerprint, Float32

SEGMENT = 16
ROWS = 100
threads_end = pytest.fixture(autouse=True)(check_threads_end)


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.building.build.SEGMENT_ROWS", SEGMENT)


# the same as a plain loop


KINDS = [
    "good",
    "two captions",
    "no id",
    "same id",
    "same row",
    "conflict",
    "bad",
    "no row",
    "left out",
    "vectors",
    "zero",
    "apart",
    "apart, same row",
    "apart, conflict",
]


def make_items(kinds: Sequence[str]) -> list[Pair | Reject]:
    """Make a row of each kind; ids that are repeated repeat that of the row before, or of an earlier one if apart."""
    items: list[Pair | Reject] = []
    for row, kind in enumerate(kinds):
        before = items[-1] if items else None
        name = None if kind == "no id" else f"id-{row}"
        image, captions = b"image %d" % row, (f"caption {row % 5}", "more")[: 2 if kind == "two captions" else 1]
        if kind in ("same id", "same row", "conflict") and isinstance(before, Pair) and before.image:
            name, image = before.id, b"other" if kind == "conflict" else before.image  # type: ignore[assignment]
            captions = before.captions if kind == "same row" else captions
        if kind == "bad":
            image = b"bad %d" % row
        earlier = [each for each in items[:-1] if isinstance(each, Pair) and each.id is not None]
        if kind.startswith("apart") and earlier:
            items.append(repeat_pair(earlier[row * 7 % len(earlier)], row, kind))
            continue
        if kind in ("no row", "left out"):
            items.append(Reject(row, name, "status: failed" if kind == "left out" else "image is null"))
        elif kind == "vectors":
            items.append(
                Pair(
                    row,
                    name,
                    None,
                    captions,
                    image_embedding=np.arange(row, row + 6, dtype=np.float32),
                    text_embedding=np.arange(row + 1, row + 5, dtype=np.float32),
                )
            )
        elif kind == "zero":
            items.append(Pair(row, name, b"zero", captions))
        else:
            items.append(Pair(row, name, image, captions))
    return items


def repeat_pair(pair: Pair, row: int, kind: str) -> Pair:
    """Make another row of a pair, with a caption or a text vector of its own, or of its id with another image."""
    if kind == "apart, same row":
        return replace(pair, row=row)
    if kind == "apart, conflict":
        return replace(pair, row=row, image=b"other %d" % row, image_embedding=None, text_embedding=None)
    vector = None if pair.text_embedding is None else np.arange(row + 1, row + 5, dtype=np.float32)
    return replace(pair, row=row, captions=(f"caption {row}",), text_embedding=vector)


def observe(home: Path, source: Any, batch: int, full: int | None = None, **options: Any) -> list[Any]:
    """Build, and return all that can be seen of it: segments, rows done, images in order, then the set or the error.

    The disk is full at the segment `full`.
    """
    segments: list[Any] = []
    progress: list[int] = []
    image = FakeImages(batch=batch, odd={b"zero": [0.0] * 6})
    append = Journal.append

    def record(self: Journal, records: Any, images: Float32, texts: Float32, rejects: Any, *others: Any) -> None:
        if len(segments) == full:
            raise OutOfSpace("disk", "room", "free some")
        segments.append([list(records), images.tobytes(), texts.tobytes(), list(rejects), *map(repr, others)])
        append(self, records, images, texts, rejects, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "append", record)
        try:
            arguments = (
                source,
                Store(home),
                "toy",
                image,
                FakeTexts(),
                BuildOptions(**options),
                OPERATION,
                progress.append,
            )
            built = build_anchor_set(*arguments)
        except AsifError as error:  # by then more or fewer images were encoded
            return [segments, progress, str(error)]
    counts = built.rows, built.joined, built.clock.images, built.clock.texts
    return [segments, progress, image.seen, counts, identity(built.anchors), reject_lines(home, built.anchors)]


@settings(max_examples=examples(15), deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=30),
    table=st.booleans(),
    full=st.none() | st.integers(0, 4),
    batch=st.integers(1, 6),
    segment=st.integers(1, 9),
    captions=st.sampled_from(["mean", "first", "all"]),
    allowed=st.integers(0, 8),
)
def test_a_build_is_what_a_plain_loop_makes(
    tmp_path_factory: pytest.TempPathFactory,
    kinds: list[str],
    table: bool,
    full: int | None,
    batch: int,
    segment: int,
    captions: Any,
    allowed: int,
) -> None:
    """Rows of one pair may be apart in a table. A build that a full disk stops is resumed."""
    items = make_items(kinds)
    source = TableSource.of(*items) if table else ListSource(items)

    def build() -> list[Any]:
        home, options = (
            tmp_path_factory.mktemp("home"),
            {"captions": captions, "max_bad_rows": Tolerance(number=allowed)},
        )
        return [observe(home, source, batch, stop, **options) for stop in (full, None)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asif.building.build.SEGMENT_ROWS", segment)
        found = build()
        patch.setattr("asif.building.build.encode_rows", partial(encode_rows_in_turn, segment_rows=segment))
        assert found == build()


# at once


class MeetingTexts(FakeTexts):
    """Meet the image encoder in a forward pass."""

    meeting: threading.Barrier

    def forward(self, texts: Sequence[str]) -> Float32:
        self.meeting.wait(SECONDS)
        return super().forward(texts)


class HookedImages(FakeImages):
    """Call `before` with each batch before it is encoded, `preparing` with each image before it is decoded."""

    before: Callable[[Sequence[bytes]], object] = staticmethod(lambda prepared: None)
    preparing: Callable[[bytes], object] = staticmethod(lambda source: None)

    def prepare(self, source: Any) -> bytes:
        self.preparing(source)
        return super().prepare(source)

    def forward(self, prepared: Sequence[bytes]) -> Float32:
        self.before(prepared)
        return super().forward(prepared)


def test_images_and_captions_of_a_segment_are_encoded_at_once(tmp_path: Path) -> None:
    """Both encoders are in a forward pass at the same moment, or the barrier breaks."""
    meeting = threading.Barrier(2)
    image, text = HookedImages(), MeetingTexts()
    image.before = lambda prepared: meeting.wait(SECONDS) if b"image 0" in prepared else None
    text.meeting = meeting
    rows = some_rows(SEGMENT)
    assert identity(build_set(list_source(*rows), tmp_path / "a", image, text).anchors) == identity(
        build_set(list_source(*rows), tmp_path / "b").anchors
    )


def test_two_encoders_on_torch_run_in_one_thread(tmp_path: Path) -> None:
    running: list[Any] = []
    threads: set[int] = set()

    @dataclass
    class OnTorch:
        encoder: Any

        def __getattr__(self, name: str) -> Any:
            return getattr(self.encoder, name)

        @property
        def fingerprint(self) -> Fingerprint:
            return Fingerprint({**self.encoder.fingerprint.fields, "backend": "torch"})

        def forward(self, inputs: Any) -> Any:
            running.append(self)
            threads.add(threading.get_ident())
            assert running == [self]
            time.sleep(0.002)
            running.remove(self)
            return self.encoder.forward(inputs)

    built = build_set(list_source(*some_rows(ROWS)), tmp_path, OnTorch(FakeImages()), OnTorch(FakeTexts()))
    assert len(threads) == 1
    both = built.clock.image_seconds + built.clock.text_seconds
    assert built.clock.encoder_seconds == pytest.approx(both)  # a wait for the other is no time of its own


def test_images_are_encoded_while_a_segment_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first segment is written only when images of the second are being encoded."""
    second = threading.Event()
    image, append = HookedImages(), Journal.append
    image.before = lambda prepared: second.set() if b"image 16" in prepared else None

    def wait(self: Journal, *args: Any) -> None:
        assert second.wait(SECONDS)
        append(self, *args)

    monkeypatch.setattr(Journal, "append", wait)
    assert build_set(list_source(*some_rows(ROWS)), tmp_path, image).anchors.count == ROWS


def test_captions_are_encoded_while_a_segment_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first segment is written only when captions of the fourth are being encoded."""
    later, append = threading.Event(), Journal.append

    class Texts(FakeTexts):
        def forward(self, texts: Sequence[str]) -> Float32:
            if "caption 60" in texts:
                later.set()
            return super().forward(texts)

    def wait(self: Journal, *args: Any) -> None:
        assert later.wait(SECONDS)
        append(self, *args)

    monkeypatch.setattr(Journal, "append", wait)
    assert build_set(list_source(*some_rows(ROWS)), tmp_path, text=Texts()).anchors.count == ROWS


def test_images_are_decoded_by_several_threads(tmp_path: Path) -> None:
    image, meeting = HookedImages(), threading.Barrier(2)
    image.preparing = lambda source: meeting.wait(SECONDS) if source in (b"image 0", b"image 1") else None
    assert build_set(list_source(*some_rows(4)), tmp_path, image).anchors.count == 4


# bounded


def test_a_writer_that_waits_stops_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most two segments are encoded, 63 images decoded and 16 rows read ahead, one is joined and one looked at."""
    most = 2 * SEGMENT + 63 + SEGMENT + 2
    read: list[int] = []
    seen: list[int] = []
    append = Journal.append

    def write(self: Journal, *args: Any) -> None:
        if not seen:
            wait_until(lambda: len(read) >= most)
            seen.append(len(read))
        append(self, *args)

    monkeypatch.setattr(Journal, "append", write)
    build_set(ListSource(list_source(*some_rows(400)).items, before=read.append), tmp_path)
    assert seen == [most]
    assert len(read) == 400


def test_few_large_images_wait_for_the_encoder(tmp_path: Path) -> None:
    """Four images of 16 MiB are 64 MiB."""

    class Pixels(bytes):
        nbytes = 16 << 20

    decoded: list[bytes] = []
    ahead: list[int] = []

    class Images(HookedImages):
        def prepare(self, source: Any) -> bytes:
            decoded.append(source)
            return Pixels(super().prepare(source))

    image = Images(batch=1)
    image.before = lambda prepared: ahead.append(len(decoded) - len(image.seen))
    build_set(list_source(*some_rows(40)), tmp_path, image)
    assert max(ahead) <= 8 and max(ahead[8:]) <= 5  # with the one that is encoded


# errors


def fail_at(stage: str, error: BaseException, row: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return a source and encoders of which a stage fails at a row; the writer fails in the segment of that row."""

    def fail(found: bool) -> None:
        if found:
            raise error

    name, append = b"image %d" % row, Journal.append
    image, items = HookedImages(), list_source(*some_rows(ROWS)).items
    source = ListSource(items, before=lambda at: fail(stage == "read" and at == row))
    if stage == "decode":
        image.preparing = lambda content: fail(content == name)
    if stage == "encode_images":
        image.before = lambda prepared: fail(name in prepared)

    class Texts(FakeTexts):
        def forward(self, texts: Sequence[str]) -> Float32:
            fail(stage == "encode_texts" and f"caption {row}" in texts)
            return super().forward(texts)

    def write(self: Journal, records: Any, image: Any, text: Any, rejects: Any, done: int, *others: Any) -> None:
        fail(stage == "write" and done > row)
        append(self, records, image, text, rejects, done, *others)

    monkeypatch.setattr(Journal, "append", write)
    return {"source": source, "image": image, "text": Texts()}


STAGES = ["read", "decode", "encode_images", "encode_texts", "write"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("error", "row"), [(MemoryError(), 0), (OutOfSpace("disk", "room", "free some"), 90)])
def test_an_error_stops_every_stage_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, error: BaseException, row: int
) -> None:
    with monkeypatch.context() as patch, pytest.raises(type(error)) as caught:
        build_set(home=tmp_path, **fail_at(stage, error, row, patch))
    assert caught.value is error
    resumed = build_set(list_source(*some_rows(ROWS)), tmp_path)
    ahead = 63 if stage == "read" else 0  # a row that cannot be read is met when it is to be decoded
    assert resumed.resumed_at == max(row - ahead, 0) // SEGMENT * SEGMENT
    whole = build_set(list_source(*some_rows(ROWS)), tmp_path / "whole").anchors
    assert identity(resumed.anchors) == identity(whole)


def test_an_error_of_the_progress_bar_stops_the_build(tmp_path: Path) -> None:
    def fail(rows: int) -> None:
        if rows == 32:
            raise RuntimeError("no bar")

    arguments = (list_source(*some_rows(ROWS)), Store(tmp_path), "toy", FakeImages(), FakeTexts(), BuildOptions())
    with pytest.raises(RuntimeError, match="no bar"):
        build_anchor_set(*arguments, OPERATION, fail)
    assert build_set(list_source(*some_rows(ROWS)), tmp_path).resumed_at in (32, 48)


def test_a_full_disk_is_told_before_the_error_of_a_later_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The segment before that row could not be written: a plain loop would not have come so far."""
    failed = threading.Event()

    def write(self: Journal, *args: Any) -> None:
        assert failed.wait(SECONDS)
        raise OutOfSpace("disk", "room", "free some")

    monkeypatch.setattr(Journal, "append", write)
    image = HookedImages()

    def fail(prepared: Sequence[bytes]) -> None:
        if b"image 16" in prepared:
            failed.set()
            raise RuntimeError("broken")

    image.before = fail
    with pytest.raises(OutOfSpace):
        build_set(list_source(*some_rows(ROWS)), tmp_path, image)


# Ctrl-C


@pytest.fixture
def press_ctrl_c() -> Iterator[Callable[[], None]]:
    """Return a function that interrupts the main thread, as Ctrl-C does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="signals as Unix has them")
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("row", [0, 70])
def test_ctrl_c_in_every_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, press_ctrl_c: Callable[[], None], stage: str, row: int
) -> None:
    pressed = threading.Event()

    def press(found: bool) -> None:
        if found and not pressed.is_set():
            pressed.set()
            press_ctrl_c()

    image, append = HookedImages(), Journal.append
    items = list_source(*some_rows(ROWS)).items
    source = ListSource(items, before=lambda at: press(stage == "read" and at == row))
    image.preparing = lambda content: press(stage == "decode" and content == b"image %d" % row)
    image.before = lambda prepared: press(stage == "encode_images" and b"image %d" % row in prepared)

    class Texts(FakeTexts):
        def forward(self, texts: Sequence[str]) -> Float32:
            press(stage == "encode_texts" and f"caption {row}" in texts)
            return super().forward(texts)

    def write(self: Journal, records: Any, image: Any, text: Any, rejects: Any, done: int, *others: Any) -> None:
        press(stage == "write" and done > row)
        append(self, records, image, text, rejects, done, *others)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", write)
        with pytest.raises(Interrupted) as caught:
            build_set(source, tmp_path, image, Texts())
    kept = int(caught.value.came.split()[3].replace(",", ""))
    assert kept % SEGMENT == 0
    resumed = build_set(list_source(*some_rows(ROWS)), tmp_path)
    assert resumed.resumed_at == kept
    whole = build_set(list_source(*some_rows(ROWS)), tmp_path / "whole").anchors
    assert identity(resumed.anchors) == identity(whole)
