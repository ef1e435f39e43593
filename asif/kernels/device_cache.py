"""How anchors in host memory come to devices: once, where they cannot change and fit; in a stream, where not.

Blocks that nobody can write to, as an anchor set maps them, stay on the device as long as they live and memory lasts:
further calls copy nothing. All others are copied for each call, through two buffers of pinned memory, while the device
computes.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, RLock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Block = NDArray[Any]

CHUNK_BYTES = 2**28  # of anchors on their way
SLAB_BYTES = 2**33  # of anchors that stay together
SHARE_BYTES = 2**30  # of anchors for which a further device is worth its while
SPARE_BYTES = 2**32  # of a device's memory that is left to searches
COPIERS = 4  # threads that fill pinned memory


@dataclass(frozen=True)
class Segment:
    """Hold anchors [n, d] that lie on one device, each row in one piece, and the index of the first of them."""

    rows: torch.Tensor
    first: int


@dataclass(frozen=True)
class Piece:
    """Hold some rows of a block, and the index of the first of them."""

    rows: Block
    first: int


def shares(anchors: Sequence[Block]) -> list[tuple[torch.device, Iterable[Segment]]]:
    """Deal anchors out to the devices, in contiguous parts of about equal size."""
    every = devices()
    if not isinstance(anchors, (list, tuple)):  # made as they are read: by one
        return [(every[0], streamed(numbered(anchors), every[0]))]
    pieces = [piece for piece in numbered(anchors) if len(piece.rows)]
    size = sum(piece.rows.nbytes for piece in pieces)
    count = max(1, min(len(every), size // SHARE_BYTES, len(pieces)))
    dealt: list[list[Piece]] = [[] for _ in range(count)]
    met = 0
    for piece in pieces:
        dealt[min(count - 1, met * count // size)].append(piece)
        met += piece.rows.nbytes
    return [(device, laid(some, device)) for device, some in zip(every, dealt, strict=False) if some]


def devices() -> list[torch.device]:
    """Name the devices that anchors are dealt out to."""
    current = torch.cuda.current_device()
    others = [at for at in range(torch.cuda.device_count()) if at != current]
    return [torch.device("cuda", at) for at in (current, *others)]


def numbered(anchors: Iterable[Block]) -> Iterator[Piece]:
    """Number the rows on from block to block."""
    first = 0
    for block in anchors:
        yield Piece(block, first)
        first += len(block)


def laid(pieces: list[Piece], device: torch.device) -> Iterable[Segment]:
    """Keep pieces on the device if they cannot change and there is room; else stream them."""
    lasting = all(unchanging(piece.rows) for piece in pieces)
    kept = SHELF.keep(pieces, device) if lasting else None
    return streamed(pieces, device) if kept is None else kept


def unchanging(block: Block) -> bool:
    """Tell whether nobody can write to an array: it views memory that is read-only, as a mapped file is.

    >>> rows = np.zeros((2, 3), np.float16)
    >>> frozen = np.frombuffer(bytes(12), np.float16).reshape(2, 3)
    >>> unchanging(rows), unchanging(frozen), unchanging(np.broadcast_to(rows[0], (4, 3)))
    (False, True, False)
    """
    owner: Any = block
    while isinstance(owner, np.ndarray):
        owner = owner.base
    try:
        return memoryview(owner).readonly
    except TypeError:  # an array that owns its memory, of which there may be writeable views
        return False


def storage(block: Block) -> tuple[np.dtype[Any], torch.dtype]:
    """Return how rows travel, and as what they arrive: bfloat16 by way of its bits, unknown types as float32."""
    if block.dtype == np.float16:
        return np.dtype(np.float16), torch.float16
    if block.dtype.name == "bfloat16" and block.dtype.isnative:
        return np.dtype(np.uint16), torch.bfloat16
    return np.dtype(np.float32), torch.float32


class Slab:
    """Hold anchors that stay together on a device, copied by whoever needs them first: others wait for that."""

    def __init__(self, pieces: list[Piece], device: torch.device) -> None:
        shape = (sum(len(piece.rows) for piece in pieces), pieces[0].rows.shape[1])
        self._rows = torch.empty(shape, dtype=storage(pieces[0].rows)[1], device=device)
        self._filled = False
        self._lock = Lock()

    def rows(self, pieces: list[Piece]) -> torch.Tensor:
        """Return the anchors, once they are there."""
        with self._lock:
            if not self._filled:
                with aside(self._rows.device):
                    for chunk in streamed(pieces, self._rows.device):
                        start = chunk.first - pieces[0].first
                        self._rows[start : start + len(chunk.rows)] = chunk.rows
                self._filled = True
        return self._rows


@contextmanager
def aside(device: torch.device) -> Iterator[None]:
    """Work on a stream of one's own, so that searches on the usual one do not wait; at the end all is done."""
    if device.type != "cuda":
        yield
        return
    usual, own = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    own.wait_stream(usual)  # memory that is used anew may still be in use there
    with torch.cuda.stream(own):
        yield
    own.synchronize()


