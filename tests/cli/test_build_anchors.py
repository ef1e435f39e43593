"""`asif build-anchors` refuses names that leave the store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

REFUSED = [
    (["build-anchors", "pairs", "--name", "../../x"], 2, "the anchor set name '../../x'"),
    (["build-anchors", "pairs", "--name", "/tmp/x"], 2, "the anchor set name '/tmp/x'"),
    (["build-anchors", "pairs", "--name", "a" * 300], 2, "the anchor set name"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused(check_refused: Callable[..., None], arguments: list[str], code: int, text: str) -> None:
    check_refused(arguments, code, text)
