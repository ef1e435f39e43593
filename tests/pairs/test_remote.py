"""Pairs that lie elsewhere are the same as from here, over any protocol; what is refused, and where images may lie."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fsspec
import pytest
from support.build_fakes import build_set, identity
from support.labelled_files import LAYOUTS, found
from support.pair_files import table
from support.remote_pairs import FORMS, SECRETS, content, contents, in_memory
from support.remote_stores import ToyStore, put_folder, serve_folder

from asif.errors import MissingDependency, UsageError
from asif.pairs import Pair, Reject, open_labelled, open_pairs, redact_url
from asif.pairs.remote import connect

pytestmark = pytest.mark.usefixtures("stores")


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


def test_a_place_shows_no_credentials() -> None:
    place = connect("toys://me:secret@bucket/set?sig=token")
    for each in (place, place / "a.jpg", place.parent, (place / "a.jpg").parent):
        assert not any(secret in f"{each} {each!r}" for secret in SECRETS)
    assert str(place / "a/b.jpg") == "toys://…@bucket/set/a/b.jpg?…"
    assert (place / "a.jpg").parent.path == place.path


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
