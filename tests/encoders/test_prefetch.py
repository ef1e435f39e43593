"""Decoding ahead: order, errors, threads and forked processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from asif.encoders.prefetch import open_decoders, prefetch


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


def test_large_results_are_computed_a_few_ahead() -> None:
    """Results of 10 bytes: eight items are begun before the first size is known, then three are on their way."""
    read: list[int] = []
    results = prefetch(lambda x: x, (read.append(x) or x for x in range(40)), size=lambda x: 10, most_bytes=39)
    assert next(results) == 0
    assert len(read) == 8
    for at in range(1, 20):
        assert next(results) == at
        assert len(read) == max(8, at + 3)
    assert list(results) == list(range(20, 40))
    one = prefetch(lambda x: x, (read.append(x) or x for x in range(40)), size=lambda x: 10, most_bytes=1)
    assert list(one) == list(range(40))


def test_decoders_end_with_their_block() -> None:
    before = set(threading.enumerate())
    with open_decoders(3) as pool:
        names = set(prefetch(lambda _: threading.current_thread().name, range(50), pool=pool))
        assert len(set(threading.enumerate()) - before) in (1, 2, 3)
    assert all(name.startswith("decode") for name in names)
    assert set(threading.enumerate()) <= before


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
