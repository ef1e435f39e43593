"""How much memory a step takes, where the system says so."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """Hold the highest resident memory over what there was at the start, in MiB; None where it cannot be told."""

    mib: float | None = None


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Watch this process's memory over a block.

    >>> with peak_memory() as peak:
    ...     _ = bytearray(50 << 20)
    >>> peak.mib is None or peak.mib > 40
    True
    """
    peak, before = Peak(), reset()
    yield peak
    if before is not None:
        peak.mib = max(0.0, high_water() - before)


def reset() -> float | None:
    """Begin anew to look for the peak; return what it is now, None where the system has no such thing."""
    try:
        if hasattr(system := ctypes.CDLL(None), "malloc_trim"):
            system.malloc_trim(0)  # what was freed before is given back, so that using it again counts
        RESET.write_text("5")
        return high_water()
    except OSError:
        return None


def high_water() -> float:
    """Return the peak of this process's resident memory since it was last reset, in MiB."""
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
