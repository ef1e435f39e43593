"""Measure the structure of the code: names defined in several files, and the code that two common commands run.

    python bench/structure.py

Prints the lines of asif/ and tests/, the top-level names that two or more files define, and the files and functions
of asif that `asif classify one.jpg` and `asif build-anchors` of 24 rows run, counted by a profile hook. Module bodies,
comprehensions and lambdas are not counted as functions.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROWS = 24


def top_level_names() -> dict[str, set[str]]:
    """Return the files that define each top-level function or class of asif."""
    homes = defaultdict(set)
    for path in (ROOT / "asif").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                homes[node.name].add(str(path.relative_to(ROOT)))
    return homes


def lines(folder: str) -> int:
    """Count the lines of Python files."""
    return sum(len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py"))


def passed_through(arguments: list[str]) -> tuple[int, int]:
    """Run a command in this process; return how many files and functions of asif it ran."""
    from asif.cli import main

    package = str(ROOT / "asif")
    seen: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        body = not frame.f_code.co_flags & CO_OPTIMIZED  # of a class or a module, run on import
        if event == "call" and not body and frame.f_code.co_filename.startswith(package):
            seen.add(frame.f_code)

    sys.argv = ["asif", *arguments]
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        main()
    except SystemExit as stop:
        if stop.code not in (None, 0):
            raise
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    functions = {(code.co_filename, code.co_firstlineno) for code in seen if not code.co_name.startswith("<")}
    return len({name for name, _ in functions}), len(functions)


def count_in_own_process(arguments: list[str]) -> str:
    """Run a command in a new process, with nothing loaded or cached; return the numbers of files and functions."""
    run = [sys.executable, __file__, *arguments]
    done = subprocess.run(run, check=True, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return done.stderr.splitlines()[-1]


def write_pairs(path: Path) -> None:
    """Write pairs of images of one colour and captions that name it."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    images = []
    for row in range(ROWS):
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (row * 10, 255 - row * 10, 128)).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": f"{row}.png"})
    pq.write_table(pa.table({"image": images, "caption": [f"colour number {row}" for row in range(ROWS)]}), path)


def report() -> None:
    """Print every figure."""
    homes = top_level_names()
    several = {name: files for name, files in homes.items() if len(files) > 1}
    public = [name for name in several if not name.startswith("_")]
    print(f"lines: asif {lines('asif')}, tests {lines('tests')}")
    print(f"top-level functions and classes: {len(homes)} names, of which public {sum(n[0] != '_' for n in homes)}")
    print(f"defined in two or more files: {len(several)}, of which public {len(public)}")
    with tempfile.TemporaryDirectory() as folder:
        home, pairs, image = Path(folder, "home"), Path(folder, "pairs.parquet"), Path(folder, "one.png")
        write_pairs(pairs)
        from PIL import Image

        Image.new("RGB", (64, 64), (200, 30, 30)).save(image)
        commands = {
            "classify": ["classify", str(image), "--labels", "cat,dog", "--home", str(home)],
            "build-anchors": ["build-anchors", str(pairs), "--name", "pairs", "--home", str(home)],
        }
        count_in_own_process(commands["classify"])  # builds the default anchors once
        for name, arguments in commands.items():
            print(f"{name}: {count_in_own_process(arguments)}")


if __name__ == "__main__":
    if sys.argv[1:]:
        files, functions = passed_through(sys.argv[1:])
        print(f"{files} files, {functions} functions", file=sys.stderr)
    else:
        report()
