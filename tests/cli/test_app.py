"""The table of commands: help, options by environment, colours, exit codes, light imports, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.classify_command import CHELSEA, GOOD, classify
from support.paths import SUPPORT
from support.running import Cli, Ran, environment

from asif.cli.app import COMMANDS, asif
from asif.engine import Engine


def test_every_command_has_help(cli: Cli) -> None:
    overview = cli("--help")
    assert (overview.code, overview.err) == (0, "")
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name}" in overview.out and summary in overview.out
        ran = cli(name, "-h")
        assert (ran.code, ran.err) == (0, "")
        assert f"Usage: asif {name}" in ran.out
    assert cli("--version").out.startswith("asif, version ")


def test_every_option_has_its_variable() -> None:
    context: Any = None
    for name in COMMANDS:
        command: Any = asif.get_command(context, name)
        for one, prefix in [
            (command, name),
            *((sub, f"{name}_{key}") for key, sub in getattr(command, "commands", {}).items()),
        ]:
            for option in one.params:
                if option.param_type_name == "option":
                    longest = max(option.opts, key=len)[2:]
                    variable = f"ASIF_{prefix}_{longest}".upper().replace("-", "_")
                    assert variable in option.envvar


@pytest.mark.parametrize(
    ("variable", "value", "check"),
    [
        ("ASIF_CLASSIFY_TOP", "2", lambda ran: len(ran.lines[0]["predictions"]) == 2),
        ("ASIF_CLASSIFY_K", "3", lambda ran: ran.lines[0]["parameters"].get("k") == 3),
        (
            "ASIF_CLASSIFY_TEMPLATE",
            "a photo of {}\nthe {c}",
            lambda ran: ran.lines[0]["templates"] == ["a photo of {}", "the {c}"],
        ),
        ("ASIF_CLASSIFY_EXPLAIN", "1", lambda ran: "explanation" in ran.lines[0]),
        ("ASIF_CLASSIFY_ALIGNER", "asif-paper", lambda ran: ran.lines[0]["aligner"] == "asif-paper"),
    ],
)
def test_options_by_environment(
    cli: Cli, toys: Path, images: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, check: Any
) -> None:
    monkeypatch.setenv("ASIF_CLASSIFY_JSON", "1")
    plain = classify(cli, images / "b.png")
    assert plain.code == 0 and not check(plain)
    monkeypatch.setenv(variable, value)
    assert check(classify(cli, images / "b.png"))


def test_the_command_line_goes_before_the_environment(
    cli: Cli, toys: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASIF_CLASSIFY_TOP", "1")
    assert len(classify(cli, images / "b.png", "--json", "--top", 3).lines[0]["predictions"]) == 3
    monkeypatch.setenv("ASIF_CLASSIFY_TOP", "none")
    assert classify(cli, images / "b.png").code == 2


@pytest.mark.parametrize("arguments", [["--labels", "cat,dog"], ["--labels", ""]])
def test_no_color(cli: Cli, toys: Path, images: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    (images / "z.webp").unlink()
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = cli("classify", images, "--anchors", "toy", *arguments)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = cli("classify", images, "--anchors", "toy", *arguments)
    assert "\x1b[" in coloured.out + coloured.err
    assert "\x1b[" not in plain.out + plain.err
    assert plain.code == coloured.code
    assert len(plain.out + plain.err) > 50


def test_stdout_has_data_only(cli: Cli, toys: Path, images: Path) -> None:
    ran = classify(cli, images, "--json")
    assert len(ran.lines) == 4 and "could not be read" in ran.err
    assert cli("anchors", "info", "coco").out == ""


def test_a_full_disk_is_exit_6_and_an_interruption_130(cli: Cli, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_with(error: BaseException) -> Ran:
        def open_anchors(*_: Any, **__: Any) -> Any:
            raise error

        monkeypatch.setattr("asif.engine.snapshots.open_anchors", open_anchors)
        return cli("classify", CHELSEA, *GOOD)

    assert fail_with(OSError(28, "No space left on device")).code == 6
    assert fail_with(MemoryError()).code == 6
    assert fail_with(PermissionError(13, "Permission denied")).code == 1
    interrupted = fail_with(KeyboardInterrupt())
    assert interrupted.code == 130
    assert "interrupted" in interrupted.err


COMPLETED = {
    "asif anc": ["anchors"],
    "asif anchors rec": ["recipes", "receipt"],
    "asif classify --labels": ["--labels", "--labels-file"],
    "asif tune --task ": ["classify", "search"],
}


@pytest.mark.slow
def test_bash_completes_commands_options_and_choices(tmp_path: Path) -> None:
    """The script comes from `_ASIF_COMPLETE=bash_source asif`, as the README says, and is used as bash would."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    program = tmp_path / "asif"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m asif "$@"\n')
    program.chmod(0o755)
    script = 'eval "$(_ASIF_COMPLETE=bash_source asif)"\n'
    for line in COMPLETED:
        words = line.split(" ")
        script += f"COMP_WORDS=({line} ''); COMP_CWORD={len(words) - 1}; COMPREPLY=(); _asif_completion asif\n"
        script += 'echo "${COMPREPLY[@]}"\n'
    variables = environment(PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    ran = subprocess.run([bash, "-c", script], capture_output=True, text=True, env=variables)
    assert ran.stderr == ""
    found = [sorted(line.split()) for line in ran.stdout.splitlines()]
    assert found == [sorted(expected) for expected in COMPLETED.values()]


REFUSED = [
    (["bogus"], 2, "No such command 'bogus'"),
    (["clasify"], 2, "write classify, if you meant that"),
    (["anchors", "lst"], 2, "write list, if you meant that"),
    (["encoders", "compair"], 2, "write compare, if you meant that"),
    (["anchors", "info", "toyy"], 2, "write toy, if you meant that; or build it with: asif build-anchors"),
    (["classify", CHELSEA, *GOOD, "--aligner", "cca(lambda=3)+prokrustes"], 2, "write procrustes, if you meant that"),
    (["classify", CHELSEA, *GOOD, "--templates", "foto"], 2, "write photo, if you meant that"),
    (["--bogus"], 2, "No such option"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused(check_refused: Callable[..., None], arguments: list[str], code: int, text: str) -> None:
    check_refused(arguments, code, text)


HEAVY = {
    "torch",
    "timm",
    "torchvision",
    "transformers",
    "sentence_transformers",
    "tokenizers",
    "pandas",
    "pyarrow",
    "scipy",
    "faiss",
    "matplotlib",
    "jinja2",
    "PIL",
}


@pytest.mark.parametrize(
    "code",
    [
        "import asif",
        "import asif.cli; sys.argv = ['asif', '--help']; asif.cli.main()",
        "import asif.cli; sys.argv = ['asif', 'classify', '--help']; asif.cli.main()",
        "import asif.cli; sys.argv = ['asif', 'eval', '--help']; asif.cli.main()",
    ],
)
def test_light_at_first(code: str) -> None:
    assert find_imported(code) & (HEAVY | {"numpy"}) == set()


@pytest.mark.parametrize("names", ["asif.engine import *", "asif.pairs import *", "asif.evaluate import *"])
def test_rooms_open_libraries_late(names: str) -> None:
    imported = find_imported(f"from {names}")
    assert imported & HEAVY == set()
    assert "numpy" in imported


def find_imported(code: str) -> set[str]:
    """Return the modules that are imported after running code in a process of its own."""
    script = f"import sys; {code}; print(); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return set(ran.stdout.splitlines()[-1].split())


def offline(
    report: Path, home: Path, labels: str, tmp_path: Path, backend: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    script = SUPPORT / "engine_offline.py"
    command = [
        sys.executable,
        str(script),
        str(report),
        "classify",
        CHELSEA,
        "--labels",
        labels,
        "--json",
        "--home",
        str(home),
    ]
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HF_HOME": str(tmp_path / "hf"), "ASIF_BACKEND": backend},
    )
    assert ran.returncode == 0, ran.stderr
    return Ran(0, ran.stdout, ran.stderr).lines, json.loads(report.read_text())


@pytest.mark.parametrize("cached", [True, False])
def test_offline_and_executing_nothing(head_home: Path, preloaded: None, tmp_path: Path, cached: bool) -> None:
    labels = ("a kitten", "a hound") if cached else ("a feline never asked for", "a canine never asked for")
    if cached:
        Engine(home=head_home).encode_texts(labels)
    (answer,), seen = offline(tmp_path / "report.json", head_home, ",".join(labels), tmp_path, "torch")
    assert answer["predictions"][0]["label"] == labels[0]
    assert seen["events"] == {}
    assert seen["loads"] == [{"file": "efficientnet-lite0-57934424.pth", "weights_only": True}]
    assert ("sentence_transformers" in seen["modules"]) is not cached
    assert "timm" in seen["modules"]


def test_the_fastest_backend_executes_nothing_either(head_home: Path, preloaded: None, tmp_path: Path) -> None:
    (answer,), seen = offline(tmp_path / "report.json", head_home, "a kitten,a hound", tmp_path, "auto")
    assert answer["predictions"][0]["label"] == "a kitten"
    assert seen["events"] == {} and all(load["weights_only"] for load in seen["loads"])
