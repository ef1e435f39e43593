"""Pairs that lie elsewhere: the same as from here, or a plain error; nothing lost, no credential shown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.build_fakes import build_set, identity, rejects, write_parquet
from support.labelled_files import LAYOUTS, found
from support.pair_files import KINDS, files, image_paths, table, vector_parts, vector_table
from support.remote_stores import ToyStore, install_store, put_folder, serve_folder
from support.running import Cli

from asif.anchorset import Store as Anchors
from asif.building import Tolerance
from asif.cli.eval_ import name_dataset
from asif.errors import AsifError, InputRefused, MissingDependency, OutOfSpace, Unreachable, UsageError
from asif.evaluate.provenance import describe_data_used
from asif.pairs import Pair, PairSource, Reject, open_labelled, open_pairs, redact_url, remote_file
from asif.pairs.redaction import redact_text
from asif.pairs.remote import RemotePath, connect
from asif.pairs.retry import PAUSES, describe_error

SECRETS = ("secret", "token")
TWO = Tolerance(number=2)


def within(make: Callable[[Path], Path], path: Path) -> Path:
    path.mkdir()
    return make(path)


FORMS: dict[str, Callable[[Path], Path]] = {
    **{make.__name__: partial(within, make) for make in KINDS if make is not image_paths},
    "npy": lambda path: vector_parts(path, True, True),
    "npy without metadata": lambda path: vector_parts(path, False, False),
    "vectors": lambda path: vector_table(path, caption=["a", "b"]),
}


@pytest.fixture(autouse=True)
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Empty stores, and no waiting between attempts."""
    memory: Any = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    install_store()
    monkeypatch.setattr("asif.pairs.retry.PAUSES", (0.0,) * len(PAUSES))
    yield
    memory.store.clear()


def in_memory(path: Path, folder: Path) -> str:
    """Copy a folder into fsspec's memory; returns the URL of a path in it."""
    fsspec.filesystem("memory").put(str(folder), "/bucket", recursive=True)
    return f"memory://bucket/{path.relative_to(folder).as_posix()}".removesuffix("/.")


def contents(source: PairSource) -> list[Any]:
    """Read a source whole, images and vectors as bytes."""
    return [content(item) for item in source.read()]


def content(item: Pair | Reject) -> Any:
    if isinstance(item, Reject):
        return item
    image = item.image
    if image is not None and not isinstance(image, bytes):
        with image.open("rb") as file:
            image = file.read()
    vectors = [None if v is None else np.asarray(v).tobytes() for v in (item.image_embedding, item.text_embedding)]
    return item.row, item.id, image, item.captions, item.source, item.url, item.label, vectors


# the same as from here


