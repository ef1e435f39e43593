"""Remote paths with pathlib's interface: s3://, gs://, hf://, https:// and other protocols of fsspec.

The door to fsspec. Error messages show URLs without credentials.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import IO, Any
from urllib.parse import quote, unquote

from asif.errors import InputRefused, MissingDependency, UsageError
from asif.pairs.redaction import HIDDEN, redact_url
from asif.pairs.remote_file import RemoteFile
from asif.pairs.retry import describe_error, with_retries

_PARTS = re.compile(rf"((?:[^:/]+::)*[^:/]+://)?(.*?)((?:\?{HIDDEN})?(?:::.*)?)", re.DOTALL)
_TAGS = ("etag", "blob_id", "content-md5", "digest", "generation", "mtime", "last-modified", "last_modified")
_TIMES = ("lastmodified", "modified", "updated", "created")


@dataclass(frozen=True, repr=False)
class RemotePath:
    """Name a file or folder of an fsspec filesystem, with the part of pathlib's interface that sources need.

    `path` is its name in the filesystem (a URL if `is_url`), `query` its query or "", `shown` its URL without
    credentials, `listing` its entry in a listing. Responses of the store are cached, so later changes are not seen.
    """

    fs: Any
    path: str
    query: str
    shown: str
    listing: Mapping[str, Any] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"RemotePath({self.shown!r})"

    def __truediv__(self, name: str | PurePosixPath) -> RemotePath:
        inner = f"{quote(str(name)) if self.is_url else name}"
        before, rest, after = _split_url(self.shown)
        shown = f"{before}{_join_path(rest, str(name))}{after}"
        return RemotePath(self.fs, _join_path(self.path, inner), self.query if self.is_url else "", shown)

    @property
    def is_url(self) -> bool:
        """Tell whether this is an http URL: names are quoted, and folders exist by convention only."""
        return "://" in self.path

    @property
    def where(self) -> str:
        """Return the path with its query, as the filesystem takes it; may contain credentials."""
        return self.path + self.query

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        last = self.path.rstrip("/").rpartition("/")[2]
        return unquote(last) if self.is_url else last

    @property
    def suffix(self) -> str:
        """Return the ending of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """Return the name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> RemotePath:
        """Return the folder."""
        before, rest, after = _split_url(self.shown)
        shown = f"{before}{rest.rstrip('/').rpartition('/')[0]}{after}"
        return replace(self, path=self.path.rstrip("/").rpartition("/")[0], shown=shown, listing=None)

    def absolute(self) -> RemotePath:
        """Return this path: it is absolute."""
        return self

    def relative_to(self, folder: RemotePath) -> PurePosixPath:
        """Return the path relative to a folder that contains it."""
        inner = self.path.removeprefix(folder.path.rstrip("/")).strip("/")
        return PurePosixPath(unquote(inner) if self.is_url else inner)

    def is_file(self) -> bool:
        """Tell whether this is a file that exists."""
        return self._info.get("type") == "file"

    def is_dir(self) -> bool:
        """Tell whether this is a folder that exists; a URL is one if it ends in a slash and lists something."""
        if not self.is_url:
            return self._info.get("type") == "directory"
        try:
            return self.path.endswith("/") and bool(self._children)
        except FileNotFoundError:
            return False

    @property
    def size(self) -> int:
        """Return the bytes of a file; raises FileNotFoundError, and InputRefused if the store does not give a size."""
        if not self._info:
            raise FileNotFoundError(2, "not found", self.shown)
        if not isinstance(size := self._info.get("size"), int):
            raise InputRefused(f"the size of {self} is not known", "a store that tells sizes", "download it first")
        return size

    @property
    def tag(self) -> str:
        """Return a tag that changes with the content: the store's hash, else a time, else ""."""
        about = {key.lower(): value for key, value in self._info.items()}
        return next((f"{key}: {about[key]}" for key in (*_TAGS, *_TIMES) if about.get(key) is not None), "")

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield the files and folders in a folder."""
        yield from self._children

    def walk(self) -> Iterator[tuple[RemotePath, list[str], list[str]]]:
        """Yield (folder, names of folders, names of files) for this and all folders within, as os.walk does."""
        inner = {child.name: child for child in self._children if child.is_dir()}
        names = list(inner)
        yield self, names, [child.name for child in self._children if child.name not in inner]
        for name in names:
            yield from inner[name].walk()

    def open(
        self, mode: str = "rb", *, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> IO[Any]:
        """Open a file for reading, as bytes or text."""
        file = io.BufferedReader(RemoteFile(self), 1 << 16)
        return file if "b" in mode else io.TextIOWrapper(file, encoding, errors, newline)

    def read_text(self, encoding: str) -> str:
        """Read a whole file."""
        with self.open("r", encoding=encoding) as file:
            text: str = file.read()
        return text

    @cached_property
    def _info(self) -> Mapping[str, Any]:
        """The store's information about the path; empty if it does not exist."""
        if self.listing is not None and (self.listing.get("size") is not None or self.listing["type"] == "directory"):
            return self.listing
        try:
            info: dict[str, Any] = with_retries(self.shown, self.query, lambda: self.fs.info(self.where))
        except FileNotFoundError:
            return {}
        return {**info, "type": "directory"} if self.is_url and self.path.endswith("/") else info

    @cached_property
    def _children(self) -> tuple[RemotePath, ...]:
        entries = with_retries(self.shown, self.query, lambda: self.fs.ls(self.where, detail=True))
        found = {name: entry for entry in entries if (name := self._inside(entry["name"]))}
        return tuple(self._child(name, found[name]) for name in sorted(found))

    def _inside(self, entry: str) -> str | None:
        """Return the name of an entry of the listing; None for the folder itself, and for links of a page elsewhere."""
        if not self.is_url:
            return None if entry.strip("/") == self.path.strip("/") else entry.rstrip("/").rpartition("/")[2]
        base = self.where.rstrip("/") + "/"
        link = entry.removeprefix(base).rstrip("/")
        name = unquote(link)
        elsewhere = not entry.startswith(base) or set(link) & set("?#") or "/" in name or name in ("", ".", "..")
        return None if elsewhere else name

    def _child(self, name: str, entry: Mapping[str, Any]) -> RemotePath:
        child = self / name
        slash = "/" if self.is_url and entry["type"] == "directory" else ""
        return replace(child, path=child.path + slash, listing=entry)


