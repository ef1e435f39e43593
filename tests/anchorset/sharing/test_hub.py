"""Push to and pull from the Hub: the real huggingface_hub against a stand-in of its HTTP API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from support.anchorset_sets import DIMS, build, files, short_blocks
from support.edited_sets import EVERY, IDS, assert_same_set
from support.hub_standin import Hub, Repo, serving
from support.running import Cli, Ran

from asif.anchorset import Store
from asif.anchorset.sharing.hub import check_repo_name
from asif.errors import UsageError
from asif.pairs.records import read_records

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # huggingface_hub's own, on upload
REPO = "me/toy"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be short."""
    short_blocks(monkeypatch, 16)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Let huggingface_hub talk to a stand-in, as somebody who may write."""
    with serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "writer")
        yield hub
        huggingface_hub.close_session()


def uploads(hub: Hub) -> list[str]:
    return [call for call in hub.calls if call.startswith("PUT")]


def nothing_left(home: Path) -> bool:
    return files(home) == [] and [path.name for path in home.glob("anchors/*")] in ([], [".incoming"])


def test_what_is_pushed_can_be_pulled_elsewhere(home: Path, hub: Hub, cli: Cli, tmp_path: Path) -> None:
    made = build(home, EVERY)
    ran = cli("anchors", "push", "toy", REPO, "--json")
    assert ran.code == 0, ran.err
    assert "60 pairs of toy@1" in ran.err and "30 pairs have no licence" in ran.err
    told = ran.json
    assert (told["digest"], told["anchors"], told["repo"], told["private"]) == (made.digest, 60, REPO, False)
    assert len(told["uploaded"]) == len(uploads(hub)) == 2 * len(made.manifest.blocks) == 8
    assert told["bytes"] == sum(map(len, hub.stored.values()))
    assert sorted(hub.files(REPO)) == sorted([".gitattributes", "README.md", "manifest.json", *told["uploaded"]])
    other = tmp_path / "other"
    ran = cli("anchors", "pull", REPO, "--home", other, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["published"] and ran.json["digest"] == made.digest
    assert ran.json["operation"]["from"] == f"{REPO}@{told['commit'][:12]}"
    assert_same_set(Store(other).open("toy"), made)
    Store(other).verify("toy").raise_if_bad()
    assert not (tmp_path / "cache").exists()  # nothing is laid down twice
    ran = cli("anchors", "pull", REPO, "--home", other)
    assert (ran.code, ran.out) == (0, "") and "already" in ran.err
    assert "taken" not in ran.err and len(Store(other).log("toy")) == 1


@pytest.mark.slow
def test_a_second_push_uploads_what_is_new_and_a_second_pull_loads_it(
    home: Path, hub: Hub, cli: Cli, tmp_path: Path
) -> None:
    build(home, EVERY)
    assert cli("anchors", "push", "toy", REPO).code == 0
    other = tmp_path / "other"
    assert cli("anchors", "pull", REPO, "--home", other).code == 0
    hub.repos[REPO].commit("main", {**hub.files(REPO), "notes.txt": b"mine", "blocks/mine.txt": b"mine too"})
    hub.calls.clear()
    edited = Store(home).remove("toy", IDS[3:5])
    ran = cli("anchors", "push", "toy", REPO, "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["uploaded"]) == len(uploads(hub)) == 2
    assert len(ran.json["deleted"]) == 2
    assert hub.files(REPO)["notes.txt"] == b"mine" and "blocks/mine.txt" in hub.files(REPO)
    assert len([path for path in hub.files(REPO) if path.endswith(".safetensors")]) == len(edited.manifest.blocks)
    hub.calls.clear()
    refused = cli("anchors", "pull", REPO, "--home", other)
    assert refused.code == 2 and "--name toy" in refused.err
    ran = cli("anchors", "pull", REPO, "--name", "toy", "--home", other)
    assert ran.code == 0, ran.err
    assert len([call for call in hub.calls if "GET /cdn" in call]) == 2
    assert_same_set(Store(other).open("toy"), edited)
    Store(other).verify("toy").raise_if_bad()
    assert [entry.seq for entry in Store(other).log("toy")] == [2, 1]
    hub.calls.clear()
    ran = cli("anchors", "push", "toy", REPO, "--json")
    assert ran.code == 0 and ran.json["uploaded"] == [] and not any("/commit/" in call for call in hub.calls)


def test_removed_pairs_never_go_out(home: Path, hub: Hub, cli: Cli) -> None:
    build(home, EVERY)
    Store(home).remove("toy", [IDS[20]])
    assert cli("anchors", "push", "toy", REPO).code == 0
    gone, found = EVERY[20], []
    for path, content in hub.files(REPO).items():
        assert gone.id.encode() not in content and gone.captions[0].encode() not in content
        if path.endswith(".parquet"):
            (home / "table").write_bytes(content)
            found += [record.id for record in read_records(home / "table")]
    assert found and sorted(found) == [one for one in IDS if one != gone.id]


@pytest.mark.slow
def test_branches_and_revisions(home: Path, hub: Hub, cli: Cli, tmp_path: Path) -> None:
    first = build(home, EVERY)
    assert cli("anchors", "push", "toy", REPO, "--revision", "v1", "--message", "the first").code == 0
    assert "manifest.json" in hub.files(REPO, "v1") and "manifest.json" not in hub.files(REPO, "main")
    assert f"asif anchors pull {REPO}@v1" in hub.files(REPO, "v1")["README.md"].decode()
    assert cli("anchors", "pull", REPO, "--home", tmp_path / "a").code == 3  # no set on main
    assert cli("anchors", "pull", f"{REPO}@v1", "--home", tmp_path / "a").code == 0
    assert Store(tmp_path / "a").open("toy").digest == first.digest
    commit = hub.repos[REPO].branches["v1"]
    assert cli("anchors", "pull", f"{REPO}@{commit}", "--home", tmp_path / "b").code == 0
    ran = cli("anchors", "pull", f"{REPO}@v2", "--home", tmp_path / "c")
    assert ran.code == 2 and "no such revision" in ran.err


@pytest.mark.slow
def test_what_was_changed_there_is_refused(home: Path, hub: Hub, cli: Cli, tmp_path: Path) -> None:
    build(home, EVERY)
    assert cli("anchors", "push", "toy", REPO).code == 0
    whole = hub.files(REPO)
    block = next(path for path in whole if path.endswith(".safetensors"))
    table = next(path for path in whole if path.endswith(".parquet"))
    flipped = whole[block][:-1] + bytes([whole[block][-1] ^ 1])
    other = tmp_path / "other"

    def pull(expected: str, code: int = 5) -> None:
        ran = cli("anchors", "pull", REPO, "--home", other)
        assert ran.code == code and expected in ran.err, ran.err
        assert nothing_left(other)

    oid = hashlib.sha256(whole[block]).hexdigest()
    hub.tampered[oid] = flipped
    pull("has sha256")
    hub.tampered.clear()
    hub.stored[hashlib.sha256(flipped).hexdigest()] = flipped
    hub.repos[REPO].commit("main", {**whole, block: flipped})
    pull("has sha256")
    hub.repos[REPO].commit("main", {path: content for path, content in whole.items() if path != table})
    pull("is missing")
    hub.repos[REPO].commit("main", {**whole, table: whole[table] + b"more"})
    pull(f"has {len(whole[table]) + 4:,} bytes")
    hub.repos[REPO].commit("main", {**whole, "manifest.json": whole["manifest.json"].replace(b'"toy"', b'"boy"')})
    pull("checksum")
    hub.repos[REPO].commit("main", {**whole, "manifest.json": b"[]"})
    pull("JSON object")
    hub.repos[REPO].commit("main", {"README.md": b"hello"})
    pull("has no manifest.json", 3)
    hub.repos[REPO].commit("main", whole)
    assert cli("anchors", "pull", REPO, "--home", other).code == 0


def test_two_pushes_at_once(home: Path, hub: Hub, cli: Cli) -> None:
    build(home, EVERY)
    hub.repos[REPO] = Repo(private=False)
    hub.repos[REPO].commit("main", {})
    hub.before_commit = lambda: hub.repos[REPO].commit("main", {"theirs.txt": b"1"})
    ran = cli("anchors", "push", "toy", REPO)
    assert ran.code == 1 and "meanwhile" in ran.err
    assert hub.files(REPO) == {"theirs.txt": b"1"}


def test_private(home: Path, hub: Hub, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build(home, EVERY)
    ran = cli("anchors", "push", "toy", REPO, "--private", "--json")
    assert ran.code == 0 and ran.json["private"] is True and hub.repos[REPO].private
    monkeypatch.delenv("HF_TOKEN")
    ran = cli("anchors", "pull", REPO, "--home", tmp_path / "a")
    assert ran.code == 2 and "not open to you" in ran.err and "HF_TOKEN" in ran.err
    monkeypatch.setenv("HF_TOKEN", "reader")
    assert cli("anchors", "pull", REPO, "--home", tmp_path / "a").code == 0
    monkeypatch.setenv("HF_TOKEN", "writer")
    hub.repos[REPO].private = False
    hub.calls.clear()
    ran = cli("anchors", "push", "toy", REPO, "--private")
    assert ran.code == 2 and "public already" in ran.err
    assert not uploads(hub) and not any("/commit/" in call for call in hub.calls)


def refused(cli: Cli, command: str, home: Path, tmp_path: Path) -> Ran:
    arguments = ("push", "toy", REPO) if command == "push" else ("pull", REPO)
    return cli("anchors", *arguments, "--home", home if command == "push" else tmp_path / "other")


@pytest.mark.parametrize(
    ("command", "token", "code", "expected"),
    [
        ("push", None, 1, "does not know who you are"),
        ("push", "stolen", 1, "does not know who you are"),
        ("pull", "stolen", 1, "does not know who you are"),
        ("push", "reader", 1, "does not let you"),
        ("pull", "writer", 2, "there is no dataset repository me/toy"),
    ],
)
def test_who_may_not_is_told(
    home: Path,
    hub: Hub,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: str,
    token: str | None,
    code: int,
    expected: str,
) -> None:
    build(home, EVERY)
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    ran = refused(cli, command, home, tmp_path)
    assert ran.code == code and expected in ran.err, ran.err
    assert "to do:" in ran.err and hub.repos == {}


def test_a_hub_that_is_gated_broken_away_or_offline(
    home: Path, hub: Hub, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build(home, EVERY)
    assert cli("anchors", "push", "toy", REPO).code == 0
    hub.repos[REPO].gated = True
    monkeypatch.setenv("HF_TOKEN", "reader")
    ran = refused(cli, "pull", home, tmp_path)
    assert ran.code == 1 and "granted" in ran.err
    hub.broken = 418
    for command in ("push", "pull"):
        ran = refused(cli, command, home, tmp_path)
        assert ran.code == 1 and "the Hub answered 418" in ran.err
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for command in ("push", "pull"):
        ran = refused(cli, command, home, tmp_path)
        assert ran.code == 1 and "cannot be reached" in ran.err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    for command in ("push", "pull"):
        ran = refused(cli, command, home, tmp_path)
        assert ran.code == 1 and "HF_HUB_OFFLINE" in ran.err
    assert nothing_left(tmp_path / "other")


@pytest.mark.parametrize(
    "repo",
    ["", "toy", "/toy", "me/", "a/b/c", "../toy", "me/..", "me/to y", "me/t\0y", "me/\u0442oy", "me/-x",
     "m/" + "x" * 300, "me/x\n", "https://huggingface.co/me/toy", "me/toy.git"],
)  # fmt: skip
def test_names_of_repositories(home: Path, hub: Hub, cli: Cli, repo: str) -> None:
    build(home, EVERY[:3])
    for command in (("push", "toy", repo), ("pull", repo)):
        ran = cli("anchors", *command)
        assert ran.code == 2 and "USER/REPO" in ran.err
    assert hub.calls == []
    with pytest.raises(UsageError):
        check_repo_name(repo)
    check_repo_name("Some-One/toy_v1.0")


def test_a_dry_run_sends_nothing(home: Path, hub: Hub, cli: Cli) -> None:
    build(home, EVERY)
    ran = cli("anchors", "push", "toy", REPO, "--dry-run")
    assert ran.code == 0 and ran.out.startswith("---\n") and hub.calls == []
    assert cli("anchors", "push", "toy", REPO).code == 0
    assert hub.files(REPO)["README.md"].decode() == ran.out
    manifest = json.loads(hub.files(REPO)["manifest.json"])
    assert (manifest["parent"], manifest["rejects"], manifest["rows_in"]) == (None, None, 60)


def test_the_card_says_what_there_is(home: Path, hub: Hub, cli: Cli) -> None:
    from huggingface_hub import DatasetCard

    evil = replace(EVERY[0], licence='mine | <img src="x"> [a](b)', source="a\n# b")
    records = [replace(pair, licence="CC BY 4.0", source="flickr") for pair in EVERY[1:]]
    made = build(home, [evil, *records])
    Store(home).publish_profile(
        "toy", "classify", {"aligner": "cca(lambda=3)", "hubness": {"method": "nnn"}, "n": 7}, "0"
    )
    ran = cli("anchors", "push", "toy", REPO, "--dry-run")
    assert "warning: 1 pairs have a licence that may not allow" in ran.err and "have no licence" not in ran.err
    read = DatasetCard(ran.out)
    assert read.data.to_dict() == {
        "pretty_name": "toy",
        "license": "other",
        "license_name": "by-pair",
        "library_name": "asif",
        "tags": ["asif", "anchor-set", "image-text-pairs", "embeddings"],
        "size_categories": ["n<1K"],
        "configs": [{"config_name": "pairs", "data_files": "pairs/*.parquet"}],
    }
    for text in (made.digest, *(made.fingerprint(side).digest for side in DIMS), f"asif anchors pull {REPO}", "nnn"):
        assert text in read.text
    assert "| <code>flickr</code> | <code>CC BY 4.0</code> | 59 |" in read.text
    assert "<img" not in read.text and "\n# b" not in read.text and "](b)" not in read.text
    Store(home).remove("toy", [evil.id])
    ran = cli("anchors", "push", "toy", REPO, "--dry-run")
    assert DatasetCard(ran.out).data.license == "cc-by-4.0" and "warning" not in ran.err
