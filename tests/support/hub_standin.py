"""A stand-in for the HTTP API of the Hugging Face Hub on this machine: repositories, commits, large files, redirects.

Only what huggingface_hub asks of it for datasets. `calls` says what was asked, `stored` has the large files by hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 3  # entries of a listing
TOKENS = {"writer": True, "reader": False}  # who may write
LARGE = (".safetensors", ".parquet")


@dataclass
class Repo:
    private: bool
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(json.dumps([branch, len(self.commits), sorted(files)]).encode()).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        return sha

    def find(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class Refusal(Exception):
    """What the server answers in place of data."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Hub:
    url: str = ""
    cdn: str = ""  # another host, as clients see it: they send no token there
    repos: dict[str, Repo] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    before_commit: Callable[[], object] = lambda: None
    tampered: dict[str, bytes] = field(default_factory=dict)  # served in place of large files
    broken: int = 0  # status of all answers, where it is not 0

    def repo(self, name: str, user: str | None) -> Repo:
        found = self.repos.get(name)
        if found is None or (found.private and user is None):
            raise Refusal(404, "RepoNotFound", "Repository not found")
        if found.gated and user != "writer":
            raise Refusal(403, "GatedRepo", "Access to it is restricted")
        return found

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        repo = self.repos[name]
        return repo.commits[repo.branches[branch]]


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def answer(self) -> None:
        split = urlsplit(self.path)
        path, self.query = unquote(split.path), parse_qs(split.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.user = token or None
        self.hub.calls.append(f"{self.command} {path}")
        try:
            if self.hub.broken:
                raise Refusal(self.hub.broken)
            if token and token not in TOKENS:
                raise Refusal(401, "", "Invalid credentials in Authorization header")
            for pattern, serve in ROUTES:
                if match := re.fullmatch(pattern, f"{self.command} {path}"):
                    serve(self, *match.groups())
                    return
            raise Refusal(404, "", f"nothing at {path}")
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            self.send(refusal.status, b"{}", {name: text for name, text in headers.items() if text})

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def writing(self) -> None:
        if self.user is None:
            raise Refusal(401, "", "Invalid username or password.")
        if not TOKENS[self.user]:
            raise Refusal(403, "", "You don't have the rights to do this")

    # ---- what is asked

    def create(self) -> None:
        self.writing()
        asked = json.loads(self.body)
        assert asked["type"] == "dataset"
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repos:
            self.send(409, json.dumps({"url": f"{self.hub.url}/datasets/{name}"}).encode())
            return
        self.hub.repos[name] = Repo(asked.get("visibility") == "private")
        self.hub.repos[name].commit("main", {".gitattributes": b"*.parquet filter=lfs\n"})
        self.json({"url": f"{self.hub.url}/datasets/{name}"})

    def branch(self, name: str, branch: str) -> None:
        self.writing()
        repo = self.hub.repo(name, self.user)
        if branch in repo.branches:
            raise Refusal(409, "", "Reference already exists")
        repo.branches[branch] = repo.branches["main"]
        self.json({})

    def sha(self, name: str, revision: str) -> tuple[Repo, str]:
        repo = self.hub.repo(name, self.user)
        sha = repo.find(revision)
        if sha is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo, sha

    def info(self, name: str, revision: str = "main") -> None:
        repo, sha = self.sha(name, revision)
        self.json({"id": name, "sha": sha, "private": repo.private, "tags": [], "downloads": 0, "likes": 0})

    def tree(self, name: str, revision: str) -> None:
        repo, sha = self.sha(name, revision)
        entries: list[dict[str, Any]] = []
        for path, content in sorted(repo.commits[sha].items()):
            entry = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
            if path.endswith(LARGE):
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            entries.append(entry)
        entries += [{"type": "directory", "path": kind, "size": 0, "oid": "0" * 40} for kind in ("blocks", "pairs")]
        start = int(self.query.get("cursor", ["0"])[0])
        more = f'<{self.hub.url}/api/datasets/{name}/tree/{sha}?recursive=True&cursor={start + PAGE}>; rel="next"'
        self.json(entries[start : start + PAGE], {"Link": more} if start + PAGE < len(entries) else None)

    def preupload(self, name: str, revision: str) -> None:
        self.writing()
        repo, sha = self.sha(name, revision)
        told = []
        for file in json.loads(self.body)["files"]:
            large, there = file["path"].endswith(LARGE), repo.commits[sha].get(file["path"])
            oid = None if there is None else hashlib.sha256(there).hexdigest() if large else git_hash(there)
            mode = "lfs" if large else "regular"
            told.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.json({"files": told})

    def batch(self, name: str) -> None:
        self.writing()
        objects: list[dict[str, Any]] = []
        for one in json.loads(self.body)["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
            objects.append({**one, **({} if one["oid"] in self.hub.stored else {"actions": actions})})
        self.json({"transfer": "basic", "objects": objects})

    def put(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.stored[oid] = self.body
        self.json({})

    def commit(self, name: str, revision: str) -> None:
        self.writing()
        self.hub.before_commit()
        repo, sha = self.sha(name, revision)
        files = dict(repo.commits[sha])
        for line in self.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header" and value.get("parentCommit", sha) != sha:
                raise Refusal(412, "", "A commit has happened since")
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if key == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            if key == "deletedFile":
                del files[value["path"]]
        made = repo.commit(revision, files)
        self.json({"commitUrl": f"{self.hub.url}/datasets/{name}/commit/{made}", "commitOid": made})

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo, sha = self.sha(name, revision)
        if path not in repo.commits[sha]:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        content = repo.commits[sha][path]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{git_hash(content)}"'}
        if path.endswith(LARGE):
            oid = hashlib.sha256(content).hexdigest()
            headers |= {"X-Linked-ETag": f'"{oid}"', "X-Linked-Size": str(len(content))}
            self.send(302, b"", {**headers, "Location": f"{self.hub.cdn}/cdn/{oid}"})
        else:
            self.send(200, content, headers)

    def cdn(self, oid: str) -> None:
        assert self.user is None
        self.send(200, self.hub.tampered.get(oid, self.hub.stored[oid]))

    def yaml(self) -> None:
        asked = json.loads(self.body)
        assert asked["repoType"] == "dataset"
        self.json({"errors": [], "warnings": []})


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.yaml),
    (rf"POST /api/datasets/{NAME}/branch/(.+)", Handler.branch),
    (rf"GET /api/datasets/{NAME}", Handler.info),
    (rf"GET /api/datasets/{NAME}/revision/(.+)", Handler.info),
    (rf"GET /api/datasets/{NAME}/tree/(.+)", Handler.tree),
    (rf"POST /api/datasets/{NAME}/preupload/(.+)", Handler.preupload),
    (rf"POST /datasets/{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (r"PUT /lfs/(\w+)", Handler.put),
    (rf"POST /api/datasets/{NAME}/commit/(.+)", Handler.commit),
    (rf"(?:GET|HEAD) /datasets/{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
    (r"(?:GET|HEAD) /cdn/(\w+)", Handler.cdn),
]


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a Hub on 127.0.0.1."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    hub.cdn = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
