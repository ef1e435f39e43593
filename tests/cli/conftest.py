"""Anchor sets, images and refusals for commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.engine_sets import make_precomputed, make_set
from support.running import Cli


@pytest.fixture
def toys(home: Path, hashing: None) -> Path:
    """Return ASIF_HOME with the sets `toy` and `vectors`, and let engines load fake encoders."""
    make_set(home).close()
    make_precomputed(home.parent / "pairs", home).close()
    return home


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder with images, one of them broken, and other files."""
    for name in ("b.png", "a.JPG", "sub/c.jpeg", "sub/notes.txt", "z.webp"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"bad" if name == "z.webp" else name.encode())
    return tmp_path / "images"


@pytest.fixture
def licensed(home: Path, hashing: None) -> Path:
    """Return ASIF_HOME with the sets `toy` and `own`: half of their pairs are CC-BY-4.0."""
    make_set(home).close()
    make_set(home, "own", seed=1).close()
    return home


@pytest.fixture
def check_refused(cli: Cli, toys: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], int, str], None]:
    """Run a command that is refused: with this exit code, this text on stderr, and no file changed."""

    def check(arguments: list[str], code: int, text: str) -> None:
        monkeypatch.chdir(toys.parent)
        before = sorted(path for path in toys.rglob("*") if path.is_file())
        ran = cli(*arguments)
        assert (ran.code, ran.out) == (code, "")
        assert text in ran.err and "Traceback" not in ran.err
        assert sorted(path for path in toys.rglob("*") if path.is_file()) == before

    return check
