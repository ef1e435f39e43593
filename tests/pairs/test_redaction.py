"""No credential of a URL is shown, in messages, in sets and in results."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.labelled_files import LAYOUTS
from support.pair_files import vector_table
from support.remote_pairs import SECRETS
from support.remote_stores import ToyStore, put_folder
from support.running import Cli

from asif.anchorset import Store as Anchors
from asif.cli.eval_ import name_dataset
from asif.evaluate.provenance import describe_data_used
from asif.pairs import open_labelled, redact_url
from asif.pairs.redaction import redact_text
from asif.pairs.retry import describe_error

pytestmark = pytest.mark.usefixtures("stores")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@host:80/a.parquet?sig=token&x=1#frag", "https://…@host:80/a.parquet?…"),
        ("https://token@host/a", "https://…@host/a"),
        ("s3://key:sec/ret@bucket/a", "s3://…@bucket/a"),
        ("https://host/a?sig=to ken'\"", "https://host/a?…"),
        ("https://host/a#token", "https://host/a#…"),
        ("simplecache::https://host/a?sig=token", "simplecache::https://host/a?…"),
        ("zip://in/a.csv::https://me:secret@host/a.zip?sig=token", "zip://in/a.csv::https://…@host/a.zip?…"),
        ("captions:https://host/a?sig=token", "captions:https://host/a?…"),
        *(
            (url, url)
            for url in ("abfs://container@account/a", "sftp://me@host:22/x@2/a", "hf://datasets/me/it@main/a")
        ),
        *((url, url) for url in ("a/b?c", "s3://bucket/a#1@x:2@y", "http://host:8080/x@y", "")),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert redact_url(url) == shown and redact_url(shown) == shown


def test_what_is_shown_of_an_error() -> None:
    text = "GET https://me:secret@host/a?sig=token: 403 (see 'http://x/?k=token'); what? s3://b/c"
    assert redact_text(text) == "GET https://…@host/a?… 403 (see 'http://x/?…'); what? s3://b/c"
    assert describe_error(ValueError("url: /a?sig=token failed"), "?sig=token") == "ValueError: url: /a?… failed"
    assert describe_error(ValueError("")) == "ValueError: no reason given"


def test_credentials_are_nowhere(tmp_path: Path, cli: Cli, home: Path) -> None:
    data = tmp_path / "data"
    vector_table(data, caption=["a", "b"], id=["1", "2"]).rename(data / "first.parquet")
    vector_table(data, caption=["c", "d"], id=["3", "4"]).rename(data / "new.parquet")
    put_folder(data, "bucket")
    url = "toys://me:secret@bucket/{}?sig=token"
    ran = cli("build-anchors", url.format("first.parquet"), "--name", "toy", "--json")
    assert (ran.code, ran.json["anchors"]) == (0, 2), ran.err
    assert "toys://…@bucket/first.parquet?…: precomputed" in ran.err
    added = cli("anchors", "add", "toy", url.format("new.parquet"), "--json")
    assert (added.code, added.json["anchors"]) == (0, 4), added.err
    missing = cli("anchors", "add", "toy", url.format("gone.parquet"))
    assert (missing.code, missing.out) == (2, "") and "toys://…@bucket/gone.parquet?… does not exist" in missing.err
    bad = cli("build-anchors", url.format("a.txt"), "--name", "other")
    assert bad.code == 2
    written = [file.read_bytes() for file in home.rglob("*") if file.is_file()]
    assert len(written) > 4
    for secret in SECRETS:
        assert not any(secret.encode() in content for content in written)
        assert not any(secret in text for each in (ran, added, missing, bad) for text in (each.out, each.err))
    with Anchors(home).open("toy@1") as anchors:
        assert anchors.manifest.operation["source"] == "toys://…@bucket/first.parquet?…"


def test_results_show_no_credentials(tmp_path: Path) -> None:
    """Neither does a result of an evaluation, where the path stands among what was evaluated on."""
    LAYOUTS["texts"](tmp_path / "data")
    put_folder(tmp_path / "data", "bucket")
    (name,) = ToyStore.files
    url = f"toys://me:secret@{name}?sig=token"
    told_about = describe_data_used(open_labelled(url).source, "…")
    assert told_about.path == redact_url(url) == name_dataset(url)
    assert told_about.sha256 == open_labelled(next(tmp_path.rglob("*.parquet"))).source.sha256
