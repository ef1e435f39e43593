"""What docs/architecture.md says: rooms and floors, the words of the code, and three commands, which run here.

Also every test file and page that the documentation names.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from support.paths import ROOT, TESTS
from support.running import Cli

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = ROOT / "asif"
PAGE = ROOT / "docs" / "architecture.md"
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
DOCUMENTS += sorted((ROOT / "bench").glob("*.md"))
WALKS = {
    "A photo through `asif classify`": "asif.cli.classify",
    "A parquet through `asif build-anchors`": "asif.cli.build_anchors",
    "A pair through `asif anchors remove --receipt`": "asif.cli.anchors.group",
}
"""The walks, each with the module of its command."""

Function = tuple[str, str]
"""A file, relative to the checkout, and the qualified name of a function in it."""


# ---- the page


def read_section(title: str) -> list[str]:
    """Return the lines of a section of the page, up to the next heading of its level or above."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    (start,) = [at for at, line in enumerate(lines) if re.fullmatch(f"#+ {re.escape(title)}", line)]
    level = lines[start].index(" ")
    stop = next((at for at in range(start + 1, len(lines)) if re.match(f"#{{1,{level}}} ", lines[at])), len(lines))
    return lines[start + 1 : stop]


def read_table(title: str) -> list[list[str]]:
    """Return the cells of the table of a section, without its header."""
    rows = [line for line in read_section(title) if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def quoted(cell: str) -> list[str]:
    """Return what a cell has in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def read_walk(title: str) -> list[Function]:
    """Return the functions of a walk."""
    return [(quoted(file)[0], quoted(function)[0]) for _, file, function in read_table(title)]


# ---- the code


@cache
def find_definitions(path: Path) -> dict[str, int]:
    """Return the functions and classes of a file by qualified name: the first line of each, decorators included."""
    found: dict[str, int] = {}

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[prefix + node.name] = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                collect(node.body, f"{prefix}{node.name}.")

    collect(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


def find_values(path: Path) -> set[str]:
    """Return the names that a file assigns at its top level: constants and aliases of types."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(target.id for target in targets if isinstance(target, ast.Name))
    return found


def record_first_calls(run: Callable[[], Any]) -> list[Function]:
    """Return the functions of the package that are called while `run` runs, by any thread, in order of first calls."""
    found: list[Function] = []
    known: set[CodeType] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event != "call" or code in known:
            return
        known.add(code)
        path = Path(code.co_filename).resolve()
        if path.is_relative_to(PACKAGE):
            for name, line in find_definitions(path).items():
                if line == code.co_firstlineno and name.rpartition(".")[2] == code.co_name:
                    found.append((path.relative_to(ROOT).as_posix(), name))

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
        threading.setprofile(before)
    return found


def read_layers(container: str) -> list[set[str]]:
    """Return the layers of a package as import-linter's contract has them, the highest first."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = [each for each in linter["contracts"] if each.get("containers") == [container]]
    return [set(re.split(r"\s*\|\s*", layer)) for layer in contract["layers"]]


def list_modules(folder: Path) -> set[str]:
    """Return the modules and packages in a folder, by name."""
    return {path.stem for path in folder.glob("*.py")} - {"__init__"} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }


# ---- floors


def read_floors() -> list[tuple[str, Path, list[str]]]:
    """Return floor, place and files of each room or part of a room; the floor of a part is empty."""
    found: list[tuple[str, Path, list[str]]] = []
    for floor, rooms, _, files in read_table("Floors"):
        found += [(floor, ROOT / room, []) for room in quoted(rooms)]
        found[-1][2].extend(quoted(files))
    return found


def test_floors_are_those_of_import_linter() -> None:
    layers = read_layers("asif")
    rooms = [(floor, place) for floor, place, _ in read_floors() if floor]
    assert {place.stem for _, place in rooms} == list_modules(PACKAGE) == set.union(*layers)
    assert {place.parent for _, place in rooms} == {PACKAGE}
    numbers = [int(floor) for floor, _ in rooms]
    assert numbers == sorted(numbers, reverse=True)
    for floor, place in rooms:
        assert place.stem in layers[len(layers) - 1 - int(floor)], place


@pytest.mark.parametrize("container", ["anchorset", "evaluate"])
def test_parts_are_in_the_order_of_their_layers(container: str) -> None:
    places = [place for _, place, _ in read_floors()]
    parts = [place.stem for place in places if place.parent == PACKAGE / container]
    layers = read_layers(f"asif.{container}")
    levels = [level for part in parts for level, layer in enumerate(layers) if part in layer]
    assert levels == sorted(levels) and len(levels) >= 2


def test_every_place_and_file_of_the_floors_exists_and_none_is_missing() -> None:
    floors = read_floors()
    named = [place for _, place, _ in floors]
    assert len(set(named)) == len(named)
    packages = {path.parent for path in PACKAGE.rglob("__init__.py")} - {PACKAGE}
    assert packages == {place for place in named if place.is_dir()}
    for _, place, files in floors:
        if not place.is_dir():
            assert place.suffix == ".py" and place.is_file(), place
            continue
        modules = {name for name in files if not name.endswith("/")}
        elsewhere = {other.stem for other in named if other.parent == place}
        assert modules == list_modules(place) - elsewhere, place
        assert all((place / name).is_dir() for name in set(files) - modules), place


# ---- words and walks


def test_every_path_of_the_page_exists() -> None:
    paths = set(re.findall(r"`((?:asif|tests)/[\w./-]+)`", PAGE.read_text(encoding="utf-8")))
    assert len(paths) > 80
    assert not [path for path in sorted(paths) if not (ROOT / path).exists()]


def test_every_name_of_the_vocabulary_is_defined_where_it_is_said_to_be() -> None:
    rows = read_table("Vocabulary")
    terms = [term for term, _, _, _ in rows]
    assert len(set(terms)) == len(terms) > 40
    assert all(meaning.endswith(".") for _, meaning, _, _ in rows)
    named = [(quoted(file)[0], quoted(name)[0]) for _, _, name, file in rows]
    missing = [
        (file, name)
        for file, name in named
        if name not in find_definitions(ROOT / file) and name not in find_values(ROOT / file)
    ]
    assert not missing


@pytest.mark.parametrize("title", WALKS)
def test_every_function_of_a_walk_is_defined(title: str) -> None:
    walk = read_walk(title)
    assert 12 <= len(walk) <= 25
    assert not [(file, name) for file, name in walk if name not in find_definitions(ROOT / file)]


@pytest.fixture
def parts(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the files and the set that the walks begin with; libraries of encoders give stand-ins that decode images."""
    from support.build_fakes import FakeImages, FakeTexts, build_set, list_source, write_parquet
    from support.build_images import random_png

    from asif.encoders.images import read_image_bytes

    class Photos(FakeImages):
        def prepare(self, source: Any) -> bytes:
            return super().prepare(read_image_bytes(source))

    images, texts = Photos(pictures=True), FakeTexts()
    monkeypatch.setattr("asif.encoders.timm_.load_timm_encoder", lambda *_: images)
    monkeypatch.setattr("asif.encoders.sentence_transformers_.load_sentence_encoder", lambda *_: texts)
    monkeypatch.setattr("asif.encoders.embedded.EmbeddedWeights.find", lambda self: tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    photos = [random_png(number) for number in range(5)]
    pairs = list_source(*((str(4711 + row), photo, (f"a bolt of {row} mm",)) for row, photo in enumerate(photos)))
    build_set(pairs, home, images, texts, name="parts").anchors.close()
    Path("photo.png").write_bytes(random_png(99))
    write_parquet(Path("pairs.parquet"), photos, [["a nut"], ["a bolt", "a screw"], ["a nail"], ["a pin"], ["a peg"]])


@pytest.fixture
def fresh_threads() -> Iterator[None]:
    """Let images be decoded by threads that start in the test, and end with it."""
    from asif.encoders.prefetch import _decoder_pool

    _decoder_pool.cache_clear()
    yield
    _decoder_pool.cache_clear()


@pytest.mark.usefixtures("parts", "fresh_threads")
@pytest.mark.parametrize("title", WALKS)
def test_a_walk_names_functions_in_the_order_in_which_they_are_first_called(title: str, cli: Cli) -> None:
    for module in ("asif.engine", WALKS[title]):
        import_module(module)  # what is called while a module is imported is no step
    (command,) = [line for line in read_section(title) if line.startswith("asif ")]
    ran = []
    calls = record_first_calls(lambda: ran.append(cli(*shlex.split(command)[1:])))
    assert ran[0].code == 0, ran[0].err
    walk = read_walk(title)
    assert [each for each in calls if each in walk] == walk


# ---- what the documentation names


def find_named_paths(text: str) -> set[str]:
    """Return the paths of tests, pages and scripts in a text, and the targets of its links within the checkout."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    files = re.findall(r"(?<![\w/.:-])((?:[\w-]+/)*test_\w+\.py)\b", text)
    folders = re.findall(r"(?<![\w/.:-])((?:tests|docs)/[\w./-]*[\w/])", text)
    scripts = re.findall(r"(?<![\w/.:-])((?:asif|bench|examples)/[\w/-]+\.(?:py|sh|md))\b", text)
    return {path for path in [*links, *files, *folders, *scripts] if "://" not in path}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    """Paths are relative to the checkout or to the document; those of tests may be relative to `tests/`."""
    named = find_named_paths(document.read_text(encoding="utf-8"))
    places = (ROOT, document.parent, TESTS)
    assert not [path for path in sorted(named) if not any((place / path).exists() for place in places)]


def test_named_paths_are_found() -> None:
    text = "[here](a.md#b), `tests/test_x.py`, kernels/test_y.py, bench/z.py; https://x.org/docs/a.md, tests/golden/."
    expected = {"a.md", "tests/test_x.py", "kernels/test_y.py", "bench/z.py", "tests/golden/"}
    assert find_named_paths(text) == expected
