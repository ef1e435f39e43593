"""`asif anchors select`: what it prints, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.running import Cli
from support.select_command import concept_file, select

from asif.anchorset import Store
from asif.building.recipe import SELECTION_METHODS
from asif.engine import select_anchors
from asif.errors import UsageError


def test_select_for_people(cli: Cli, toys: Path) -> None:
    ran = select(cli, "--method", "random", "--size", 3)
    few = Store(toys).open("few")
    assert ran.out == f"few@1: 3 anchors of toy@1 by random, digest {few.digest[:12]}\n"


@pytest.mark.parametrize(
    ("arguments", "content", "message"),
    [
        (("--method", "random", "--size", 21), "", "1 to 20"),
        (("--method", "random", "--size", 0), "", "Invalid value for '--size'"),
        (("--method", "random", "--size", -3), "", "Invalid value for '--size'"),
        (("--method", "random", "--size", 10**30), "", "1 to 20"),
        (("--method", "random"), "", "Missing option '--size'"),
        (("--method", "magic", "--size", 3), "", "Invalid value for '--method'"),
        (("--method", "random", "--size", 3, "--seed", -1), "", "Invalid value for '--seed'"),
        (("--method", "random", "--size", 3, "--side", "text"), "", "random was given side"),
        (("--method", "kdpp", "--size", 3, "--seed", 1), "", "kdpp was given seed"),
        (("--method", "concepts", "--size", 3, "--seed", 1), "", "concepts was given seed"),
        (("--method", "kmeans", "--size", 3, "--concepts", "FILE"), "cat", "kmeans was given concepts"),
        (("--method", "concepts", "--size", 3), "", "the texts of toy@1 do not repeat"),
        (("--method", "concepts", "--size", 3, "--concepts", "nowhere"), "", "nowhere cannot be read"),
        (("--method", "concepts", "--size", 3, "--concepts", "."), "", ". cannot be read"),
        (("--method", "concepts", "--size", 3, "--concepts", "FILE"), "", "is empty"),
        (("--method", "concepts", "--size", 3, "--concepts", "FILE"), "id,name\n1,cat\n2,\n", "line 3 of"),
        (("--method", "concepts", "--size", 3, "--concepts", "FILE"), "cat\ndog\0\n", "NUL"),
        (("--method", "concepts", "--size", 3, "--concepts", "FILE"), "cat\ncaf\udce9\n", "cannot be read"),
        (("--method", "concepts", "--size", 3, "--concepts", "FILE"), "cat\n cat\n", "twice, in line 1 and line 2"),
        (("--method", "concepts", "--size", 3, "--concepts", "FILE"), "1\n2\n", "are numbers: 1, 2"),
        (("--method", "random", "--size", 3, "--name", "../x"), "", "the anchor set name '../x'"),
    ],
)
def test_select_refuses(
    cli: Cli, toys: Path, tmp_path: Path, arguments: tuple[Any, ...], content: str, message: str
) -> None:
    file = concept_file(tmp_path, content)
    ran = select(cli, *(file if each == "FILE" else each for each in arguments))
    assert (ran.code, message in ran.err) == (2, True), ran.err
    assert not (toys / "anchors" / "few").exists()


def test_select_knows_what_there_is(cli: Cli, toys: Path, tmp_path: Path) -> None:
    ran = select(cli, "--method", "random", "--size", 3, ref="nothing")
    assert ran.code == 2 and "there is no anchor set 'nothing'" in ran.err
    given = ("--method", "concepts", "--size", 3, "--concepts", concept_file(tmp_path))
    ran = select(cli, *given, ref="vectors")
    assert ran.code == 2 and "precomputed" in ran.err
    usage = cli("anchors", "select", "--help").out
    assert all(method in usage for method in SELECTION_METHODS)
    with pytest.raises(UsageError, match="the method is 'magic'"):
        select_anchors("toy", method="magic", size=3, name="few", home=toys)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    ["# animals\n\nred_panda\n\nowl\nnewt\n", "1\tred_panda | panda\n2\towl\n3\tnewt", '["red_panda", "owl", "newt"]'],
)
def test_concepts_are_read_as_labels_are(cli: Cli, toys: Path, tmp_path: Path, content: str) -> None:
    plain = select(cli, "--method", "concepts", "--size", 5, "--concepts", concept_file(tmp_path), "--json").json
    other = select(
        cli, "--method", "concepts", "--size", 5, "--concepts", concept_file(tmp_path, content), "--json"
    ).json
    assert (other["digest"], other["operation"]) == (plain["digest"], plain["operation"])
