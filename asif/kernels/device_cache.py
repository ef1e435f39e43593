"""Transfer of anchors from host memory to devices: once if they are immutable and fit, else streamed for each call.

Immutable blocks, such as the memory-mapped ones of an anchor set, are cached on the device as long as they live and
memory suffices: further calls copy nothing. All others are copied for each call, through two buffers of pinned memory,
while the device computes.
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

from asif.kernels.quantised import is_immutable

CHUNK_BYTES = 2**28  # of anchors that are copied at a time
_ENTRY_BYTES = 2**33  # of anchors in one cache entry
MIN_DEVICE_BYTES = 2**30  # of anchors for each device that is used
_SPARE_BYTES = 2**32  # of a device's memory that is reserved for searches
_COPY_THREADS = 4  # that fill pinned memory


@dataclass(frozen=True)
class DeviceBlock:
    """Hold anchors [n, d] on one device, each row contiguous, and the index of the first."""

    rows: torch.Tensor
    first: int


@dataclass(frozen=True)
class HostBlock:
    """Hold rows of a block in host memory, and the index of the first."""

    rows: NDArray[Any]
    first: int


def distribute_blocks(anchors: Sequence[NDArray[Any]]) -> list[tuple[torch.device, Iterable[DeviceBlock]]]:
    """Distribute anchors over the devices, in contiguous parts of about equal size."""
    available = list_devices()
    if not isinstance(anchors, (list, tuple)):  # a lazy sequence: one device reads it
        return [(available[0], stream_blocks(number_blocks(anchors), available[0]))]
    blocks = [block for block in number_blocks(anchors) if len(block.rows)]
    size = sum(block.rows.nbytes for block in blocks)
    count = max(1, min(len(available), size // MIN_DEVICE_BYTES, len(blocks)))
    parts: list[list[HostBlock]] = [[] for _ in range(count)]
    assigned = 0
    for block in blocks:
        parts[min(count - 1, assigned * count // size)].append(block)
        assigned += block.rows.nbytes
    return [(device, _cache_or_stream(some, device)) for device, some in zip(available, parts, strict=False) if some]


def list_devices() -> list[torch.device]:
    """List the devices that anchors are distributed over, the current one first."""
    current = torch.cuda.current_device()
    others = [at for at in range(torch.cuda.device_count()) if at != current]
    return [torch.device("cuda", at) for at in (current, *others)]


def number_blocks(anchors: Iterable[NDArray[Any]]) -> Iterator[HostBlock]:
    """Number the rows consecutively over all blocks."""
    first = 0
    for block in anchors:
        yield HostBlock(block, first)
        first += len(block)


def _cache_or_stream(blocks: list[HostBlock], device: torch.device) -> Iterable[DeviceBlock]:
    """Cache blocks on the device if they are immutable and fit; else stream them."""
    lasting = all(is_immutable(block.rows) for block in blocks)
    kept = DEVICE_CACHE.keep_blocks(blocks, device) if lasting else None
    return stream_blocks(blocks, device) if kept is None else kept


def _transfer_types(block: NDArray[Any]) -> tuple[np.dtype[Any], torch.dtype]:
    """Return the types in which rows are copied and arrive: bfloat16 is copied as bits, unknown types as float32."""
    if block.dtype == np.float16:
        return np.dtype(np.float16), torch.float16
    if block.dtype.name == "bfloat16" and block.dtype.isnative:
        return np.dtype(np.uint16), torch.bfloat16
    return np.dtype(np.float32), torch.float32


class _CacheEntry:
    """Hold blocks cached on a device, copied by the first thread that needs them, while others wait."""

    def __init__(self, blocks: list[HostBlock], device: torch.device) -> None:
        shape = (sum(len(block.rows) for block in blocks), blocks[0].rows.shape[1])
        self._rows = torch.empty(shape, dtype=_transfer_types(blocks[0].rows)[1], device=device)
        self._filled = False
        self._lock = Lock()

    def rows(self, blocks: list[HostBlock]) -> torch.Tensor:
        """Return the anchors, copied first if necessary."""
        with self._lock:
            if not self._filled:
                with _use_own_stream(self._rows.device):
                    for chunk in stream_blocks(blocks, self._rows.device):
                        start = chunk.first - blocks[0].first
                        self._rows[start : start + len(chunk.rows)] = chunk.rows
                self._filled = True
        return self._rows


@contextmanager
def _use_own_stream(device: torch.device) -> Iterator[None]:
    """Work on a separate stream, so that searches on the current one do not wait; synchronise at the end."""
    if device.type != "cuda":
        yield
        return
    usual, own = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    own.wait_stream(usual)  # reused memory may still be in use there
    with torch.cuda.stream(own):
        yield
    own.synchronize()


class DeviceCache:
    """Cache anchors on devices, keyed weakly by their host blocks; the oldest entries are evicted when room is needed.

    Lookups do not wait for copies of other blocks: a new set is copied while the old one is searched.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[Any, ...], _CacheEntry] = {}  # oldest first
        self._lock = RLock()

    def keep_blocks(self, blocks: list[HostBlock], device: torch.device) -> list[DeviceBlock] | None:
        """Return the blocks on the device, cached; None if they do not fit."""
        groups = list(_group_blocks(blocks, _ENTRY_BYTES))
        keys = [(device, *(id(block.rows) for block in group)) for group in groups]
        with self._lock:
            missing = sum(
                _count_bytes(group) for group, key in zip(groups, keys, strict=True) if key not in self._entries
            )
            while missing > measure_room(device):
                oldest = next((key for key in list(self._entries) if key[0] == device and key not in keys), None)
                if oldest is None:
                    return None
                self._entries.pop(oldest, None)
            entries = []
            for group, key in zip(groups, keys, strict=True):
                entries.append(self._entries.pop(key) if key in self._entries else self._make_entry(group, key, device))
                self._entries[key] = entries[-1]
        return [DeviceBlock(entry.rows(group), group[0].first) for entry, group in zip(entries, groups, strict=True)]

    def _make_entry(self, blocks: list[HostBlock], key: tuple[Any, ...], device: torch.device) -> _CacheEntry:
        """Allocate an entry for blocks; it is removed when one of them is garbage-collected."""
        entry = _CacheEntry(blocks, device)
        for block in blocks:
            weakref.finalize(block.rows, self._entries.pop, key, None).atexit = False
        return entry


