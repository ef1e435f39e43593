"""The page of the service in a real browser: a server in a thread, Chromium, and a page whose faults are collected."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from support.services import wait_until_ready

from asif.service.app import create_app
from asif.service.config import ServeConfig

_PATIENCE_MS = 20_000
_WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@contextmanager
def serve_on_port(config: ServeConfig) -> Iterator[httpx.Client]:
    """Run a service at a free port, and yield a client once it is ready."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(config), log_config=None, lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}", timeout=30) as client:
            wait_until_ready(client)
            yield client
    finally:
        server.should_exit = True
        thread.join()
        bound.close()


@contextmanager
def launch_chromium() -> Iterator[Any]:
    """Yield Chromium, headless; skips where it is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is not tested: no playwright is installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("the page is not tested: no chromium is installed (apt-get install chromium)")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@dataclass
class WatchedPage:
    """Hold a page of the browser, and what went wrong in it."""

    page: Any
    faults: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Assert that no script failed, no dialog was shown, and nothing was refused by the policy of the page."""
        assert self.faults == []
        assert self.page.evaluate("window.violations") == []


@contextmanager
def open_page(browser: Any, url: str, **context: Any) -> Iterator[WatchedPage]:
    """Open the page in a new context; yields it once it shows what is served."""
    opened = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **context})
    opened.add_init_script(_WATCH)
    page = opened.new_page()
    page.set_default_timeout(_PATIENCE_MS)
    watched = WatchedPage(page)
    page.on("pageerror", lambda error: watched.faults.append(str(error)))
    page.on("dialog", lambda dialog: (watched.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("console", lambda message: _note(watched, message))
    page.goto(url)
    yield watched
    opened.close()


def _note(watched: WatchedPage, message: Any) -> None:
    """Note an error of the console; that a call was answered with an error is none of the page."""
    if message.type == "error" and not message.text.startswith("Failed to load resource"):
        watched.faults.append(message.text)
