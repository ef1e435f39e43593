"""Every command and every Python block of README.md and docs/*.md runs as it is written, offline, on small files.

A command that is in a document, and neither runs here nor is in NOT_RUN, fails.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from support.document_files import make_files, make_sets
from support.paths import ROOT
from support.running import Cli
from support.services import listen
from support.stand_in_encoders import replace_encoders

from asif import Engine
from asif.cli.app import COMMANDS, asif
from asif.cli.options import print_notice
from asif.service.config import ServeConfig

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_RAY = "starts Ray; building/sharded/test_ray_builds.py and engine/sharded/test_ray_search.py run such commands"
NOT_RUN = {
    "make demo": "minutes; test_examples.py runs the examples",
    "make check": "runs all tests, this one too",
    "make torture": "an hour",
    "PYTHONPATH=tests python -m torture kills points --seconds 600 --seed 7 --out found.json": "ten minutes",
    "PYTHONPATH=tests python -m torture kills --seed 7 --first 12 --rounds 1": "minutes",
    "pip install 'asif-engine[embedded]'": "network",
    "pip install 'asif-engine[serve]'": "network",
    "asif build-anchors pairs.parquet --name parts --engine ray --actors 2": _RAY,
    "asif gallery build photos/ --name album --engine ray --actors 2": _RAY,
    'asif search album --text "a bolt" --anchors parts --engine ray': _RAY,
    "asif classify photo.jpg --anchors parts --labels bolt,nut --engine ray": _RAY,
    "ray start --head --port 6379": "a cluster",
    "ray start --address HEAD:6379": "a cluster",
    "asif build-anchors /shared/pairs --name parts --home /shared/asif --engine ray --address HEAD:6379 "
    "--shard-rows 50000": "a cluster",
    'eval "$(_ASIF_COMPLETE=bash_source asif)"': "bash; cli/test_app.py runs it there",
    "asif build-anchors s3://bucket/shards --name parts": "network",
    "asif build-anchors hf://datasets/user/repo/data --name parts --dry-run": "network",
    "asif anchors add parts https://host/new.parquet": "network",
    "asif eval --anchors parts --dataset gs://bucket/test.parquet --task zeroshot_classification": "network",
    "asif anchors export photos - | ssh there asif anchors import -": "another machine",
    "asif anchors push photos me/photos --private": "network; anchorset/sharing/test_hub.py runs it with a stand-in",
    "asif anchors pull me/photos": "network; anchorset/sharing/test_hub.py runs it with a stand-in",
}
"""Commands that need network, another machine or many minutes, each with the reason."""

PLACEHOLDERS = {
    "asif encoders compare pairs.parquet --image-encoder E --image-encoder F": (
        "asif encoders compare pairs.parquet --image-encoder timm:a --image-encoder timm:b"
    ),
    "asif anchors import photos.tar": "asif anchors import photos.tar --home other-machine",
}
"""Commands that name something the reader chooses, and what is run for them."""

BEFORE = {
    "docs/hot-swap.md": (
        "import asif, numpy as np; from asif.classify import Labels; from asif.vectors import Embeddings; "
        "images, labels, engine = ['photo.jpg', 'incoming/a.jpg'], Labels(('bolt', 'nut')), asif.Engine('coco')"
    ),
    "docs/python.md": "import asif",
    "docs/rivals.md": "asif train-freeze-align --anchors parts --tokens pairs.parquet",
}
"""What the text of a document has introduced before its Python blocks: a command, or Python."""

SERVER = "http://localhost:8000"
"""Where the service is in the documents."""

SERVED = ("parts", "album")
"""The anchors and the gallery that it serves there."""

EXIT_CODES = {"asif doctor": {0, 1}}
"""Exit codes other than 0: `asif doctor` says 1 where something is missing on this machine."""

SHORTER = {
    "ASIF_TUNE_SECONDS": "1",
    "ASIF_COMPARE_SECONDS": "1",
    "ASIF_COMPARE_SEEDS": "1",
    "ASIF_COMPARE_METHODS": "asif,procrustes",
    "ASIF_ENCODERS_BENCH_IMAGES": "2",
    "ASIF_ENCODERS_COMPARE_LIMIT": "200",
    "ASIF_ENCODERS_COMPARE_PERMUTATIONS": "5",
    "ASIF_TRAIN_APE_STEPS": "10",
    "ASIF_TRAIN_APE_HIDDEN": "16",
    "ASIF_TRAIN_FREEZE_ALIGN_EPOCHS": "1",
    "ASIF_TRAIN_FREEZE_ALIGN_WIDTH": "16",
}
"""Defaults in the environment that shorten what a command tries, without a change to the command."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a document: its language, "" for shell commands."""

    document: str
    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Return the commands of a shell block without comments, each on one line."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [command for line in lines if (command := re.sub(r"(^|\s+)#\s.*$", "", line).strip())]

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@cache
def read_blocks() -> tuple[Block, ...]:
    """Return the fenced blocks of all documents."""
    blocks = []
    for path in DOCUMENTS:
        text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            blocks.append(Block(name, text.count("\n", 0, found.start()) + 2, found[1], found[2]))
    return tuple(blocks)