def connect(url: str) -> RemotePath:
    """Return the path of a URL in its filesystem; sends no request yet.

    Raises MissingDependency if its package is not installed, UsageError for an unknown protocol.
    """
    shown = redact_url(url)
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]

        fs, path = url_to_fs(url)
    except ImportError as error:
        missing = (error.__cause__ if isinstance(error.__cause__, ImportError) else error).name or "fsspec"
        package = missing.partition(".")[0]
        raise MissingDependency(
            f"{shown} without the package {package}", "the package that reads such URLs", f"pip install {package}"
        ) from None
    except Exception as error:  # any library may raise anything about the URL or its settings
        raise UsageError(
            f"{shown} cannot be opened: {describe_error(error)}",
            "a path, or a URL that fsspec knows: s3://, gs://, hf://, https://, …",
            "correct it, or what is set for fsspec",
        ) from None
    fs.invalidate_cache()  # of earlier listings
    path, mark, query = path.partition("?")
    return RemotePath(fs, path if "://" in path else path.rstrip("/"), mark + query, shown)


def _split_url(shown: str) -> tuple[str, str, str]:
    """Split a URL into what is before its path, the path, and what is after it.

    >>> _split_url("zip://photos::s3://bucket/a.zip"), _split_url("https://host/a?…")
    (('zip://', 'photos', '::s3://bucket/a.zip'), ('https://', 'host/a', '?…'))
    """
    match = _PARTS.fullmatch(shown)
    assert match is not None  # it fits any text
    return match[1] or "", match[2], match[3]


def _join_path(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if folder else name
