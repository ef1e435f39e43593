"""Peak memory of a step, if the system reports it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Hold the peak of resident memory above that at the start, in MiB; None if it is not known."""

    mib: float | None = None


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Measure the peak of this process's resident memory in a block.

    >>> with peak_memory() as peak:
    ...     _ = bytearray(50 << 20)
    >>> peak.mib is None or peak.mib > 40
    True
    """
    peak, before = PeakMemory(), reset_peak_memory()
    yield peak
    if before is not None:
        peak.mib = max(0.0, read_peak_memory() - before)


def reset_peak_memory() -> float | None:
    """Reset the peak; return the resident memory now in MiB, None if the system has no peak to reset."""
    try:
        if hasattr(system := ctypes.CDLL(None), "malloc_trim"):
            system.malloc_trim(0)  # return freed memory to the system, so that using it again counts
        _RESET.write_text("5")
        return read_peak_memory()
    except OSError:
        return None


def read_peak_memory() -> float:
    """Return the peak of this process's resident memory since it was last reset, in MiB."""
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