SHELL = [block for block in read_blocks() if block.language in ("", "sh", "bash", "console", "shell")]
PYTHON = [block for block in read_blocks() if block.language == "python"]
RUN = [block for block in SHELL if set(block.commands) - set(NOT_RUN)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that the documents name, and a store `home` with the anchor sets."""
    folder = tmp_path_factory.mktemp("documents")
    make_files(folder)
    with pytest.MonkeyPatch.context() as patch:
        replace_encoders(patch, folder)
        make_sets(folder, folder / "home")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: Block) -> None:
    """Work in a copy of those files with the sets that a block names, and with the encoders that made them."""
    shutil.copytree(made, tmp_path / "documents")
    monkeypatch.chdir(tmp_path / "documents")
    monkeypatch.setenv("ASIF_HOME", str(tmp_path / "documents" / "home"))
    named = block.text + (Path("serve.toml").read_text() if "serve.toml" in block.text else "")
    served = SERVED if SERVER in block.text or "asif serve" in block.text else ()
    for folder in Path("home/anchors").iterdir():
        if folder.name not in ("imagenet-head", *served, *re.findall(r"[\w-]+", named)):
            shutil.rmtree(folder)
    replace_encoders(monkeypatch, tmp_path)
    monkeypatch.setattr("asif.service.server.run_service", serve_for_a_moment)
    for name, value in SHORTER.items():
        monkeypatch.setenv(name, value)


def serve_for_a_moment(config: ServeConfig) -> None:
    """Serve until requests are answered, at another port."""
    with listen(config) as url:
        print_notice(url)


@pytest.fixture
def server(place: None, block: Block) -> Iterator[str]:
    """Return where the service is; it runs if the block calls it."""
    if SERVER not in block.text:
        yield SERVER
        return
    anchors, gallery = SERVED
    with listen(ServeConfig(Path("home").absolute(), (anchors,), (gallery,))) as url:
        yield url


def run_curl(command: str, server: str) -> None:
    """Run a call of the service; refusals fail."""
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    called = [*shlex.split(command.replace(SERVER, server)), "--silent", "--show-error", "--fail-with-body"]
    ran = subprocess.run(called, capture_output=True, text=True)
    assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
    assert json.loads(ran.stdout), command


def run_command(cli: Cli, command: str) -> None:
    """Run a command as it is written, or what its placeholders stand for."""
    program, *arguments = shlex.split(PLACEHOLDERS.get(command, command))
    assert program == "asif", f"{command} is not run: add it to NOT_RUN, with the reason"
    ran = cli(*arguments)
    assert ran.code in EXIT_CODES.get(command, {0}), f"{command}\n{ran.err}"
    assert ran.out or ran.err


@pytest.mark.slow
@pytest.mark.parametrize("block", RUN, ids=str)
def test_a_shell_block_runs(block: Block, cli: Cli, server: str) -> None:
    for command in block.commands:
        if command.startswith("curl "):
            run_curl(command, server)
        elif command not in NOT_RUN:
            run_command(cli, command)


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_python_block_runs(block: Block, cli: Cli, server: str) -> None:
    """Iterators that an expression returns are read to their end."""
    names: dict[str, Any] = {"_read": lambda value: list(value) if isinstance(value, Iterator) else value}
    before = BEFORE.get(block.document, "")
    if before.startswith("asif "):
        run_command(cli, before)
    else:
        exec(before, names)
    tree = ast.parse(block.text.replace(SERVER, server))
    for each in tree.body:
        if isinstance(each, ast.Expr):
            each.value = ast.Call(ast.Name("_read", ast.Load()), [each.value], [])
    exec(compile(ast.fix_missing_locations(tree), str(block), "exec"), names)
    if server != SERVER:
        with Engine(SERVED[0]) as engine:
            (expected,) = engine.classify("photo.jpg", ["a bolt", "a nut"])
        assert names["answer"]["results"][0]["predictions"] == [asdict(each) for each in expected.predictions]


def test_the_tables_name_commands_of_the_documents() -> None:
    written = {command for block in SHELL for command in block.commands}
    assert len(written) > 40
    assert not (NOT_RUN.keys() | PLACEHOLDERS.keys() | EXIT_CODES.keys()) - written
    assert not {*BEFORE} - {block.document for block in PYTHON}
    assert not NOT_RUN.keys() & PLACEHOLDERS.keys()


def test_comments_and_continued_lines() -> None:
    block = Block("x", 1, "", "asif a --d 'b'   # one\n# two\nasif \\\n  e#f\n\n")
    assert block.commands == ["asif a --d 'b'", "asif    e#f"]


# ---- help, and commands within the text


def find_command(words: list[str]) -> tuple[list[str], click.Command]:
    """Return the words that name a command, with the command; raises KeyError for another word."""
    command: click.Command = asif
    named: list[str] = []
    for word in words:
        if not isinstance(command, click.Group) or not re.fullmatch("[a-z][a-z-]*", word):
            break
        inner = command.get_command(click.Context(command), word)
        if inner is None:
            raise KeyError(word)
        command, named = inner, [*named, word]
    return named, command


def check_help(words: list[str], command: click.Command, cli: Cli) -> None:
    ran = cli(*words, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: asif {' '.join(words)} ")
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert all(name in ran.out for name in option.opts)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_names_every_option(name: str, cli: Cli) -> None:
    _, command = find_command([name])
    check_help([name], command, cli)
    for inner, subcommand in getattr(command, "commands", {}).items():
        check_help([name, inner], subcommand, cli)


def list_mentions() -> list[str]:
    """Return the commands in backticks within the text of the documents."""
    mentions: set[str] = set()
    for path in DOCUMENTS:
        text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        mentions.update(" ".join(found.split()) for found in re.findall(r"`(asif [^`]+)`", text))
    return sorted(mentions)


@pytest.mark.parametrize("mention", list_mentions())
def test_commands_and_options_within_the_text_exist(mention: str) -> None:
    words = re.sub(r"\w+(\|\w+)+", lambda found: found[0].partition("|")[0], mention).split()[1:]
    named, command = find_command(words)
    assert named or words == ["--help"]
    known = {name for option in command.params for name in option.opts} | {"--help"}
    assert not set(re.findall(r"(?<!\S)--[a-z-]+", mention)) - known