class Shelf:
    """Keep anchors on devices, keyed weakly by the blocks they are copies of; the oldest go where room is needed.

    While some are on their way, others are found: the blocks of a set that is swapped in come while the old one serves.
    """

    def __init__(self) -> None:
        self._slabs: dict[tuple[Any, ...], Slab] = {}  # oldest first
        self._lock = RLock()

    def keep(self, pieces: list[Piece], device: torch.device) -> list[Segment] | None:
        """Return the pieces as segments that stay; None where they do not fit."""
        groups = list(grouped(pieces, SLAB_BYTES))
        keys = [(device, *(id(piece.rows) for piece in group)) for group in groups]
        with self._lock:
            missing = sum(size_of(group) for group, key in zip(groups, keys, strict=True) if key not in self._slabs)
            while missing > room(device):
                oldest = next((key for key in list(self._slabs) if key[0] == device and key not in keys), None)
                if oldest is None:
                    return None
                self._slabs.pop(oldest, None)
            slabs = []
            for group, key in zip(groups, keys, strict=True):
                slabs.append(self._slabs.pop(key) if key in self._slabs else self._made(group, key, device))
                self._slabs[key] = slabs[-1]
        return [Segment(slab.rows(group), group[0].first) for slab, group in zip(slabs, groups, strict=True)]

    def _made(self, pieces: list[Piece], key: tuple[Any, ...], device: torch.device) -> Slab:
        """Take room for blocks on the device; it is given back when one of them goes."""
        slab = Slab(pieces, device)
        for piece in pieces:
            weakref.finalize(piece.rows, self._slabs.pop, key, None).atexit = False
        return slab


SHELF = Shelf()


def room(device: torch.device) -> int:
    """Return how many bytes of anchors may still come to a device and stay."""
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + cached - SPARE_BYTES


def size_of(pieces: Iterable[Piece]) -> int:
    """Return how many bytes pieces take on a device."""
    return sum(piece.rows.size * storage(piece.rows)[0].itemsize for piece in pieces)


def grouped(pieces: Iterable[Piece], limit: int) -> Iterator[list[Piece]]:
    """Put consecutive pieces of one type together, up to a number of bytes."""
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        if group and (size + size_of([piece]) > limit or storage(piece.rows) != storage(group[0].rows)):
            yield group
            group, size = [], 0
        if len(piece.rows):
            group.append(piece)
            size += size_of([piece])
    if group:
        yield group


