"""asif serve: keys, refusals before anything listens, and a start and a stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from support.running import Cli

from asif.service.config import read_config
from asif.service.keys import KeyRing

PATIENCE = 60.0


def test_a_new_key_comes_with_its_lines_for_the_configuration(cli: Cli, home: Path) -> None:
    ran = cli("serve", "--new-key")
    key, _, lines = ran.out.partition("\n")
    path = home.parent / "serve.toml"
    path.write_text(lines)
    grant = KeyRing(read_config(path, home).grants).find(key)
    assert grant is not None
    assert (grant.tenant, grant.role) == ("name", "read")
    assert key not in lines


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        (["--host", "0.0.0.0"], 2, "--new-key"),
        (["--anchors", "nothing"], 2, "nothing"),
        (["--anchors", "a", "--anchors", "a@2"], 2, "twice"),
        (["--config", "nothing.toml"], 2, "nothing.toml"),
        (["--port", "70000"], 2, "70000"),
        (["--workers", "0"], 2, "workers"),
    ],
)
def test_what_cannot_be_served_is_refused(cli: Cli, home: Path, options: list[str], code: int, named: str) -> None:
    ran = cli("serve", *options)
    assert ran.code == code, ran.err
    assert named in ran.err


def test_missing_libraries_are_named_with_the_command(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.cli.serve.find_spec", lambda name: None if name == "uvicorn" else True)
    ran = cli("serve")
    assert ran.code == 1
    assert "uvicorn" in ran.err
    assert "asif-engine[serve]" in ran.err


def test_it_starts_answers_and_stops(head_home: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "asif", "serve", "--port", "0", "--access-log"],
            env={**os.environ, "ASIF_HOME": str(head_home)},
            stderr=file,
        )
    try:
        stop = time.monotonic() + PATIENCE
        while "ready: worker" not in log.read_text():
            assert time.monotonic() < stop, log.read_text()
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        assert found
        answer = httpx.post(f"{found[0]}/v1/embed", json={"texts": ["a dog"]}, timeout=PATIENCE)
        assert len(answer.json()["texts"][0]["embedding"]) == 384
        assert "asif" in httpx.get(found[0]).text
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert '"path": "/v1/embed", "status": 200' in log.read_text()
    finally:
        process.kill()
        process.wait()
