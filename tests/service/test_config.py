"""The configuration: read from a file, every fault of it named; keys and their quotas."""

from __future__ import annotations

from pathlib import Path

import pytest

from asif.errors import UsageError
from asif.service.config import Limits, ServeConfig, read_config
from asif.service.keys import OWNER, Grant, KeyRing, TokenBucket, hash_key, make_key
from asif.service.problem import hide_paths

KEY = f'[[keys]]\nsha256 = "{hash_key("k")}"\ntenant = "us"\n'


def read(folder: Path, text: str) -> ServeConfig:
    path = folder / "serve.toml"
    path.write_text(text)
    return read_config(path, folder)


def test_a_full_file_is_read(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        '[server]\nanchors = ["parts@best"]\ngalleries = ["photos"]\nhost = "0.0.0.0"\nport = 80\nworkers = 2\n'
        'hosts = ["asif.example"]\n[limits]\nbody_mb = 2.5\nimages = 3\n'
        f'{KEY}role = "edit"\nanchors = ["parts"]\nwhere = "source = \'web\'"\nrequests_per_minute = 60\n'
        '[fetch]\nhosts = ["images.example"]\n',
    )
    assert config == ServeConfig(
        tmp_path,
        ("parts@best",),
        ("photos",),
        "0.0.0.0",
        80,
        2,
        Limits(body_mb=2.5, images=3),
        (Grant(hash_key("k"), "us", "edit", ("parts",), None, "source = 'web'", None, 60),),
        ("images.example",),
        ("asif.example",),
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[servers]\n", "servers"),
        ("[server]\nprot = 1\n", "prot"),
        ("[server]\nport = 70000\n", "70000"),
        ('[server]\nport = "80"\n', "port"),
        ('[server]\nanchors = ["a", "a@2"]\n', "twice"),
        ("[server]\nanchors = 1\n", "anchors"),
        ("[limits]\nimages = 0\n", "images"),
        ("[limits]\nimages = 1.5\n", "images"),
        ("[limits]\nbody_mb = -1\n", "body_mb"),
        ("[limits]\nmore = 1\n", "more"),
        ('[[keys]]\ntenant = "us"\n', "sha256"),
        ('[[keys]]\nsha256 = "k"\ntenant = "us"\n', "sha256"),
        (f'{KEY}role = "owner"\n', "owner"),
        (f'{KEY}anchors = ["parts"]\n', "parts"),
        (f'{KEY}where = "source ="\n', "source"),
        ('[server]\nhost = "0.0.0.0"\n', "0.0.0.0"),
        ("no toml", "serve.toml"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError) as error:
        read(tmp_path, text)
    assert named in str(error.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_other_machines_need_keys(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError):
        ServeConfig(tmp_path, host=host)
    assert ServeConfig(tmp_path, host=host, grants=(Grant(hash_key("k"), "us"),)).host == host


def test_a_key_is_known_by_its_hash(tmp_path: Path) -> None:
    key = make_key()
    grant = Grant(hash_key(key), "us")
    ring = KeyRing([grant])
    assert ring.find(key) is grant
    assert ring.find(None) is ring.find(hash_key(key)) is ring.find(key + "x") is ring.find("") is None
    assert KeyRing([]).find(None) is OWNER
    assert len({make_key() for _ in range(100)}) == 100


def test_a_bucket_gives_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("asif.service.keys.time.monotonic", lambda: now)
    bucket = TokenBucket(60)
    taken = 0
    for _ in range(6_000):
        now += 0.01
        taken += bucket.take() == 0
    assert 60 <= taken <= 66
    while bucket.take() == 0:
        pass
    now += bucket.take() + 1e-9
    assert bucket.take() == 0


def test_paths_of_this_machine_are_hidden(tmp_path: Path) -> None:
    text = f"'{tmp_path}/anchors/x' and {tmp_path}: {Path.home()}/y, {__file__}"
    assert "/" not in hide_paths(text, tmp_path).replace(__file__, "")
