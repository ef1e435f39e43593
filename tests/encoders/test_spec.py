"""The names of encoders: how joins are written, read and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from asif.encoders.spec import check_spec, split_spec, unify_spec
from asif.errors import UsageError
from asif.vectors import Side

LITE = "embedded:efficientnet-lite"
JOIN = f"{LITE}0+1+2"


@pytest.mark.parametrize(
    ("spec", "side", "parts"),
    [
        ("timm:resnet50", "image", ("timm:resnet50",)),
        ("timm:a+timm:b", "image", ("timm:a", "timm:b")),
        (
            "timm:hf-hub:org/a@rev+open-clip:ViT-B-32/openai",
            "image",
            ("timm:hf-hub:org/a@rev", "open-clip:ViT-B-32/openai"),
        ),
        (JOIN, "image", (f"{LITE}0", f"{LITE}1", f"{LITE}2")),
        (f"{LITE}2+0+timm:a", "image", (f"{LITE}2", f"{LITE}0", "timm:a")),
        (
            "sentence-transformers:o/a+embedded:all-minilm-l6-v2",
            "text",
            ("sentence-transformers:o/a", "embedded:all-minilm-l6-v2"),
        ),
    ],
)
def test_joins_are_split_at_their_parts(spec: str, side: Side, parts: tuple[str, ...]) -> None:
    check_spec(spec, side)
    assert split_spec(spec) == parts
    with pytest.raises(UsageError):
        check_spec(spec, "text" if side == "image" else "image")


def test_one_join_has_one_name() -> None:
    assert unify_spec(f"{LITE}0+{LITE}1+{LITE}2") == unify_spec(JOIN) == JOIN
    assert unify_spec(f"{LITE}1+0") == f"{LITE}1+0"  # another order is another vector
    assert unify_spec(f"{LITE}0+timm:a") == f"{LITE}0+timm:a"
    assert unify_spec("sentence-transformers:a+b") == "sentence-transformers:a+b"


@pytest.mark.parametrize("name", ["a+b", "c++", "a+timm:b", "c++/model"])
@pytest.mark.parametrize(("library", "side"), [("timm:local-dir", "image"), ("sentence-transformers", "text")])
def test_a_plus_in_a_path_is_a_part_of_the_path(tmp_path: Path, name: str, library: str, side: Side) -> None:
    (tmp_path / name).mkdir(parents=True)
    spec = f"{library}:{tmp_path / name}"
    check_spec(spec, side)
    assert split_spec(spec) == (spec,)


def test_paths_in_a_join(tmp_path: Path) -> None:
    (tmp_path / "a+b").mkdir()
    spec = f"sentence-transformers:{tmp_path / 'a+b'}+embedded:all-minilm-l6-v2"
    check_spec(spec, "text")
    assert split_spec(spec) == (f"sentence-transformers:{tmp_path / 'a+b'}", "embedded:all-minilm-l6-v2")


@pytest.mark.parametrize(
    ("spec", "came", "expected", "fix"),
    [
        ("timm:a+timm:b+timm:a", "which joins timm:a twice", "different encoders", "name each of them once"),
        (f"{LITE}0+0", f"which joins {LITE}0 twice", "different encoders", "name each of them once"),
        ("timm:a+", "which has an empty part", "on each side of a +", "leave out that +"),
        ("+timm:a", "which has an empty part", "on each side of a +", "leave out that +"),
        ("timm:a++timm:b", "which has an empty part", "on each side of a +", "leave out that +"),
        ("+", "which has an empty part", "on each side of a +", "leave out that +"),
        (
            "timm:a+precomputed",
            "which joins precomputed vectors",
            "encoders that are loaded",
            "join the vectors yourself",
        ),
        (
            "precomputed+timm:a",
            "which joins precomputed vectors",
            "encoders that are loaded",
            "join the vectors yourself",
        ),
        ("timm:a+tim:b", "the image encoder is 'tim:b'", "timm:<model>", "write timm:b, if you meant that"),
        (f"{LITE}0+3", f"the image encoder is '{LITE}3'", f"{LITE}2 or", f"write {LITE}"),
        (
            "timm:a+b",
            "the image encoder is 'timm:a+b'",
            "the library of each part",
            "write timm:a+timm:b, or check the path",
        ),
        (
            f"{LITE}0+efficientnet-lite1",
            "efficientnet-lite0+efficientnet-lite1'",
            "the library of each part",
            f"write {LITE}0+{LITE}1",
        ),
        (
            "timm:a+embedded:all-minilm-l6-v2",
            "the image encoder is 'embedded:all-minilm-l6-v2'",
            f"{LITE}0",
            "for example",
        ),
    ],
)
def test_joins_that_are_refused(spec: str, came: str, expected: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_spec(spec, "image")
    assert came in caught.value.came and expected in caught.value.expected and fix in caught.value.fix
