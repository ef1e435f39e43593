"""Inputs to the device of a model, and its outputs back: on CUDA devices while another pass is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from asif.vectors import Float32

if TYPE_CHECKING:
    import torch

K = TypeVar("K")
R = TypeVar("R")


class Transfer(Protocol):
    """Move the inputs and outputs of forward passes. At most two passes are in flight; see `finish_one_behind`."""

    def upload(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Stack inputs of one shape on the device; the result is valid until the next but one call."""
        ...

    def download(self, outputs: torch.Tensor) -> Callable[[], Float32]:
        """Start to copy outputs to the host; what is returned waits for them."""
        ...


class HostTransfer:
    """Move nothing: model and inputs are in the memory of the host."""

    def upload(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        return torch.stack(list(inputs))

    def download(self, outputs: torch.Tensor) -> Callable[[], Float32]:
        vectors: Float32 = outputs.float().cpu().numpy()
        return lambda: vectors


@dataclass(frozen=True)
class _Buffer:
    """Hold the inputs of one pass, page-locked on the host and on the device."""

    host: torch.Tensor
    device: torch.Tensor


class CudaTransfer:
    """Copy from page-locked memory on a stream of its own, into two buffers in turn.

    While the device computes one pass, the host stacks the inputs of the next one and starts to copy them. A buffer is
    filled again two passes later: by then `finish_one_behind` has waited for the outputs of its pass.
    """

    def __init__(self, device: str = "cuda") -> None:
        import torch

        self._device = device
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._buffers: list[_Buffer | None] = [None, None]

    def upload(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        computing = torch.cuda.current_stream()
        buffer = self._take_buffer((len(inputs), *inputs[0].shape), inputs[0].dtype, computing)
        torch.stack(list(inputs), out=buffer.host)
        with torch.cuda.stream(self._stream):
            buffer.device.copy_(buffer.host, non_blocking=True)
        computing.wait_stream(self._stream)
        return buffer.device

    def _take_buffer(self, shape: tuple[int, ...], dtype: torch.dtype, computing: Any) -> _Buffer:
        """Return the buffer that was filled longest ago, or a new one if that has another shape."""
        import torch

        buffer = self._buffers.pop(0)
        if buffer is None or buffer.host.shape != shape or buffer.host.dtype != dtype:
            host = make_page_locked(shape, dtype)
            buffer = _Buffer(host, torch.empty(shape, dtype=dtype, device=self._device))
            self._stream.wait_stream(computing)  # which may still use memory that was freed for the buffer
        self._buffers.append(buffer)
        return buffer

    def download(self, outputs: torch.Tensor) -> Callable[[], Float32]:
        import torch

        host = make_page_locked(tuple(outputs.shape), torch.float32)
        host.copy_(outputs.float(), non_blocking=True)
        done: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()

        def finish() -> Float32:
            done.synchronize()
            vectors: Float32 = host.numpy()
            return vectors

        return finish


def make_transfer(device: str) -> Transfer:
    """Return what moves tensors to and from a device."""
    return CudaTransfer() if device == "cuda" else HostTransfer()


def make_page_locked(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Allocate memory of the host that a device reads and writes by itself."""
    import torch

    return torch.empty(shape, dtype=dtype, pin_memory=True)


def finish_one_behind(started: Iterator[tuple[K, Callable[[], R]]]) -> Iterator[tuple[K, R]]:
    """Yield the results of passes in order, each after the next pass was started.

    >>> list(finish_one_behind((number, lambda number=number: number * number) for number in range(3)))
    [(0, 0), (1, 1), (2, 4)]
    """
    waiting: tuple[K, Callable[[], R]] | None = None
    for key, finish in started:
        if waiting is not None:
            yield waiting[0], waiting[1]()
        waiting = key, finish
    if waiting is not None:
        yield waiting[0], waiting[1]()
