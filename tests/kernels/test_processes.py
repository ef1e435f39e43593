"""The compiled kernels as part of a process: interrupted, called by many threads, forked, held to their memory."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.kernels_cases import CPU_ENGINES, assert_same, case, oracle, stored, unit
from support.paths import SUPPORT

from asif.kernels import cpu, native_binding, topk_similarity

DRIVER = SUPPORT / "kernels_driver.py"
SETS = sorted(
    {*native_binding.list_instruction_sets()[:1], *native_binding.list_instruction_sets()[-1:]}
)  # the best one and the portable one
NONE = pytest.param("", marks=pytest.mark.skip(reason="no kernels are compiled here"))
on_sets = pytest.mark.parametrize("instructions", SETS or [NONE])


def run(command: str, instructions: str) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, DRIVER, command],
        env={**os.environ, "ASIF_INSTRUCTIONS": instructions},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.slow
@on_sets
def test_ctrl_c_is_heard_during_a_long_search(instructions: str) -> None:
    """The whole search would take three seconds; the signal comes after 0.3."""
    report = run("interrupt", instructions)
    assert report["heard"] and report["usable"]
    assert 0.25 < report["took"] < 1.5


@pytest.mark.slow
@on_sets
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_finds_the_same(instructions: str) -> None:
    assert run("fork", instructions) == {"child": 0, "parent": True}


@pytest.mark.slow
@on_sets
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not measure peaks anew")
def test_the_matrix_of_all_scores_is_never_there(instructions: str) -> None:
    report = run("memory", instructions)
    assert report["matrix"] > 460
    assert report["dense"] < 80
    assert report["sparse"] < 80


@pytest.mark.slow
@on_sets
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell a process's size")
@pytest.mark.parametrize(
    "call",
    [
        "dense",
        "sparse",
    ],
)
def test_too_little_memory_is_an_error_like_others(instructions: str, call: str) -> None:
    assert run(f"exhaust_{call}", instructions) == {"error": "OutOfSpace", "usable": True}


@pytest.mark.parametrize("engine", CPU_ENGINES, indirect=True)
def test_calls_at_a_time_do_not_meddle(engine: Any) -> None:
    names = ["best last", "misleading", "near ties within bfloat16", "most belong to the top"] * 3
    with ThreadPoolExecutor(4) as pool:
        asked = [case(name) for name in names]
        found = pool.map(lambda each: topk_similarity(each.queries, each.blocks, each.k, engine=engine), asked)
        for each, some in zip(asked, found, strict=True):
            assert_same(some, each.expected)


@pytest.mark.parametrize("engine", CPU_ENGINES, indirect=True)
def test_long_calls_give_the_same(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, anchors = unit(20, 33), stored(300, 33)
    monkeypatch.setattr(cpu, "MIN_INTERRUPTIBLE_PRODUCTS", 0)
    assert_same(topk_similarity(queries, [anchors], 9, engine=engine), oracle(queries, anchors, 9))


def test_an_interrupted_call_is_told_to_stop_and_waited_for() -> None:
    stop, stopped = ctypes.c_int(0), threading.Event()
    main = threading.get_ident()

    def call() -> int:
        time.sleep(0.05)
        signal.pthread_kill(main, signal.SIGINT)
        for _ in range(2_000):
            if stop.value:
                break
            time.sleep(0.001)
        time.sleep(0.05)  # the tile at hand
        stopped.set()
        return 0

    with pytest.raises(KeyboardInterrupt):
        cpu.run_interruptible(call, stop)
    assert stop.value == 1 and stopped.is_set()