@pytest.mark.parametrize("form", FORMS)
def test_every_form_elsewhere_is_what_it_is_here(form: str, tmp_path: Path) -> None:
    here = FORMS[form](tmp_path / "data")
    local, remote = open_pairs(here), open_pairs(in_memory(here, tmp_path / "data"))
    assert contents(remote) == contents(local) and len(contents(local)) > 1
    for what in ("kind", "columns", "unused", "dims", "rows", "bytes", "sha256"):
        assert getattr(remote, what) == getattr(local, what), what
    assert [file.name for file in remote.files] == [file.name for file in local.files]
    assert [item.row for item in remote.read(1)] == list(range(1, local.rows))
    assert remote.describe().splitlines()[1:] == local.describe().splitlines()[1:]
    built = [build_set(source, tmp_path / name).anchors for name, source in (("here", local), ("there", remote))]
    assert identity(built[0]) == identity(built[1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_labelled_layouts_elsewhere(layout: str, tmp_path: Path) -> None:
    here = LAYOUTS[layout](tmp_path / "data")
    local, remote = open_labelled(here), open_labelled(in_memory(here, tmp_path))
    assert contents(remote.source) == contents(local.source)
    assert [(item.row, item.label) for item in remote.read() if isinstance(item, Pair)] == [
        (item.row, item.label) for item in local.read() if isinstance(item, Pair)
    ]
    assert (remote.classes, remote.templates) == (local.classes, local.templates)
    assert remote.source.sha256 == local.source.sha256
    assert len(found(local)) == 3


def test_a_file_url_is_a_path_here(tmp_path: Path) -> None:
    path = table(tmp_path / "a b.parquet", image=[b"first"], text=["a dog"])
    assert open_pairs(path.as_uri()).path == path
    assert open_pairs(path.as_uri()).identity == open_pairs(path).identity
    with pytest.raises(UsageError, match="another machine"):
        open_pairs("file://elsewhere/a.parquet")


def test_shards_in_natural_order_and_their_footers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "_BLOCK_BYTES", 1 << 12)
    for shard in range(12):
        images = [np.random.default_rng(shard).bytes(400_000), b"x"]
        table(tmp_path / f"part-{shard}.parquet", image=images, caption=[f"{shard}", "more"])
    put_folder(tmp_path, "bucket")
    source = open_pairs("toys://bucket")
    assert [file.name for file in source.files] == [f"part-{shard}.parquet" for shard in range(12)]
    assert sum(end - start for _, start, end in ToyStore.requests) < source.bytes / 2
    assert contents(source) == contents(open_pairs(tmp_path))


def test_a_tar_that_is_done_is_not_read_again(tmp_path: Path) -> None:
    folder = FORMS["tar_folder"](tmp_path / "data")
    put_folder(folder, "bucket")
    source = open_pairs("toys://bucket")
    assert source.rows == 2
    ToyStore.requests.clear()
    assert [item.row for item in source.read(1)] == [1]
    assert {path for path, _, _ in ToyStore.requests} == {"bucket/00001.tar"}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=300),
    moves=st.lists(st.tuples(st.sampled_from(["start", "here", "end"]), st.integers(-50, 350), st.integers(0, 120))),
    broken=st.sets(st.integers(1, 60), max_size=20),
    cut=st.sets(st.integers(1, 60), max_size=20),
)
def test_any_reading_gives_the_bytes_or_an_error(
    data: bytes, moves: list[tuple[str, int, int]], broken: set[int], cut: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails or comes short on the way: what is read is right, or Unreachable is raised."""
    install_store()
    monkeypatch.setattr(remote_file, "_BLOCK_BYTES", 16)
    monkeypatch.setattr(remote_file, "_CACHED_BLOCKS", 3)

    def answer(number: int, content: bytes) -> bytes:
        if number in broken:
            raise TimeoutError("no answer")
        return content[: len(content) // 2] if number in cut else content

    ToyStore.files["bucket/a"], ToyStore.answer = data, staticmethod(answer)
    file, at = connect("toys://bucket/a").open("rb"), 0
    for whence, offset, count in moves:
        base = {"start": 0, "here": at, "end": len(data)}[whence]
        target = max(0, base + offset)
        file.seek(target)
        try:
            got = file.read(count)
        except Unreachable:
            assert broken | cut
            return
        assert got == data[target : target + count]
        at = file.tell()
        assert at == target + len(got)


# what fails


def test_one_failed_request_is_asked_again(tmp_path: Path) -> None:
    ToyStore.files["bucket/a.parquet"] = write_parquet(tmp_path / "a.parquet", [b"1", b"2"], ["a", "b"]).read_bytes()
    whole = contents(open_pairs("toys://bucket/a.parquet"))
    needed = len(ToyStore.requests)

    def some(number: int, content: bytes) -> bytes:
        if number % 3:
            raise ConnectionResetError("reset by peer")
        return content

    ToyStore.requests.clear()
    ToyStore.answer = staticmethod(some)
    assert contents(open_pairs("toys://bucket/a.parquet")) == whole
    assert len(ToyStore.requests) > needed


FAILURES: dict[str, tuple[Exception, type[Exception], int, str]] = {
    "gone": (FileNotFoundError("x"), UsageError, 2, "does not exist"),
    "forbidden": (PermissionError("Access Denied"), InputRefused, 3, "may not be read"),
    "no credentials": (type("NoCredentialsError", (Exception,), {})("x"), InputRefused, 3, "may not be read"),
    "status 401": (type("Error", (Exception,), {"status": 401})("x"), InputRefused, 3, "status 401"),
    "status 404": (type("Error", (Exception,), {"code": 404})("x"), UsageError, 2, "does not exist"),
    "status 503": (type("Error", (Exception,), {"status": 503})("slow down"), Unreachable, 1, "slow down"),
    "connection": (ConnectionError("reset by peer\nand more"), Unreachable, 1, "ConnectionError: reset by peer"),
    "full disk": (OSError(28, "No space left"), OutOfSpace, 6, "no room"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failures_when_a_source_is_opened(failure: str) -> None:
    error, kind, code, said = FAILURES[failure]
    times = []

    def fail(path: str) -> None:
        times.append(path)
        raise error

    ToyStore.asked = staticmethod(fail)
    with pytest.raises(AsifError, match=said) as caught:
        open_pairs("toys://me:secret@bucket/a.parquet?sig=token")
    assert type(caught.value) is kind and caught.value.exit_code == code
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert len(times) >= 4 if kind is Unreachable else len(times) <= 2
    assert caught.value.__suppress_context__ or kind is UsageError


@pytest.mark.parametrize("form", ["hugging_face", "tar_texts", "npy", "vectors", "metadata_csv"])
def test_a_connection_lost_while_reading(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever request it is that is never answered: Unreachable, and not a damaged file."""
    monkeypatch.setattr(remote_file, "_BLOCK_BYTES", 256)
    here = FORMS[form](tmp_path / "data")
    put_folder(tmp_path / "data", "bucket")
    url = f"toys://bucket/{here.relative_to(tmp_path / 'data').as_posix()}".removesuffix("/.")
    whole = contents(open_pairs(url))
    needed = len(ToyStore.requests)
    assert needed > 1
    for last in {0, 1, needed // 2, needed - 1}:

        def answer(number: int, content: bytes, last: int = last) -> bytes:
            if number > last:
                raise TimeoutError("timed out")
            return content

        ToyStore.requests.clear()
        ToyStore.answer = staticmethod(answer)
        with pytest.raises(Unreachable, match="timed out"):
            contents(open_pairs(url))
    ToyStore.requests.clear()
    ToyStore.answer = staticmethod(lambda number, content: content)
    assert contents(open_pairs(url)) == whole


def test_a_build_goes_on_where_the_connection_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.building.build.SEGMENT_ROWS", 16)
    monkeypatch.setattr(remote_file, "_BLOCK_BYTES", 1 << 10)
    rows = 400
    images = [np.random.default_rng(row).bytes(500) for row in range(rows)]
    captions = [f"caption {row}" for row in range(rows)]
    path = write_parquet(tmp_path / "a.parquet", images, captions)
    ToyStore.files["bucket/a.parquet"] = path.read_bytes()
    url = "toys://me:secret@bucket/a.parquet?sig="
    contents(open_pairs(url + "token"))
    lost = len(ToyStore.requests) * 3 // 4  # of which nearly half were for the footer

    def answer(number: int, content: bytes) -> bytes:
        if number > lost:
            raise TimeoutError("timed out")
        return content

    ToyStore.requests.clear()
    ToyStore.answer = staticmethod(answer)
    with pytest.raises(Unreachable, match="a build resumes"):
        build_set(open_pairs(url + "token"), tmp_path / "there")
    ToyStore.answer = staticmethod(lambda number, content: content)
    built = build_set(open_pairs(url + "token2"), tmp_path / "there")  # a new token is no new input
    assert 0 < built.resumed_at < rows
    assert identity(built.anchors) == identity(build_set(open_pairs(path), tmp_path / "here").anchors)
    ToyStore.files["bucket/a.parquet"] = write_parquet(path, images, [*captions[1:], "new"]).read_bytes()
    assert build_set(open_pairs(url + "token"), tmp_path / "there").resumed_at == 0  # other content is


def test_a_file_that_changes_is_refused() -> None:
    ToyStore.files["bucket/a.csv"] = b"file_name,text\na.jpg,a dog\n"
    source = open_pairs("toys://bucket/a.csv")
    ToyStore.files["bucket/a.csv"] += b"b.jpg,a cat\n"
    with pytest.raises(InputRefused, match="had 27 bytes and now has 39"):
        list(source.read())


@pytest.mark.parametrize("module", ["s3fs", "aiohttp"])
def test_a_package_that_is_not_installed(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: found for name, found in fsspec.registry.items() if name not in ("s3", "http")}
    monkeypatch.setattr(sys.modules["fsspec.registry"], "registry", known)
    for loaded in [name for name in sys.modules if name.startswith("fsspec.implementations.http")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    url = {"s3fs": "s3://bucket/a.parquet", "aiohttp": "http://host/a.parquet?sig=token"}[module]
    with pytest.raises(MissingDependency, match=f"pip install {module}") as caught:
        open_pairs(url)
    assert "token" not in str(caught.value)


def test_an_unknown_protocol() -> None:
    with pytest.raises(UsageError, match="Protocol not known"):
        open_pairs("nope://bucket/a.parquet")


# images beside a table


@pytest.mark.parametrize(
    "name",
    ["../other/a.jpg", "x/../../a.jpg", "/bucket/set/a.jpg", "..\\other\\a.jpg", "\\a.jpg", "a.jpg::b"],
)
def test_an_image_may_not_leave_the_folder_of_its_table(name: str) -> None:
    ToyStore.files["bucket/set/metadata.csv"] = f"file_name,text\n{name},a dog\n".encode()
    ToyStore.files |= {"bucket/set/a.jpg": b"x", "bucket/other/a.jpg": b"x", "bucket/b": b"x"}
    (item,) = open_pairs("toys://bucket/set").read()
    assert item == Reject(0, None, f"image path leaves its folder: {name}")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "toys://bucket/b", "https://me:secret@host/a.jpg?sig=token"])
def test_an_image_may_not_be_of_another_protocol(url: str, tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", image_path=[url], text=["a dog"])
    put_folder(tmp_path, "bucket")
    for path in ("toys://bucket/a.parquet", tmp_path / "a.parquet"):
        (item,) = open_pairs(path).read()
        assert item == Reject(0, None, f"image is a URL, not a file: {redact_url(url)}")
        assert not any(secret in item.reason for secret in SECRETS)


def test_a_missing_image_is_a_bad_row_and_a_lost_connection_is_not(tmp_path: Path) -> None:
    files(tmp_path / "set", a=b"first", b=b"second")
    (tmp_path / "set/metadata.csv").write_text("file_name,text\na.jpg,a dog\nnone.jpg,a bird\nb.jpg,a cat\n")
    put_folder(tmp_path / "set", "bucket")
    home = tmp_path / "home"

    def lost(number: int, content: bytes) -> bytes:
        if content == b"second":
            raise TimeoutError("timed out")
        return content

    ToyStore.answer = staticmethod(lost)
    with pytest.raises(Unreachable):
        build_set(open_pairs("toys://bucket"), home, max_bad_rows=TWO)
    ToyStore.answer = staticmethod(lambda number, content: content)
    anchors = build_set(open_pairs("toys://bucket"), home, max_bad_rows=TWO).anchors
    assert anchors.count == 2
    assert list(rejects(home, anchors)) == [1] and "not found" in rejects(home, anchors)[1]


# credentials


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


def test_a_place_shows_no_credentials() -> None:
    place = connect("toys://me:secret@bucket/set?sig=token")
    for each in (place, place / "a.jpg", place.parent, (place / "a.jpg").parent):
        assert not any(secret in f"{each} {each!r}" for secret in SECRETS)
    assert str(place / "a/b.jpg") == "toys://…@bucket/set/a/b.jpg?…"
    assert (place / "a.jpg").parent.path == place.path


# protocols


def test_paths_here_do_not_import_fsspec(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", image=[b"x"], caption=["a"])
    code = (
        "import sys; from asif.pairs import open_pairs; rows = len(list(open_pairs(sys.argv[1]).read()));"
        "print(rows, 'fsspec' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, path.as_uri()], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["1", "False"]


@pytest.fixture
def web() -> None:
    pytest.importorskip("aiohttp", reason="https:// needs aiohttp, which is not installed")


@pytest.mark.parametrize("form", ["hugging_face", "hugging_face_folder", "tar_folder", "metadata_csv", "npy"])
def test_forms_over_http(form: str, tmp_path: Path, web: None) -> None:
    data = tmp_path / "some data"
    here = FORMS[form](data)
    with serve_folder(tmp_path) as (url, _):
        path = f"{url}some%20data/" + ("" if here == data else here.relative_to(data).as_posix())
        remote, local = open_pairs(path), open_pairs(here)
        assert contents(remote) == contents(local)
        assert (remote.bytes, remote.sha256) == (local.bytes, local.sha256)


def test_class_folders_over_http(tmp_path: Path, web: None) -> None:
    LAYOUTS["class folders"](tmp_path / "data")
    with serve_folder(tmp_path) as (url, _):
        remote = open_labelled(f"{url}data/")
        assert contents(remote.source) == contents(open_labelled(tmp_path / "data").source)
        assert remote.classes == ("cat", "dog")


def test_odd_names_over_http(tmp_path: Path, web: None) -> None:
    names = ["a b.jpg", "50%.jpg", "x#1?.jpg", "é&.jpg", "%2e%2e.jpg"]
    (tmp_path / "set").mkdir()
    for name in names:
        (tmp_path / "set" / name).write_bytes(name.encode())
    rows = [{"file_name": name, "text": "t"} for name in [*names, "%2e%2e/secret.jpg"]]
    (tmp_path / "secret.jpg").write_bytes(b"no")
    (tmp_path / "set/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with serve_folder(tmp_path) as (url, seen):
        items = list(open_pairs(f"{url}set/").read())
        assert [content(item)[2].decode() for item in items[:-1]] == names
        with pytest.raises(FileNotFoundError):
            content(items[-1])
        assert not any(each.startswith("GET /secret.jpg") for each in seen)


def test_a_token_in_a_url(tmp_path: Path, web: None) -> None:
    FORMS["metadata_csv"](tmp_path / "set")
    with serve_folder(tmp_path, token="token") as (url, _):
        remote = open_pairs(f"{url}set/metadata.csv?sig=token")
        assert contents(remote) == contents(open_pairs(tmp_path / "set/metadata.csv"))
        with pytest.raises(InputRefused, match="status 403") as caught:
            open_pairs(f"{url}set/metadata.csv?sig=secret")
        assert "secret" not in str(caught.value)
        with pytest.raises(UsageError, match="does not exist"):
            open_pairs(f"{url}set/none.csv?sig=token")
    with pytest.raises(Unreachable, match="connect"):
        open_pairs(f"{url}set/metadata.csv")


def test_a_server_without_ranges(tmp_path: Path, web: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "_BLOCK_BYTES", 1 << 10)
    path = write_parquet(tmp_path / "a.parquet", [b"%d" % row * 500 for row in range(9)], ["a"] * 9)
    with serve_folder(tmp_path, ranges=False) as (url, _):
        with pytest.raises(InputRefused, match=f"simplecache::{url}a.parquet"):
            contents(open_pairs(f"{url}a.parquet"))
        assert contents(open_pairs(f"simplecache::{url}a.parquet")) == contents(open_pairs(path))
        copies = open_pairs(f"simplecache::{url}a.parquet")
        assert isinstance(copies.path, RemotePath) and str(copies.path) == f"simplecache::{url}a.parquet"


def test_results_show_no_credentials(tmp_path: Path) -> None:
    """Neither does a result of an evaluation, where the path stands among what was evaluated on."""
    LAYOUTS["texts"](tmp_path / "data")
    put_folder(tmp_path / "data", "bucket")
    (name,) = ToyStore.files
    url = f"toys://me:secret@{name}?sig=token"
    told_about = describe_data_used(open_labelled(url).source, "…")
    assert told_about.path == redact_url(url) == name_dataset(url)
    assert told_about.sha256 == open_labelled(next(tmp_path.rglob("*.parquet"))).source.sha256
