"""How many examples property tests try."""

from __future__ import annotations

from hypothesis import settings


def examples(count: int) -> int:
    """Return `count` as it is in the usual profiles of hypothesis, and in proportion in others, such as `quick`."""
    return max(3, count * settings.default.max_examples // 100)
