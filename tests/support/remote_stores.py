"""Stores for tests of places elsewhere: one that fails as it is told, and a web server with ranges or without."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

Answer = Callable[[int, bytes], bytes]
"""What comes of the n-th request for bytes: them, some of them, or an error."""


class ToyStore(AbstractFileSystem):  # type: ignore[misc]
    """Hold files {path: content} in memory; `answer` stands between them and whoever asks for a range."""

    protocol = "toys"
    cachable = False
    files: ClassVar[dict[str, bytes]] = {}
    requests: ClassVar[list[tuple[str, int, int]]] = []
    answer: ClassVar[Answer] = staticmethod(lambda number, content: content)
    asked: ClassVar[Callable[[str], None]] = staticmethod(lambda path: None)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.partition("://")[2].rpartition("@")[2] or path

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[dict[str, Any]]:
        type(self).asked(path)
        base = path.rstrip("/") + "/"
        inside = {name[len(base) :].partition("/") for name in self.files if name.startswith(base)}
        if not inside:
            raise FileNotFoundError(path)
        return [
            {"name": base + first, "type": "directory", "size": 0} if slash else self.about(base + first)
            for first, slash, _ in sorted(inside)
        ]

    def about(self, path: str) -> dict[str, Any]:
        content = self.files[path]
        return {"name": path, "type": "file", "size": len(content), "ETag": f"{hash(content):x}"}

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        type(self).asked(path)
        path = path.partition("?")[0]
        if path in self.files:
            return self.about(path)
        if any(name.startswith(path.rstrip("/") + "/") for name in self.files):
            return {"name": path, "type": "directory", "size": 0}
        raise FileNotFoundError(path)

    def _open(self, path: str, mode: str = "rb", block_size: Any = None, **kwargs: Any) -> Ranges:
        kwargs.pop("autocommit", None)
        return Ranges(self, path, mode, block_size, **kwargs)


class Ranges(AbstractBufferedFile):  # type: ignore[misc]
    """Answer requests for ranges as the store is told to."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        path = self.path.partition("?")[0]
        ToyStore.requests.append((path, start, end))
        return ToyStore.answer(len(ToyStore.requests), ToyStore.files[path][start:end])


def install_store() -> None:
    """Make the store known to fsspec, empty and in order."""
    fsspec.register_implementation("toys", ToyStore, clobber=True)
    ToyStore.files, ToyStore.requests = {}, []
    ToyStore.answer, ToyStore.asked = staticmethod(lambda number, content: content), staticmethod(lambda path: None)


def put_folder(folder: Path, root: str) -> None:
    """Put the files of a folder into the store."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            ToyStore.files[f"{root}/{file.relative_to(folder).as_posix()}"] = file.read_bytes()


class RangeHandler(SimpleHTTPRequestHandler):
    """Serve files, by ranges where `ranges`; to whoever lacks `token` in the query, nothing where that is set."""

    def __init__(self, *args: Any, ranges: bool, token: str | None, seen: list[str], **kwargs: Any) -> None:
        self.ranges, self.token, self.seen = ranges, token, seen
        super().__init__(*args, **kwargs)

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.seen.append(f"HEAD {self.path}")
        if self.allowed():
            super().do_HEAD()

    def do_GET(self) -> None:
        span = self.headers.get("Range")
        self.seen.append(f"GET {self.path} {span or 'whole'}")
        if not self.allowed():
            return
        file = Path(self.translate_path(self.path))
        if not (self.ranges and span and file.is_file()):
            super().do_GET()
            return
        content = file.read_bytes()
        start, end = map(int, span.removeprefix("bytes=").split("-"))
        self.send_response(206)
        part = content[start : end + 1]
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def allowed(self) -> bool:
        if self.token is not None and f"sig={self.token}" not in self.path:
            self.send_error(403)
            return False
        return True


@contextmanager
def serve_folder(folder: Path, ranges: bool = True, token: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder over http; yields its URL and what is asked for."""
    seen: list[str] = []
    handler = partial(RangeHandler, directory=str(folder), ranges=ranges, token=token, seen=seen)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", seen
        finally:
            server.shutdown()
            thread.join()
