"""Files of labels: every format by its content, errors with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from asif.errors import UsageError
from asif.pairs.label_file import read_label_file

CAT_AND_DOG = [("0", ("cat",)), ("1", ("dog",))]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "cat\n\n  # comment\ntench, Tinca tinca\r\n", [("cat", ()), ("tench, Tinca tinca", ())]),
        ("a.txt", "text, textual matter\nC#\n", [("text, textual matter", ()), ("C#", ())]),
        ("a.txt", "0\tcat | house cat\n1\tdog\tpuppy\n", [("0", ("cat", "house cat")), ("1", ("dog", "puppy"))]),
        ("a.tsv", "id\tname\n0\tcat\n1\tdog\n", CAT_AND_DOG),
        ("a.csv", "label\ncat\ndog\n", [("cat", ()), ("dog", ())]),
        ("a.csv", "# made by hand\nid,name\n0,cat\n\n1,dog\n", CAT_AND_DOG),
        ("a.csv", "Index;Label\n0;cat\n1;dog\n", CAT_AND_DOG),
        (
            "a.csv",
            'name,class,size\n"cat, tabby",0,3\n"the ""dog""",1,4\n',
            [("0", ("cat, tabby",)), ("1", ('the "dog"',))],
        ),
        ("a.txt", "label,name\n0,cat\n1,dog\n", CAT_AND_DOG),
        ("a.json", '["cat", 7]', [("cat", ()), ("7", ())]),
        ("a.json", '{"0": "cat", "1": ["dog"]}', CAT_AND_DOG),
        ("a", '[{"id": 0, "name": "cat"}, {"id": 1, "name": "dog", "supercategory": "animal"}]', CAT_AND_DOG),
    ],
)
def test_the_content_decides_the_format(
    tmp_path: Path, name: str, content: str, expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    (tmp_path / name).write_bytes(content.encode("utf-8-sig"))
    assert [(entry.label, entry.names) for entry in read_label_file(tmp_path / name)] == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "# nothing\n\n", "a.txt is empty"),
        ("a.txt", "cat\n\n# x\nd\0g\n", "line 4 of {} contains a NUL character"),
        ("a.txt", "# x\n0\tcat\ndog\n", "line 3 of {} is 'dog'"),
        ("a.txt", "0\tcat\n1\tdog\n0\tcow\n", "{} names '0' twice, in line 1 and line 3"),
        ("a.csv", "cat,dog\n", "line 1 of {} is 'cat,dog'"),
        ("a.csv", "id,name\n0,cat\n1\n", "line 3 of {} has 1 cells, the header 2"),
        ("a.csv", "id,name\n0,cat\n1,\n", "line 3 of {} has an empty cell"),
        ("a.csv", 'id,name\n0,cat\n1,"dog\n2,cow\n', "line 3 of {} is not CSV"),
        ("a.json", '["cat", null]', "item 2 of {} is None"),
        ("a.json", '["cat", {"id": 1, "name": "dog"}]', "{} gives names in some places, and none in item"),
        ("a.json", '["cat", "dog"', "{} is not JSON (Expecting"),
        ("a.json", '["cat", " "]', "item 2 of {}"),
    ],
)
def test_errors_name_the_file_and_the_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError) as caught:
        read_label_file(tmp_path / name)
    assert message.format(tmp_path / name) in caught.value.came
    assert len(caught.value.came) < 300 + len(str(tmp_path))
