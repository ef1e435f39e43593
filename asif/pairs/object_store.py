"""Write objects to a store that fsspec knows: whole, at once, and if need be only where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from asif.errors import AsifError, Unreachable, UsageError
from asif.pairs.remote import RemotePath, connect
from asif.pairs.retry import describe_error

_T = TypeVar("_T")


@dataclass(frozen=True)
class ObjectFolder:
    """Hold the prefix of objects in a store; names below it may contain slashes."""

    place: RemotePath

    @classmethod
    def connect(cls, url: str) -> ObjectFolder:
        """Return the folder at a URL such as s3://bucket/folder; raises UsageError for a path without a protocol."""
        if "://" not in url:
            raise UsageError(f"{url!r} for objects", "a URL such as s3://bucket/folder", "name the store")
        return cls(connect(url))

    def __truediv__(self, name: str) -> ObjectFolder:
        return ObjectFolder(self.place / name)

    def read(self, name: str) -> bytes | None:
        """Return the content of an object; None if there is none."""
        try:
            data: bytes = self._call(lambda fs: fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Put an object, in place of any that is there."""
        self._call(lambda fs: fs.pipe_file(self._path(name), data))

    def create(self, name: str, data: bytes) -> bool:
        """Put an object if there is none of that name, in one step; tell whether it was put.

        Raises UsageError for a store without conditional puts.
        """
        try:
            self._call(lambda fs: fs.pipe_file(self._path(name), data, mode="create"))
        except (FileExistsError, TypeError, NotImplementedError) as error:
            if isinstance(error, FileExistsError):
                return False
            raise UsageError(
                f"{self.place}: its file system cannot put an object only if there is none",
                "s3://, gs:// or another one with conditional puts, of s3fs or gcsfs from 2024.12 on",
                "upgrade it, or leave --exchange out",
            ) from error
        return True

    def upload(self, name: str, file: Path) -> None:
        """Put the content of a file."""
        self._call(lambda fs: fs.put_file(str(file), self._path(name)))

    def download(self, name: str, file: Path) -> None:
        """Write the content of an object to a file."""
        self._call(lambda fs: fs.get_file(self._path(name), str(file)))

    def list_names(self) -> list[str]:
        """List the objects by name."""
        self.place.fs.invalidate_cache()
        prefix = self._path("")
        try:
            found: list[str] = self._call(lambda fs: fs.find(prefix))
        except FileNotFoundError:
            return []
        return sorted(name.removeprefix(prefix).lstrip("/") for name in found)

    def delete(self, name: str = "") -> None:
        """Delete an object, or all whose names begin with `name` and a slash; nothing if there are none."""
        self.place.fs.invalidate_cache()
        try:
            self._call(lambda fs: fs.rm(self._path(name).rstrip("/"), recursive=True))
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        return f"{self.place.path.rstrip('/')}/{name}"

    def _call(self, request: Callable[[Any], _T]) -> _T:
        """Send a request; errors of the store become Unreachable, but for what is there or not."""
        try:
            return request(self.place.fs)
        except (FileNotFoundError, FileExistsError, TypeError, NotImplementedError, AsifError):
            raise
        except Exception as error:  # any library may raise anything
            raise Unreachable(
                f"{self.place} does not answer: {describe_error(error)}",
                "a store that takes objects",
                "check the network and the permissions, then run the same command again",
            ) from error
