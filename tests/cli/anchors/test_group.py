"""`asif anchors list` and `asif anchors info`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.engine_sets import fake_image
from support.running import Cli, Ran


def test_list_and_info(cli: Cli, toys: Path) -> None:
    entries = {entry["name"]: entry for entry in cli("anchors", "list", "--json").lines}
    assert list(entries) == ["toy", "vectors"]
    assert entries["toy"]["count"] == 20 and entries["toy"]["error"] is None
    assert entries["toy"]["encoders"] == {"image": "timm:fake", "text": "sentence-transformers:fake"}
    (about,) = cli("anchors", "info", "toy", "--json").lines
    assert (about["version"], about["anchors"]) == (entries["toy"]["version"], 20)
    assert about["encoders"]["image"]["fingerprint"] == fake_image().fingerprint.digest
    assert cli("anchors", "info", "toy@1", "--json").lines == [about]
    table = cli("anchors", "list").out.splitlines()
    assert table[0].split() == ["name", "version", "anchors", "size", "encoders"]
    assert [line.split()[:3] for line in table[1:]] == [[n, e["version"], "20"] for n, e in entries.items()]
    assert f"digest: {about['digest']}" in cli("anchors", "info", "toy").out.splitlines()


def test_no_sets_yet(cli: Cli, home: Path) -> None:
    ran = cli("anchors", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "no anchor sets yet" in ran.err
    assert cli("anchors", "list", "--json") == Ran(0, "", "")
    assert not home.exists()


def test_a_broken_set_does_not_hide_the_others(cli: Cli, toys: Path) -> None:
    shutil.copytree(toys / "anchors" / "toy", toys / "anchors" / "misnamed")
    (toys / "anchors" / "empty").mkdir()
    shutil.copytree(toys / "anchors" / "toy", toys / "anchors" / "garbled")
    (toys / "anchors" / "garbled" / "aliases.json").write_text("{")
    ran = cli("anchors", "list", "--json")
    errors = {entry["name"]: entry["error"] for entry in ran.lines}
    assert ran.code == 0
    assert {name for name, error in errors.items() if error is None} == {"toy", "vectors"}
    assert set(errors) == {"toy", "vectors", "misnamed", "empty", "garbled"}
    table = {line.split()[0]: line for line in cli("anchors", "list").out.splitlines()}
    assert all("broken: " in table[name] for name in ("misnamed", "empty", "garbled"))
    assert "broken" not in table["toy"]
    assert cli("anchors", "info", "garbled").code == 5


REFUSED = [
    (["anchors", "info", "../../x"], 2, "../../x is no anchor set"),
    (["anchors", "info", "/etc/passwd"], 2, "/etc/passwd is no anchor set"),
    (["anchors", "info", "a" * 300], 2, "the anchor set name"),
    (["anchors", "info", "Toy"], 2, "the anchor set name 'Toy'"),
    (["anchors", "info", "tоy"], 2, "the anchor set name 't\\u043ey'"),  # noqa: RUF001  a look-alike
    (["anchors", "info", "toy@"], 2, "the alias ''"),
    (["anchors", "info", "toy..x"], 2, "no '..'"),
    (["anchors", "forget"], 2, "No such command 'forget'"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused(check_refused: Callable[..., None], arguments: list[str], code: int, text: str) -> None:
    check_refused(arguments, code, text)