DEVICE_CACHE = DeviceCache()


def measure_room(device: torch.device) -> int:
    """Return how many further bytes of anchors can be cached on a device."""
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + cached - _SPARE_BYTES


def _count_bytes(blocks: Iterable[HostBlock]) -> int:
    """Return how many bytes blocks take on a device."""
    return sum(block.rows.size * _transfer_types(block.rows)[0].itemsize for block in blocks)


def _group_blocks(blocks: Iterable[HostBlock], limit: int) -> Iterator[list[HostBlock]]:
    """Group consecutive blocks of one type, up to a number of bytes."""
    group: list[HostBlock] = []
    size = 0
    for block in blocks:
        if group and (
            size + _count_bytes([block]) > limit or _transfer_types(block.rows) != _transfer_types(group[0].rows)
        ):
            yield group
            group, size = [], 0
        if len(block.rows):
            group.append(block)
            size += _count_bytes([block])
    if group:
        yield group


def _split_blocks(blocks: Iterable[HostBlock], limit: int) -> Iterator[HostBlock]:
    """Split blocks into blocks of at most `limit` bytes, but at least one row."""
    for block in blocks:
        step = max(1, limit // max(1, _count_bytes([HostBlock(block.rows[:1], 0)])))
        for start in range(0, len(block.rows), step):
            yield HostBlock(block.rows[start : start + step], block.first + start)


def stream_blocks(blocks: Iterable[HostBlock], device: torch.device) -> Iterator[DeviceBlock]:
    """Copy blocks to the device, the next one while the caller searches the present one.

    A block is overwritten when the next one is requested.
    """
    chunks = _group_blocks(_split_blocks(blocks, CHUNK_BYTES // _COPY_THREADS), CHUNK_BYTES)
    carrier = _PinnedCarrier(device) if device.type == "cuda" else _HostCarrier()
    with ThreadPoolExecutor(_COPY_THREADS) as copiers, ThreadPoolExecutor(1) as ahead:

        def send(turn: int) -> DeviceBlock | None:
            chunk = next(chunks, None)
            return None if chunk is None else DeviceBlock(carrier.send(chunk, turn, copiers), chunk[0].first)

        turn, coming = 0, ahead.submit(send, 0)
        while (block := coming.result()) is not None:
            coming = ahead.submit(send, turn + 1)
            carrier.wait_for_copy(turn)
            yield block
            carrier.release(turn)
            turn += 1


def _copy_to_host_buffer(rows: torch.Tensor, chunk: list[HostBlock], copiers: Executor) -> None:
    """Copy blocks into host memory [n, d], one after another."""
    kind = _transfer_types(chunk[0].rows)[0]
    out = (rows.view(torch.uint16) if kind == np.uint16 else rows).numpy()

    def copy(block: HostBlock) -> None:
        start = block.first - chunk[0].first
        values = block.rows.view(np.uint16) if kind == np.uint16 else block.rows
        np.copyto(out[start : start + len(values)], values, casting="unsafe")

    for _ in copiers.map(copy, chunk):
        pass


def _joint_shape(chunk: list[HostBlock]) -> tuple[int, int]:
    """Return the joint number of rows, and the number of columns, of blocks."""
    return sum(len(block.rows) for block in chunk), chunk[0].rows.shape[1]


class _HostCarrier:
    """Copy within host memory if the device is the CPU."""

    def send(self, chunk: list[HostBlock], turn: int, copiers: Executor) -> torch.Tensor:
        rows = torch.empty(_joint_shape(chunk), dtype=_transfer_types(chunk[0].rows)[1])
        _copy_to_host_buffer(rows, chunk, copiers)
        return rows

    def wait_for_copy(self, turn: int) -> None: ...

    def release(self, turn: int) -> None: ...


class _PinnedCarrier:
    """Copy through two buffers in pinned memory to two on the device, each pair on its own stream.

    `send` runs ahead in a thread, `wait_for_copy` and `release` in that of the search; events order the streams.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.computing = torch.cuda.current_stream(device)
        self.copying = [torch.cuda.Stream(device) for _ in range(2)]  # type: ignore[no-untyped-call]
        self.host = [torch.empty(0, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self.on_device = [torch.empty(0, dtype=torch.uint8, device=device) for _ in range(2)]
        self.copied, self.released = (
            [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]
            for _ in range(2)
        )

    def send(self, chunk: list[HostBlock], turn: int, copiers: Executor) -> torch.Tensor:
        at, kind, shape = turn % 2, _transfer_types(chunk[0].rows)[1], _joint_shape(chunk)
        size = _count_bytes(chunk)
        self.copied[at].synchronize()  # before that, the copy to the device still reads the host buffer
        with torch.cuda.stream(self.copying[at]):
            if self.host[at].numel() < size:
                self.host[at] = torch.empty(size, dtype=torch.uint8, pin_memory=True)
                self.on_device[at] = torch.empty(size, dtype=torch.uint8, device=self.device)
                self.on_device[at].record_stream(self.computing)
            host, there = (each[at][:size].view(kind).view(shape) for each in (self.host, self.on_device))
            _copy_to_host_buffer(host, chunk, copiers)
            self.copying[at].wait_event(self.released[at])  # before that, the device buffer is still searched
            there.copy_(host, non_blocking=True)
            self.copied[at].record(self.copying[at])
        return there

    def wait_for_copy(self, turn: int) -> None:
        self.computing.wait_event(self.copied[turn % 2])

    def release(self, turn: int) -> None:
        self.released[turn % 2].record(self.computing)