def sliced(pieces: Iterable[Piece], limit: int) -> Iterator[Piece]:
    """Cut pieces into such of at most so many bytes, and of a row at least."""
    for piece in pieces:
        step = max(1, limit // max(1, size_of([Piece(piece.rows[:1], 0)])))
        for start in range(0, len(piece.rows), step):
            yield Piece(piece.rows[start : start + step], piece.first + start)


def streamed(pieces: Iterable[Piece], device: torch.device) -> Iterator[Segment]:
    """Bring pieces to the device some at a time; while a caller is busy with one segment, the next is on its way.

    A segment is gone when the next one is asked for.
    """
    chunks = grouped(sliced(pieces, CHUNK_BYTES // COPIERS), CHUNK_BYTES)
    carrier = Pinned(device) if device.type == "cuda" else Direct()
    with ThreadPoolExecutor(COPIERS) as copiers, ThreadPoolExecutor(1) as ahead:

        def send(turn: int) -> Segment | None:
            chunk = next(chunks, None)
            return None if chunk is None else Segment(carrier.send(chunk, turn, copiers), chunk[0].first)

        turn, coming = 0, ahead.submit(send, 0)
        while (segment := coming.result()) is not None:
            coming = ahead.submit(send, turn + 1)
            carrier.arrive(turn)
            yield segment
            carrier.release(turn)
            turn += 1


def fill(rows: torch.Tensor, chunk: list[Piece], copiers: Executor) -> None:
    """Copy pieces into host memory [n, d], one after another."""
    kind = storage(chunk[0].rows)[0]
    out = (rows.view(torch.uint16) if kind == np.uint16 else rows).numpy()

    def copy(piece: Piece) -> None:
        start = piece.first - chunk[0].first
        values = piece.rows.view(np.uint16) if kind == np.uint16 else piece.rows
        np.copyto(out[start : start + len(values)], values, casting="unsafe")

    for _ in copiers.map(copy, chunk):
        pass


def shape_of(chunk: list[Piece]) -> tuple[int, int]:
    """Return how many rows and columns pieces have together."""
    return sum(len(piece.rows) for piece in chunk), chunk[0].rows.shape[1]


class Direct:
    """Copy within host memory, where the device is the processor itself."""

    def send(self, chunk: list[Piece], turn: int, copiers: Executor) -> torch.Tensor:
        rows = torch.empty(shape_of(chunk), dtype=storage(chunk[0].rows)[1])
        fill(rows, chunk, copiers)
        return rows

    def arrive(self, turn: int) -> None: ...

    def release(self, turn: int) -> None: ...


class Pinned:
    """Copy through two buffers in pinned memory into two on the device, each pair on a stream of its own.

    `send` runs ahead in a thread, `arrive` and `release` in that of the search: events tell either side's stream what
    the other's has done.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.computing = torch.cuda.current_stream(device)
        self.copying = [torch.cuda.Stream(device) for _ in range(2)]  # type: ignore[no-untyped-call]
        self.host = [torch.empty(0, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self.there = [torch.empty(0, dtype=torch.uint8, device=device) for _ in range(2)]
        self.copied, self.released = (
            [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]
            for _ in range(2)
        )

    def send(self, chunk: list[Piece], turn: int, copiers: Executor) -> torch.Tensor:
        at, kind, shape = turn % 2, storage(chunk[0].rows)[1], shape_of(chunk)
        size = size_of(chunk)
        self.copied[at].synchronize()  # until then the buffer in host memory is being read
        with torch.cuda.stream(self.copying[at]):
            if self.host[at].numel() < size:
                self.host[at] = torch.empty(size, dtype=torch.uint8, pin_memory=True)
                self.there[at] = torch.empty(size, dtype=torch.uint8, device=self.device)
                self.there[at].record_stream(self.computing)
            host, there = (each[at][:size].view(kind).view(shape) for each in (self.host, self.there))
            fill(host, chunk, copiers)
            self.copying[at].wait_event(self.released[at])  # until then the one on the device is being searched
            there.copy_(host, non_blocking=True)
            self.copied[at].record(self.copying[at])
        return there

    def arrive(self, turn: int) -> None:
        self.computing.wait_event(self.copied[turn % 2])

    def release(self, turn: int) -> None:
        self.released[turn % 2].record(self.computing)
