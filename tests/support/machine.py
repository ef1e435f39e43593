"""What this machine has to run kernels on, found out without torch."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache


@lru_cache
def cuda_devices() -> int:
    """Count the CUDA devices that the driver shows to this process; `CUDA_VISIBLE_DEVICES` hides some."""
    count = ctypes.c_int(0)
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return 0
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value
