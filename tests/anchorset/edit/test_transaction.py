"""Edits of anchor sets: removing pairs is building without them, for every reader (P14, P16)."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from anchorset.format.test_verify import reseal
from anchorset.write.test_crash import killed_builds, needs_fork
from hypothesis import given, settings
from hypothesis import strategies as st
from support.anchorset_sets import DIMS, build, dense, files, pairs, vectors
from support.running import Cli

from asif.aligners import Moments, make_aligner
from asif.anchorset import AnchorSet, Store, find_rows
from asif.anchorset.format.deletion_list import LONGEST, is_list, live_mask, live_slices, runs_of
from asif.engine import cached_fit
from asif.errors import Conflict, IntegrityError, NotFound, OutOfSpace, UnknownFormat, UsageError
from asif.kernels import topk_similarity
from asif.pairs.filter_expression import parse_where
from asif.pairs.pair import PairRecord

EVERY = sorted(pairs(60), key=lambda pair: pair.id)
IDS = [pair.id for pair in EVERY]


def publish(root: Path, records: list[PairRecord] = EVERY, **how: str) -> AnchorSet:
    return build(root, records, segment=13, **how)  # type: ignore[arg-type]


def same(found: AnchorSet, expected: AnchorSet) -> None:
    """Compare all that a reader sees."""
    assert (found.digest, found.count) == (expected.digest, expected.count)
    assert found.records(range(found.count)) == expected.records(range(expected.count))
    for side in DIMS:
        np.testing.assert_array_equal(dense(found, side), dense(expected, side))
        np.testing.assert_array_equal(found.mean(side), expected.mean(side))
    queries = vectors(pairs(4, start=900), "image")
    for engine in ("auto", "reference"):
        one, two = (topk_similarity(queries, each.blocks("image"), 5, engine=engine) for each in (found, expected))
        np.testing.assert_array_equal(one.indices, two.indices)
        np.testing.assert_array_equal(one.scores, two.scores)


# ---- deletion lists


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_a_deletion_list_says_which_rows_are_there(live: list[bool]) -> None:
    runs = runs_of(np.array(live))
    assert live_mask(runs, len(live)).tolist() == live
    assert [row for some in live_slices(runs, len(live)) for row in range(len(live))[some]] == np.flatnonzero(
        live
    ).tolist()
    assert is_list(runs, len(live)) == (any(live) and len(runs) <= 2 * LONGEST)


@pytest.mark.parametrize("runs", [(1,), (0, 0), (1, -1), (2, 9), (0, 10), (1, True), (1.0, 1), ("1", 1), (1, 1) * 17])
def test_what_is_no_deletion_list_is_refused(home: Path, runs: tuple[object, ...]) -> None:
    publish(home, EVERY[:10])
    reseal(home / "anchors/toy", lambda m: (m["blocks"][0].update(deleted=runs), m.update(features=["deletions"])))
    with pytest.raises(IntegrityError):
        Store(home).open("toy")


@pytest.mark.parametrize("features", [[], ["deletions", "deletions"], ["deletions", "holograms"]])
def test_deletions_are_a_feature_that_must_be_understood(home: Path, features: list[str]) -> None:
    publish(home)
    Store(home).remove("toy", IDS[3:4])
    assert (
        b'"features":["deletions"]'
        in (home / f"anchors/toy/versions/{Store(home).open('toy').version}.json").read_bytes()
    )
    assert b'"features":[]' in files(home / "anchors/toy/versions")[0].read_bytes()  # readable by older ones still
    reseal(home / "anchors/toy", lambda m: m.update(features=features))
    with pytest.raises(UnknownFormat if "holograms" in features else IntegrityError):
        Store(home).open("toy")


# ---- removing is building without


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sets(st.sampled_from(IDS), max_size=25), min_size=1, max_size=3),
    st.sampled_from(["float16", "float32"]),
    st.sampled_from([7, 40, 100]),
)
def test_removing_pairs_gives_the_digest_of_a_build_without_them(gone: list[set[str]], dtype: str, cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder, patch("asif.anchorset.write.publish.MAX_ROWS", cut):
        root = Path(folder)
        publish(root, dtype=dtype)
        for some in gone:
            found = Store(root).remove("toy", some, missing_ok=True)
        left = [pair for pair in EVERY if not any(pair.id in some for some in gone)]
        if not left:
            return
        expected = publish(root / "other", left, dtype=dtype)
        assert (found.digest, found.count) == (expected.digest, len(left))
        assert found.records(range(found.count)) == left
        for side in DIMS:
            np.testing.assert_array_equal(dense(found, side), dense(expected, side))
            np.testing.assert_allclose(found.mean(side), expected.mean(side), rtol=0, atol=1e-15)
        assert Store(root).verify("toy").problems == ()
        found.close()
        expected.close()


@pytest.mark.parametrize("gone", [IDS[3:4], IDS[:1], IDS[-1:], IDS[::2], IDS[5:50], IDS[:-1]], ids=len)
def test_readers_see_what_a_build_without_them_has(home: Path, gone: list[str]) -> None:
    publish(home)
    found = Store(home).remove("toy", gone)
    expected = publish(home / "other", [pair for pair in EVERY if pair.id not in gone])
    same(found, expected)
    assert (found.manifest.rows_in, found.manifest.parent) == (found.count, Store(home).open("toy@1").version)
    assert found.manifest.operation == {"kind": "remove", "pairs": len(gone)}
    assert Store(home).diff("toy@1", "toy").removed == tuple(gone)
    assert Store(home).open("toy@1").count == 60
    Store(home).verify("toy").raise_if_bad()


def test_few_deletions_are_views_and_cost_bytes(home: Path) -> None:
    publish(home)
    before = set(files(home))
    found = Store(home).remove("toy", [IDS[10], IDS[30]])
    (new,) = set(files(home)) - before
    assert new.parent.name == "versions"
    whole = Store(home).open("toy@1").blocks("image")[0]
    assert [len(piece) for piece in found.blocks("image")] == [10, 19, 29]
    for piece in found.blocks("image"):
        assert not piece.flags.owndata and not piece.flags.writeable
        assert type(piece.base) is not np.ndarray or piece.base.nbytes == whole.nbytes
    assert all(one is two for one, two in zip(found.blocks("text"), found.blocks("text"), strict=True))


def test_many_pieces_are_written_as_one(home: Path) -> None:
    publish(home)
    found = Store(home).remove("toy", IDS[1 : 2 * LONGEST : 2])
    assert len(found.blocks("image")) == LONGEST + 1
    again = Store(home).remove("toy", [IDS[40]])
    assert len(again.blocks("image")) == 1 and again.manifest.blocks[0].deleted == ()
    same(
        again, publish(home / "other", [pair for pair in EVERY if pair.id not in {*IDS[1 : 2 * LONGEST : 2], IDS[40]}])
    )
    Store(home).verify("toy").raise_if_bad()


def test_sums_follow_a_removal_row_by_row(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.anchorset.format.anchor_set.FEWEST", 1)
    monkeypatch.setattr("asif.anchorset.write.publish.MAX_ROWS", 30)
    cached_fit.sums(publish(home))
    found = Store(home).remove("toy", [IDS[4], IDS[5], IDS[40]])
    kept = found.kept_sums()
    assert kept is not None and kept.added == [] and [len(image) for image, _ in kept.removed] == [2, 1]
    got, fresh = cached_fit.sums(found).as_arrays(), Moments.of(found).as_arrays()
    for name in fresh:
        np.testing.assert_allclose(got[name], fresh[name], rtol=0, atol=1e-12)
    Store(home).rollback("toy")
    Store(home).verify("toy").raise_if_bad()


def test_a_fit_to_other_pairs_is_not_taken_up(home: Path) -> None:
    before, described = publish(home), {"name": "ridge", "parameters": make_aligner("ridge").parameters}
    cached_fit.fit(make_aligner("ridge"), before)
    assert before.kept_fit(described) is not None
    after = Store(home).remove("toy", IDS[:2])
    assert after.kept_fit(described) is None
    assert after.kept_aligners("ridge")[0][1] == before.digest


# ---- what is refused


def test_unknown_ids_and_all_pairs_are_refused(home: Path) -> None:
    publish(home)
    before = files(home)
    with pytest.raises(NotFound, match="has no 'nobody'"):
        Store(home).remove("toy", ["nobody", IDS[0]])
    with pytest.raises(UsageError, match="all 60 pairs of toy@1 would be removed"):
        Store(home).remove("toy", IDS)
    with pytest.raises(UsageError, match="neither"):
        Store(home).remove("toy")
    assert Store(home).remove("toy", ["nobody"], missing_ok=True).manifest.seq == 1
    assert Store(home).remove("toy", where="id = 'nobody'").manifest.seq == 1
    assert files(home) == before
    assert Store(home).remove("toy", ["nobody", IDS[0]], missing_ok=True).count == 59


def test_only_the_current_version_is_edited(home: Path) -> None:
    publish(home)
    current = Store(home).remove("toy", IDS[:1]).version
    with pytest.raises(Conflict, match=f"but the current version is {current}"):
        Store(home).remove("toy@1", IDS[1:2])
    assert Store(home).remove("toy@2", IDS[1:2]).manifest.seq == 3


def test_of_many_edits_at_once_none_is_lost(home: Path) -> None:
    publish(home)

    said: list[str] = []

    def edit(name: str) -> int:
        for conflicts in itertools.count():
            try:
                Store(home).remove("toy", [name])
                return conflicts
            except Conflict as error:
                said.append(error.came)
        raise AssertionError

    with ThreadPoolExecutor(8) as pool:
        conflicts = list(pool.map(edit, IDS[:32]))
    assert sum(conflicts) == len(said) and all("but the current version is 0000" in came for came in said)
    assert Store(home).open("toy").manifest.seq == 33
    same(Store(home).open("toy"), publish(home / "other", EVERY[32:]))
    Store(home).verify("toy").raise_if_bad()


# ---- killed, and out of room


@needs_fork
def test_an_edit_killed_at_any_change_to_the_disk_leaves_a_whole_version(tmp_path: Path) -> None:
    results = killed_builds(tmp_path, "edits")
    for name in ("list", "anew", "block", "add", "purge", "tune"):
        mine = [result for result in results if result["edit"] == name]
        assert [result["killed"] for result in mine] == [-9] * (len(mine) - 1) + [0] and len(mine) > 8
        old, new = mine[0]["seen"][0], mine[-1]["seen"][0]
        assert (old == new) == (name == "tune")
        for result in mine:
            assert result["seen"][0] in (old, new), result
            assert all("stray" in problem for problem in result["seen"][1:]), result
            assert (result["after"], result["left"]) == ([new], []), result
            assert result["versions"] == (1 if name == "purge" else 2), result


def test_a_full_disk_leaves_the_old_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, real = publish(home).digest, os.fsync
    new = publish(home.parent / "other", EVERY[1::2]).digest
    for point in itertools.count(1):
        left, root = [point], home.parent / str(point)
        shutil.copytree(home, root)

        def fsync(descriptor: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        try:
            Store(root).remove("toy", IDS[::2])
            break
        except OutOfSpace:
            left[0] = 0
        assert Store(root).open("toy").digest in (old, new)
        assert Store(root).remove("toy", IDS[::2], missing_ok=True).digest == new
        assert len(Store(root).log("toy")) == 2
        Store(root).verify("toy").raise_if_bad()
    assert point > 4


# ---- expressions


WHERE = {
    "id = '2'": [1],
    "id in ('1', '3')": [0, 2],
    "ID NOT IN ('1', '3')": [1],
    "id in '1'": [0],
    "caption = 'a dog'": [1],
    "caption != 'a dog'": [0, 2],
    "caption like '%dog%'": [1, 2],
    "caption not like '%dog%'": [0],
    "not caption like '%dog%'": [0],
    "caption like 'A%'": [],
    "caption like 'a _og'": [1],
    "source = 'web'": [0],
    "source != 'web'": [1, 2],
    "license = 'CC0' or url like '%example.org/_'": [1, 2],
    "licence != 'CC0' and not (id = '1')": [2],
    "id = '1' or id = '2' and id = '3'": [0],
    r"caption like '%\d%'": [2],
    'caption = "it\'s a dog\\d"': [2],
}  # fmt: skip
RECORDS = [
    PairRecord("1", ("a cat",), "x", source="web"),
    PairRecord("2", ("nothing", "a dog"), "x", licence="CC0"),
    PairRecord("3", ("it's a dog\\d",), "x", source="x", url="https://example.org/3"),
]


@pytest.mark.parametrize("text", WHERE)
def test_expressions(text: str) -> None:
    holds = parse_where(text)
    assert [row for row, record in enumerate(RECORDS) if holds(record)] == WHERE[text]


@pytest.mark.parametrize(
    "text",
    ["", "id", "id =", "id = 1", "id = source", "'a' = 'a'", "size = 'x'", "id < '1'", "id = 'a' = 'b'", "id like id",
    "__import__('os').system('x') = 'a'", "id = f'{1}'", "id = b'x'", "(lambda: 1)", "id = 'a' 'b'", "id = 'it''s'",
    "id = '1'; id = '2'", "id = '1' # x", "id @ 'x'", "id % 'x'", "id is none", "id = 'a' if id else id", "(" * 500,
    "id in ()or", "not " * 9000 + "id = '1'", "id = '1' and", "id = '\0'", "[id for id in id]", "id in ('a', 1)"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write for example"):
        parse_where(text)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    refusal, found = None, set[bool]()
    try:
        holds = parse_where(text)
        found = {holds(record) for record in RECORDS}
    except UsageError as error:
        refusal = error.fix
    assert found <= {True, False}
    assert bool(found) is (refusal is None)  # it says yes or no of every pair, or is refused
    assert refusal is None or "write for example" in refusal


def test_rows_are_found_by_expression(home: Path) -> None:
    opened = publish(home)
    expected = [row for row, pair in enumerate(EVERY) if pair.licence is None and pair.source]
    assert find_rows(opened, where="licence != 'CC-BY-4.0' and source like 'source%'").tolist() == expected != []
    after = Store(home).remove("toy", where="licence != 'CC-BY-4.0' and source like 'source%'")
    assert after.count == 60 - len(expected)
    assert find_rows(after, where="licence != 'CC-BY-4.0' and source like 'source%'").tolist() == []
    last = after.records([after.count - 1])[0].id
    assert find_rows(after, [last]).tolist() == [after.count - 1] and opened.count == 60


# ---- the command line


def test_commands(home: Path, tmp_path: Path, cli: Cli) -> None:
    publish(home)
    (tmp_path / "ids").write_text(f"{IDS[1]}\n{IDS[2]}\n")
    dry = cli("anchors", "remove", "toy", "--id", IDS[0], "--ids-file", tmp_path / "ids", "--dry-run", "--json").lines
    assert [line["id"] for line in dry] == IDS[:3] and len(Store(home).log("toy")) == 1
    assert (
        "3 pairs of 60 would"
        in cli("anchors", "remove", "toy", "--id", IDS[0], "--ids-file", tmp_path / "ids", "--dry-run").out
    )
    done = cli("anchors", "remove", "toy", "--id", IDS[0], "--ids-file", tmp_path / "ids", "--json").json
    assert (done["removed"], done["anchors"]) == (3, 57)
    assert cli("anchors", "remove", "toy", "--id", IDS[0]).code == 2
    ok = cli("anchors", "remove", "toy", "--id", IDS[0], "--missing-ok")
    assert ok.code == 0 and "nothing was changed" in ok.err and Store(home).open("toy").manifest.seq == 2
    assert "toy@3: " in cli("anchors", "remove", "toy", "--where", f"id = '{IDS[3]}'").out
    assert cli("anchors", "remove", "toy@2", "--id", IDS[9]).code == 1
    for wrong in ([], ["--id", "x", "--where", "id = 'x'"], ["--where", "id = 'x'", "--missing-ok"], ["--where", "id"]):
        assert cli("anchors", "remove", "toy", *wrong).code == 2
    assert "remove 1 pairs" in cli("anchors", "log", "toy").out
