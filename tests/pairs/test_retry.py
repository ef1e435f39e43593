"""Requests that fail: asked again, or told with their cause; a build goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.build_fakes import build_set, identity, rejects, write_parquet
from support.pair_files import files
from support.remote_pairs import FORMS, SECRETS, contents
from support.remote_stores import ToyStore, put_folder, serve_folder

from asif.building import Tolerance
from asif.errors import AsifError, InputRefused, OutOfSpace, Unreachable, UsageError
from asif.pairs import open_pairs, remote_file

pytestmark = pytest.mark.usefixtures("stores")


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


TWO = Tolerance(number=2)


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
