"""`asif anchors verify`: exit code 5 for a changed byte; what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.classify_command import CHELSEA, GOOD
from support.running import Cli


def test_verify_finds_a_flipped_byte(cli: Cli, toys: Path) -> None:
    ran = cli("anchors", "verify", "toy")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("toy: ") and ran.out.endswith("all as written\n")
    assert cli("anchors", "verify", "toy", "--json").lines[0]["problems"] == []
    block = next((toys / "anchors" / "toy" / "blocks").iterdir())
    content = bytearray(block.read_bytes())
    content[-100] ^= 1
    block.write_bytes(bytes(content))
    ran = cli("anchors", "verify", "toy")
    assert (ran.code, ran.out) == (5, "")
    assert block.name in ran.err
    ran = cli("anchors", "verify", "toy", "--json")
    assert ran.code == 5 and block.name in ran.lines[0]["problems"][0]
    assert cli("anchors", "verify", "vectors").code == 0
    block.write_bytes(bytes(content[:-1]))
    assert cli("classify", CHELSEA, *GOOD).code == 5  # opening sees the size at least


REFUSED = [
    (["anchors", "verify", "nothing"], 2, "there is no anchor set 'nothing'"),
    (["anchors", "verify", "../toy"], 2, "../toy is no anchor set"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused(check_refused: Callable[..., None], arguments: list[str], code: int, text: str) -> None:
    check_refused(arguments, code, text)
