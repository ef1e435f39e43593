"""asif anchors audit: the page, the object of JSON, files of ids, and what is refused."""

from __future__ import annotations

import json
import shlex
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.audit_sets import DIMS, NEAR, Planted, publish, sha256
from support.engine_sets import make_precomputed, make_set
from support.running import Cli

from asif.anchorset import Store
from asif.evaluate.audit import FINDING_KINDS, AuditResult
from asif.pairs import PairRecord
from asif.vectors import Embeddings


@pytest.fixture
def run(cli: Cli, store: Path) -> Cli:
    return partial(cli, "anchors", "audit", "planted", "--home", store, "--near", NEAR)


def test_the_folder_has_a_page_json_and_ids(run: Cli, tmp_path: Path, audited: AuditResult) -> None:
    ran = run("--out", tmp_path / "out")
    assert ran.code == 0
    out = tmp_path / "out"
    results = json.loads((out / "audit.json").read_text())
    names = {f"{kind.replace('_', '-')}.txt" for kind in FINDING_KINDS}
    assert {file.name for file in out.iterdir()} == {"audit.json", "audit.html", *names}
    for finding, about in zip(audited.findings, results["findings"], strict=True):
        assert Path(about["ids_file"]).read_text().split() == audited.removable_ids(finding)
        assert about["command"] in ran.out
    assert "Image and caption disagree" in ran.out and "written to" in ran.err
    (tmp_path / "out" / "same-pair.txt").write_text("stale")
    assert run("--out", out, "--sample", 5, "--json").code == 0
    assert (out / "same-pair.txt").read_text() == "p0364\n"


def test_the_commands_act(cli: Cli, faults: Planted, tmp_path: Path) -> None:
    faults.build(tmp_path / "home")
    again = partial(cli, "anchors", "audit", "planted", "--home", tmp_path / "home", "--near", NEAR, "--json")
    before = again("--out", tmp_path / "out").json
    for finding in before["findings"]:
        ran = cli(*shlex.split(finding["command"])[1:], "--missing-ok")
        assert ran.code == 0, ran.err
    after = again("--out", tmp_path / "out").json
    assert [finding["anchors"] for finding in after["findings"]] == [0] * len(FINDING_KINDS)
    assert [finding["command"] for finding in after["findings"]] == [None] * len(FINDING_KINDS)
    assert not list((tmp_path / "out").glob("*.txt"))


def test_json_is_one_object_and_needs_no_folder(run: Cli, audited: AuditResult) -> None:
    ran = run("--json")
    (line,) = ran.lines
    mine = json.loads(json.dumps(audited.to_json()))
    for each in (line, mine):
        del each["created"]
    assert line.pop("command").startswith("asif anchors audit planted") and line == mine


def test_a_finding_without_anchors_prints_none(cli: Cli, home: Path) -> None:
    make_set(home, count=60)
    ran = cli("anchors", "audit", "toy")
    assert ran.code == 0 and "The same pair under several ids         none" in ran.out


def test_what_is_refused(run: Cli, cli: Cli, tmp_path: Path, store: Path) -> None:
    ran = run("--pairs", tmp_path)
    assert ran.code == 2 and "--out" in ran.err
    ran = run("--out", tmp_path / "out", "--pairs", tmp_path / "nowhere")
    assert ran.code == 2 and not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    assert run("--out", tmp_path / "file").code == 2
    assert run("--near", 1.5).code == 2
    assert cli("anchors", "audit", "nothing", "--home", store).code != 0
    assert run("--probe", tmp_path / "nowhere").code == 2


def test_ids_that_no_line_can_hold_remove_only_their_pairs(cli: Cli, home: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    names = ["a", "b\na", "c", *(f"p{at}" for at in range(30))]
    records = [
        PairRecord(name, ("x",) if at < 3 else (f"{at}",), sha256(f"{max(at, 2)}")) for at, name in enumerate(names)
    ]
    sides = [Embeddings.from_raw(random.standard_normal((33, dim)) + 1).values for dim in DIMS]
    publish(home, "odd", records, *sides)
    ran = cli("anchors", "audit", "odd", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    file = tmp_path / "out" / "same-pair.txt"
    assert sorted(json.loads(file.read_text())) == ["b\na", "c"]
    assert cli("anchors", "remove", "odd", "--ids-file", file, "--json").json["removed"] == 2
    with Store(home).open("odd") as left:
        assert {record.id for record in left.records(range(31))} == {"a", *names[3:]}


def test_precomputed_sets_and_probes(cli: Cli, home: Path, tmp_path: Path) -> None:
    make_precomputed(tmp_path / "v", home, count=60)
    ran = cli(
        "anchors", "audit", "vectors", "--probe", tmp_path / "v", "--out", tmp_path / "o", "--pairs", tmp_path / "v"
    )
    assert ran.code == 0, ran.err
    assert "60 of 60 images of the probe are anchors too" in ran.err and "are not in" in ran.err
    assert json.loads((tmp_path / "o" / "audit.json").read_text())["usage"]["text"]["queries"] == 60


def test_splits_of_probe_and_pairs(run: Cli, tmp_path: Path) -> None:
    assert run("--split", "test").code == 2 and run("--pairs-split", "test").code == 2
    folder = tmp_path / "splits"
    for name in ("train", "test"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.png").write_bytes(b"x")
        (folder / name / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}')
    ran = run("--pairs", folder, "--out", tmp_path / "out")
    assert ran.code == 3 and "holds the splits test, train" in ran.err
    ran = run("--pairs", folder, "--out", tmp_path / "out", "--pairs-split", "train")
    assert ran.code == 0 and "images are not in" in ran.err
    assert run("--probe", folder).code == 3 and "holds the splits test, train" in run("--probe", folder).err
