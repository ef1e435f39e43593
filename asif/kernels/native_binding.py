"""The door to the compiled kernels: finds what this processor supports, loads the library, declares its functions.

`asif/kernels/native` is compiled once per instruction set when asif is installed; the best set that the processor
supports is loaded. `ASIF_INSTRUCTIONS` selects another one, for debugging.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.errors import MissingDependency, UsageError

INTERFACE_VERSION = 5
INSTRUCTION_SETS = ("amx", "avx512vnni", "avx512", "avxvnni", "avx2", "neon", "portable")
NATIVE_FOLDER = Path(__file__).with_name("native")
REINSTALL_HINT = (
    "install g++ or clang++, then: pip install --force-reinstall --no-deps asif-engine; or pass --engine torch"
)


_POINTER, _COUNT, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_SIGNATURES = {
    "asif_topk": (_POINTER, _COUNT, *(_POINTER,) * 5, _COUNT, _INT, _INT, _COUNT, _COUNT, _INT, *(_POINTER,) * 3),
    "asif_quantised_bytes": (_INT,),
    "asif_quantise": (_POINTER, _COUNT, _COUNT, _INT, _INT, _INT, _POINTER),
    "asif_whole_bytes": (_COUNT, _INT),
    "asif_make_whole": (*(_POINTER,) * 3, _COUNT, _INT, _INT, _POINTER),
    "asif_sparse_measure": (_POINTER, _POINTER, *(_COUNT,) * 4, _INT, _POINTER, _POINTER),
    "asif_sparse_fill": (*(_POINTER,) * 3, *(_COUNT,) * 4, _INT, *(_POINTER,) * 4),
    "asif_sparse_similarity": (_POINTER, _POINTER, _COUNT, _COUNT, _POINTER, _INT, _POINTER),
    "asif_sparse_topk": (_POINTER, _POINTER, _COUNT, _COUNT, _POINTER, _COUNT, _INT, _POINTER, _POINTER),
}


class NativeIndex(ctypes.Structure):
    """Hold an inverted index in the layout that sparse.cpp reads."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("postings", "starts", "offsets", "columns", "scales")),
        *((name, ctypes.c_int64) for name in ("count", "width", "tile_rows")),
    ]


def list_instruction_sets() -> tuple[str, ...]:
    """List the instruction sets that are compiled and that this processor supports, best first.

    >>> "portable" in list_instruction_sets() or not list_instruction_sets()
    True
    """
    probe = _load_probe()
    if probe is None:
        return ()
    probe.asif_instructions.restype = ctypes.c_char_p
    supported = {*probe.asif_instructions().decode().split(), "portable"}  # also requests AMX tiles from the system
    return tuple(name for name in INSTRUCTION_SETS if name in supported and (NATIVE_FOLDER / f"{name}.so").exists())


def supports_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16 numbers; False if no kernels are compiled."""
    probe = _load_probe()
    return probe is not None and bool(probe.asif_has_bfloat16())


def _load_probe() -> ctypes.CDLL | None:
    """Load the library that every processor can run; None if it is missing or of another version."""
    if not (NATIVE_FOLDER / "portable.so").exists():
        return None
    try:
        probe = ctypes.CDLL(str(NATIVE_FOLDER / "portable.so"))
    except OSError:  # truncated, or compiled for another machine
        return None
    return probe if probe.asif_interface() == INTERFACE_VERSION else None


def choose_instruction_set(name: str | None = None) -> str:
    """Return the instruction set that `name` or ASIF_INSTRUCTIONS selects, else the best one.

    Raises MissingDependency if no kernels are compiled, UsageError for an instruction set that is not available.
    """
    found = list_instruction_sets()
    name = name or os.environ.get("ASIF_INSTRUCTIONS") or None
    if not found:
        raise MissingDependency(
            "the compiled kernels are not installed", "a C++ compiler during installation", REINSTALL_HINT
        )
    if name is not None and name not in found:
        raise UsageError(
            f"the instruction set is {name!r}", f"one of {', '.join(found)}", "unset ASIF_INSTRUCTIONS for the best one"
        )
    return name or found[0]


@lru_cache
def load_native(name: str | None = None) -> ctypes.CDLL:
    """Load the compiled kernels of an instruction set; raises as `choose_instruction_set` does."""
    library = ctypes.CDLL(str(NATIVE_FOLDER / f"{choose_instruction_set(name)}.so"))
    for function_name, arguments in _SIGNATURES.items():
        function = getattr(library, function_name)
        function.argtypes, function.restype = arguments, ctypes.c_int64
    return library


def is_available() -> bool:
    """Tell whether compiled kernels can be used; raises UsageError if ASIF_INSTRUCTIONS names an unavailable set."""
    try:
        load_native()
    except MissingDependency:
        return False
    return True


def count_threads() -> int:
    """Return how many threads a kernel may use: the processors of this process, or OMP_NUM_THREADS if that is fewer."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(mine, int(limit))) if limit.isdecimal() else mine


def get_address(array: NDArray[Any] | None) -> int | None:
    """Return the address of an array's first value, or None."""
    if array is None:
        return None
    if array.size and array.flags.carray and array.dtype.isbuiltin == 1:  # takes a third of the time
        memory: Any = array
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return int(array.__array_interface__["data"][0])


def as_contiguous(array: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """Return an array in the type and layout that the kernels take; copies it only if necessary."""
    made = np.ascontiguousarray(array, dtype)
    return made if made.flags.aligned else made.copy()
