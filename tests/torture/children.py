"""Real processes, forked from a parent that has read no store itself, and ways for them to die."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CHANGES = ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync")
Say = Callable[[Any], None]


@dataclass
class Child:
    """A forked process that runs `work`, which may say JSON values."""

    pid: int
    pipe: int

    @classmethod
    def start(cls, work: Callable[[Say], None]) -> Child:
        read, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            os.close(write)
            return cls(pid, read)
        os.close(read)
        status = 1
        try:
            work(lambda value: os.write(write, json.dumps(value).encode() + b"\n") and None)
            status = 0
        except BaseException:
            os.write(write, json.dumps({"traceback": traceback.format_exc()}).encode() + b"\n")
        finally:
            os._exit(status)

    def end(self, seconds: float | None = None) -> Ended:
        """Wait for the end, after `seconds` with SIGKILL; what was said comes along."""
        if seconds is not None:
            time.sleep(seconds)
            os.kill(self.pid, signal.SIGKILL)  # one that has ended is not waited for yet, so its number is its own
        with open(self.pipe) as lines:
            said = lines.read().split("\n")[:-1]  # a last line may be cut
        return Ended(os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), [json.loads(line) for line in said])


@dataclass(frozen=True)
class Ended:
    """What became of a process: its exit status, negative for a signal, and what it said."""

    status: int
    said: list[Any]

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    def answer(self) -> Any:
        """Return the one thing it said; raises AssertionError with its traceback where it broke."""
        assert self.status == 0, self.said
        return self.said[-1]


def run(work: Callable[[Say], None]) -> Any:
    """Run work in a process of its own, and return what it said last."""
    return Child.start(work).end().answer()


class Changes:
    """Count the changes that this process makes to the disk, and die by SIGKILL right after the `last` one."""

    def __init__(self, last: int = 0) -> None:
        self.seen = 0
        for name in CHANGES:
            setattr(os, name, self._counted(getattr(os, name), last))

    def _counted(self, change: Callable[..., Any], last: int) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.seen += 1
            mine = self.seen  # mkdir with parents calls itself, and fails before it succeeds
            try:
                return change(*args, **kwargs)
            finally:
                if mine == last:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call
