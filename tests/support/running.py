"""Commands that ran in the tests' own process: what they came to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ran:
    """What a command came to: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Parse stdout as one JSON value."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Parse stdout as one JSON object per line."""
        return [json.loads(line) for line in self.out.splitlines()]


Cli = Callable[..., Ran]
