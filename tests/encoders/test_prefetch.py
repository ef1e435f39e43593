"""Decoding ahead: order, errors, threads and forked processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from asif.encoders.prefetch import prefetch


def test_ahead_reads_a_little_ahead_and_keeps_the_order() -> None:
    read: list[int] = []
    results = prefetch(lambda x: x * x, (read.append(x) or x for x in range(1000)), depth=8)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(read) == 12
    results.close()
    assert len(read) == 12


def test_ahead_hands_on_what_went_wrong() -> None:
    results = prefetch(lambda x: 6 // x, [3, 0, 2])
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)


def threads_of(code: str) -> list[int]:
    """Run code in a fresh process; return the numbers it prints."""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return [int(word) for word in ran.stdout.split()]


@pytest.mark.slow
def test_decoders_take_one_thread_each_and_leave_the_rest_to_the_model() -> None:
    found = threads_of(
        "import threading, torch; torch.set_num_threads(2)\n"
        "from asif.encoders.prefetch import prefetch\n"
        "print(*set(prefetch(lambda _: torch.get_num_threads(), range(20))), torch.get_num_threads())\n"
        "later = threading.Thread(target=lambda: print(torch.get_num_threads())); later.start(); later.join()\n"
    )
    assert found == [1, 2, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_decodes_too() -> None:
    found = threads_of(
        "import os, warnings; warnings.simplefilter('ignore')\n"
        "from asif.encoders.prefetch import prefetch\n"
        "print(sum(prefetch(abs, range(5))), flush=True)\n"
        "child = os.fork()\n"
        "print(sum(prefetch(abs, range(child == 0 and 7 or 6))), flush=True) if child == 0 else os.waitpid(child, 0)\n"
    )
    assert found == [10, 21]
