"""Collection files: those that come with asif, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from asif.errors import NotFound, UsageError
from asif.evaluate.collections.definition import CollectionEntry, find_collection, list_collections

OWN = """name = "mine"
about = "two sets"

[[datasets]]
name = "a"
path = "sets/a"
task = "zeroshot_classification"
templates = "photo"
columns = { label = "kind" }

[[datasets]]
name = "b"
path = "s3://somewhere/b"
task = "zeroshot_classification"
shift-of = "a"

[[references]]
name = "r"
figures = { a = 0.5, b = 0.25 }
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.toml").write_text(OWN)
    return tmp_path / "own.toml"


def test_a_collection_is_read(own: Path) -> None:
    found = find_collection(str(own))
    assert found.entries == (
        CollectionEntry("a", "sets/a", "zeroshot_classification", templates="photo", columns={"label": "kind"}),
        CollectionEntry("b", "s3://somewhere/b", "zeroshot_classification", shift_of="a"),
    )
    assert found.references[0].figures == {"a": 0.5, "b": 0.25}
    assert [found.locate(each.path) for each in found.entries] == [str(own.parent / "sets/a"), "s3://somewhere/b"]
    assert [found.is_missing(each) for each in found.entries] == [True, False]
    assert find_collection(str(own), Path("/data")).locate("sets/a") == "/data/sets/a"


def test_those_that_come_with_asif() -> None:
    assert list(list_collections()) == ["freeze-align", "imagenet-shifts"]
    paper, shifts = (find_collection(name, Path("data")) for name in list_collections())
    tasks = [entry.task for entry in paper.entries]
    assert tasks.count("zeroshot_classification") == 13 and tasks.count("zeroshot_retrieval") == 2
    for entry in paper.entries:  # as CLIP_benchmark names its folders
        assert entry.path == entry.name.replace("wds/", "wds_").replace("/", "-")
    assert [entry.shift_of for entry in shifts.entries] == [None, *["wds/imagenet1k"] * 4]
    for entry in shifts.entries[1:]:
        known = [each for each in shifts.references if {entry.name, "wds/imagenet1k"} <= set(each.figures)]
        assert len(known) >= 9
        assert all(each.figures[entry.name] < each.figures["wds/imagenet1k"] for each in known)


@pytest.mark.parametrize(
    ("old", "new", "came", "fix"),
    [
        ('about = "two sets"', "", "has no about", "add about"),
        ('path = "sets/a"', 'paths = "sets/a"', "has the key 'paths'", "write path, if you meant that"),
        ('path = "sets/a"', "path = 3", "has path = 3", "correct path"),
        ('"zeroshot_classification"\ntemplates', '"classification"\ntemplates', "has task = 'classification'", "write"),
        ('shift-of = "a"', 'shift-of = "c"', "has shift-of = 'c'", "choose"),
        ('name = "b"', 'name = "a"', "has the data set 'a' twice", "rename one"),
        ("a = 0.5", "c = 0.5", "has a figure of 'c'", "choose"),
        ("a = 0.5", "a = 50", "has a = 50", "correct a"),
        (
            '"zeroshot_classification"\ntemplates',
            '"zeroshot_retrieval"\ntemplates',
            "has templates for a",
            "leave it out",
        ),
        ("name =", "name", "cannot be read", "correct the file"),
    ],
)
def test_what_is_wrong_with_a_collection_is_said(own: Path, old: str, new: str, came: str, fix: str) -> None:
    assert old in OWN
    own.write_text(OWN.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        find_collection(str(own))
    assert came in caught.value.came and fix in caught.value.fix and caught.value.expected


def test_an_unknown_one_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(NotFound, match="freeze-aligne") as caught:
        find_collection("freeze-aligne")
    assert "write freeze-align" in caught.value.fix
