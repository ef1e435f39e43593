"""Fetch images by URL: from allow-listed hosts only, never from private addresses, bounded in bytes and time."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from asif.errors import BadImage

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 3
_PIECE_BYTES = 1 << 16
Resolver = Callable[[str, int], Sequence[str]]


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class Fetcher:
    """Fetch files from some hosts, by https; every redirect is checked as the first URL is.

    A host is connected to by the address that was checked, so that a second answer of its name server cannot lead
    elsewhere. Without hosts every URL is refused.
    """

    hosts: tuple[str, ...] = ()
    most_bytes: int = 10_000_000
    seconds: float = 10.0
    resolver: Resolver = resolve
    is_public: Callable[[str], bool] = lambda address: ipaddress.ip_address(address).is_global
    context: ssl.SSLContext | None = None

    def fetch(self, url: str) -> bytes:
        """Return the content at a URL; raises BadImage, which says nothing of what is behind a refused one."""
        stop, base = time.monotonic() + self.seconds, ""
        for _ in range(_MOST_REDIRECTS + 1):
            place = self._check_url(base, url)
            content, moved = self._get(place, stop)
            if moved is None:
                return content
            base, url = place.geturl(), moved
        raise _refuse(f"more than {_MOST_REDIRECTS} redirects")

    def _check_url(self, base: str, url: str) -> SplitResult:
        if not self.hosts:
            raise BadImage(
                "an image by its URL", "its bytes, as base64 or as a file", "send them; this service fetches nothing"
            )
        try:
            place = urlsplit(urljoin(base, url))
            port = place.port
        except ValueError:
            raise _refuse("a URL that cannot be read") from None
        if place.scheme != "https" or place.username is not None or port not in (None, 443):
            raise _refuse("a URL that is not https without a user and a port")
        if (place.hostname or "").lower().rstrip(".") not in self.hosts:
            raise _refuse("a URL of a host that is not allowed")
        return place

    def _get(self, place: SplitResult, stop: float) -> tuple[bytes, str | None]:
        """Return the content, or the place that the answer refers to."""
        host = str(place.hostname)
        try:
            with self._connect(host, stop) as connection:
                client = http.client.HTTPSConnection(host)
                client.sock = connection
                path = (place.path or "/") + (f"?{place.query}" if place.query else "")
                client.request("GET", path, headers={"Accept": "image/*", "User-Agent": "asif"})
                answer = client.getresponse()
                if answer.status in _REDIRECTS:
                    return b"", answer.headers.get("Location") or ""
                if answer.status != http.client.OK:
                    raise _refuse(f"the answer {answer.status} to a URL")
                return self._read(answer, connection, stop), None
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise _refuse(f"a URL that cannot be read ({type(error).__name__})") from error

    def _connect(self, host: str, stop: float) -> ssl.SSLSocket:
        addresses = self.resolver(host, 443)
        if not addresses or not all(map(self.is_public, addresses)):
            raise _refuse("a URL of a private address")
        plain = socket.create_connection((addresses[0], 443), timeout=max(0.1, stop - time.monotonic()))
        context = self.context or ssl.create_default_context()
        return context.wrap_socket(plain, server_hostname=host)

    def _read(self, answer: http.client.HTTPResponse, connection: ssl.SSLSocket, stop: float) -> bytes:
        content = bytearray()
        while True:
            left = stop - time.monotonic()
            if left <= 0:
                raise _refuse(f"a URL that takes more than {self.seconds:g} s")
            connection.settimeout(left)
            piece = answer.read1(_PIECE_BYTES)
            if not piece:
                return bytes(content)
            content += piece
            if len(content) > self.most_bytes:
                raise _refuse(f"more than {self.most_bytes:,} bytes at a URL")


def _refuse(came: str) -> BadImage:
    return BadImage(came, "an image by https on a host that this service allows", "send its bytes instead")
