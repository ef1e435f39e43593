"""Names of sets and references to them: what is accepted, and that nothing else touches the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.anchorset_sets import build, pairs

from asif.anchorset import Store, parse_reference
from asif.errors import UsageError

GOOD = ["a", "0", "coco-2017.train_v1", "a" * 64]


BAD = [
    "", ".", "..", "-a", "_a", ".a", "A", "a b", "a/b", "../../x", "/etc/passwd", "a\\b", "a\0", "a\n", "a" * 65,
    "a" * 300, "\u0430", "\uff41", "é", "a..b", "a@b", "con:", "a*", "\u0661", "~a", "a\u202eb", "./" + "a" * 5000,
    "./\udc80",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_names(tmp_path: Path, name: str) -> None:
    assert parse_reference(name).name == name
    assert build(tmp_path, pairs(1), name=name).name == name
    assert Store(tmp_path).open(f"{name}@1").name == name


@pytest.mark.parametrize("name", BAD)
def test_bad_names_touch_nothing(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(UsageError):
        store.journal(name, {"dtype": "float16"})
    with pytest.raises(UsageError):
        store.size(name)
    with pytest.raises(UsageError):  # NotFound, where it is read as a path
        store.open(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ref", "name", "path", "selector"),
    [
        ("toy", "toy", None, None),
        ("toy@best", "toy", None, "best"),
        ("toy@12", "toy", None, "12"),
        ("./toy", None, Path("toy"), None),
        ("/a@b/toy", None, Path("/a@b/toy"), None),
        ("/a@b/toy@3", None, Path("/a@b/toy"), "3"),
        (".", None, Path("."), None),
        ("toy@../x", None, Path("toy@../x"), None),
    ],
)
def test_references(ref: str, name: str | None, path: Path | None, selector: str | None) -> None:
    found = parse_reference(ref)
    assert (found.name, found.path, found.selector) == (name, path, selector)


@pytest.mark.parametrize("ref", ["toy@", "toy@A", "toy@a@b", "@a", "toy@\0", "toy@-1", "toy@²"])
def test_bad_references(ref: str) -> None:
    with pytest.raises(UsageError):
        parse_reference(ref)
