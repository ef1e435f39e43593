"""Models of the hub: without network within seconds from the local cache, remarks and retries once."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from huggingface_hub import constants

from asif.encoders import hub_access, load_text_encoder
from asif.encoders.hub_access import open_hub
from asif.errors import AsifError

CLOSED = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _fresh_remarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    hub_access._remark_unreachable.cache_clear()
    yield
    hub_access._remark_unreachable.cache_clear()


@pytest.fixture
def server() -> Iterator[str]:
    """Serve 404 for everything."""

    class NotFoundHandler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), NotFoundHandler) as made:
        Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


def test_without_network_models_come_from_the_cache(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", CLOSED)
    for _ in range(2):
        with open_hub("org/model"):
            assert constants.HF_HUB_OFFLINE
        assert not constants.HF_HUB_OFFLINE
    assert caplog.messages == [
        f"the hub {CLOSED} does not answer: models are loaded from the local cache, if they are there"
    ]


def test_a_hub_that_answers_is_used(
    server: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", server)
    with open_hub("org/model"):
        assert not constants.HF_HUB_OFFLINE
        for number in range(3):
            logging.getLogger("huggingface_hub.utils._http").warning("'x' thrown while requesting HEAD %d", number)
            logging.getLogger("huggingface_hub.utils._http").warning("Retrying in %ds [Retry 1/5].", number)
    assert caplog.messages == ["'x' thrown while requesting HEAD 0", "Retrying in 0s [Retry 1/5]."]


def test_nothing_is_probed_offline_or_for_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub_access, "_is_reachable", None)
    with open_hub(str(tmp_path)):
        assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with open_hub("org/model"):
        pass
    assert constants.HF_HUB_OFFLINE


@pytest.mark.slow
def test_an_unknown_model_without_network_is_refused_within_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", CLOSED)
    started = time.monotonic()
    with pytest.raises(AsifError, match="could not load 'org/none'"):
        load_text_encoder("sentence-transformers:org/none", "cpu")
    assert time.monotonic() - started < 30
    assert not [message for message in caplog.messages if message.startswith("Retrying")]
