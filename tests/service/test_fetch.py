"""Images by URL: allow-listed hosts, public addresses and https alone, checked at every redirect, bounded."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from asif.errors import BadImage
from asif.service import fetch
from asif.service.fetch import Fetcher


@dataclass
class Site:
    """A server of this machine that stands for one on the web."""

    port: int
    context: ssl.SSLContext
    asked: list[str] = field(default_factory=list)

    def fetcher(self, **given: object) -> Fetcher:
        fields = {
            "hosts": ("images.example",),
            "resolver": lambda host, port: ["127.0.0.1"],
            "is_public": lambda address: True,
            "context": self.context,
            "seconds": 5.0,
            **given,
        }
        return Fetcher(**fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    certificate = make_certificate(folder)
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path.startswith("/to?"):
                self.send_response(302)
                self.send_header("Location", self.path[4:])
                self.end_headers()
            elif self.path == "/endless":
                self.send_response(200)
                self.end_headers()
                for _ in range(10_000):
                    self.wfile.write(b"x" * 10_000)
            elif self.path == "/slow":
                self.send_response(200)
                self.end_headers()
                for _ in range(100):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.1)
            elif self.path == "/missing":
                self.send_error(404)
            else:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"an image")

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError):  # a client that left
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    trusted = ssl.create_default_context(cafile=str(certificate))
    yield Site(server.server_port, trusted, asked)
    server.shutdown()
    server.server_close()


def make_certificate(folder: Path) -> Path:
    path = folder / "site.pem"
    named = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=images.example"]
    made = subprocess.run(
        [*named, "-addext", "subjectAltName=DNS:images.example", "-keyout", folder / "key", "-out", folder / "cert"],
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    path.write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return path


@pytest.fixture(autouse=True)
def redirected(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let port 443 be that of the site."""
    connect = fetch.socket.create_connection
    monkeypatch.setattr(
        fetch.socket, "create_connection", lambda place, timeout: connect((place[0], site.port), timeout)
    )
    site.asked.clear()


def test_an_image_of_an_allowed_host_is_fetched(site: Site) -> None:
    assert site.fetcher().fetch("https://images.example/a.png?x=1") == b"an image"
    assert site.fetcher().fetch("https://images.example/to?/a.png") == b"an image"
    assert site.asked == ["/a.png?x=1", "/to?/a.png", "/a.png"]


@pytest.mark.parametrize(
    "url",
    [
        "http://images.example/a",
        "https://images.example:8443/a",
        "https://user@images.example/a",
        "https://images.example@evil.example/a",
        "https://evil.example/a",
        "https://sub.images.example/a",
        "https://127.0.0.1/a",
        "https://[::1]/a",
        "https://0x7f000001/a",
        "file:///etc/passwd",
        "ftp://images.example/a",
        "https:images.example",
        "https://images.example:99999/a",
        "https://[images.example/a",
        "",
        "x",
    ],
)
def test_other_urls_are_refused_without_a_call(site: Site, url: str) -> None:
    with pytest.raises(BadImage):
        site.fetcher().fetch(url)
    with pytest.raises(BadImage):
        site.fetcher().fetch(f"https://images.example/to?{url}" if "//" in url else url)
    assert all(path.startswith("/to?") for path in site.asked)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "192.168.0.1", "169.254.169.254", "::1", "fd00::1", "0.0.0.0"]
)
def test_a_name_of_a_private_address_is_refused(site: Site, address: str) -> None:
    private = Fetcher(("images.example",), resolver=lambda host, port: ["93.184.216.34", address])
    with pytest.raises(BadImage, match="private"):
        private.fetch("https://images.example/a")
    assert not site.asked


def test_the_address_that_was_checked_is_the_one_that_is_called(site: Site) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    found = site.fetcher(resolver=lambda host, port: next(answers))
    assert found.fetch("https://images.example/a") == b"an image"


def test_bodies_are_bounded_in_bytes_and_time(site: Site) -> None:
    with pytest.raises(BadImage, match="bytes"):
        site.fetcher(most_bytes=50_000).fetch("https://images.example/endless")
    started = time.monotonic()
    with pytest.raises(BadImage):
        site.fetcher(seconds=0.5).fetch("https://images.example/slow")
    assert time.monotonic() - started < 3


def test_failures_do_not_say_what_is_there(site: Site) -> None:
    for url in ("https://images.example/missing", "https://images.example/to?/to?/to?/to?/a"):
        with pytest.raises(BadImage):
            site.fetcher().fetch(url)
    untrusted = site.fetcher(context=ssl.create_default_context())
    with pytest.raises(BadImage):
        untrusted.fetch("https://images.example/a")


def test_nothing_is_fetched_without_hosts(site: Site) -> None:
    with pytest.raises(BadImage, match="URL"):
        Fetcher().fetch("https://images.example/a")
    assert not site.asked
