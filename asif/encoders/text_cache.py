"""Embeddings of texts kept on disk by fingerprint and prompt, so that known labels load no text encoder."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from asif.errors import AsifError
from asif.vectors import Float32

SEAL = 8
"""Bytes of checksum before each vector."""


class TextCache:
    """Keep unit text embeddings in one SQLite file; only hashes of the texts are stored.

    A cache that cannot be written or read is no cache: everything works without it, only slower.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, fingerprint: str, texts: Sequence[str], dim: int) -> dict[str, Float32]:
        """Return the known ones: {text: vector [dim]}."""
        found: dict[str, Float32] = {}
        if not self.path.is_file():
            return found
        try:
            with self._connect() as connection:
                for text in texts:
                    query = "SELECT vector FROM texts WHERE key = ?"
                    row = connection.execute(query, (key(fingerprint, text),)).fetchone()
                    vector = unsealed(row[0]) if row is not None else None
                    if vector is not None and len(vector) == dim:  # damaged entries are encoded anew
                        found[text] = vector
        except sqlite3.Error:
            return {}
        return found

    def put(self, fingerprint: str, vectors: dict[str, Float32]) -> None:
        """Keep more."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._connect() as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS texts (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
                rows = [(key(fingerprint, text), sealed(vector)) for text, vector in vectors.items()]
                connection.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?)", rows)
        except (sqlite3.Error, OSError):
            return

    def known(self, fingerprint: str, texts: Collection[str]) -> set[str]:
        """Return which texts have an entry; raises sqlite3.Error for a file that cannot be read."""
        if not self.path.is_file():
            return set()
        with self._connect() as connection:
            query = "SELECT 1 FROM texts WHERE key = ?"
            return {text for text in texts if connection.execute(query, (key(fingerprint, text),)).fetchone()}

    def forget(self, fingerprint: str, texts: Collection[str]) -> None:
        """Delete the entries of texts, and overwrite them; raises AsifError where that cannot be done."""
        try:
            if self.known(fingerprint, texts):
                with self._connect() as connection:
                    connection.execute("PRAGMA secure_delete = ON")
                    connection.executemany("DELETE FROM texts WHERE key = ?", [(key(fingerprint, t),) for t in texts])
        except sqlite3.Error as error:
            raise AsifError(
                f"the embeddings of texts in {self.path} cannot be deleted ({error})",
                "a cache that can be read and written",
                "wait for who uses it, or delete the file: it is made anew",
            ) from error

    def _connect(self) -> _Closing:
        return _Closing(sqlite3.connect(self.path, timeout=5))


class _Closing:
    """A transaction that also closes its connection; sqlite3's own leaves it open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._connection.commit()
        self._connection.close()


def sealed(vector: Float32) -> bytes:
    """Write a vector with a checksum before it."""
    return hashlib.sha256(vector.tobytes()).digest()[:SEAL] + vector.tobytes()


def unsealed(entry: object) -> Float32 | None:
    """Read a vector that `sealed` wrote, or None where something has changed."""
    if not isinstance(entry, bytes) or hashlib.sha256(entry[SEAL:]).digest()[:SEAL] != entry[:SEAL]:
        return None
    return np.frombuffer(entry[SEAL:], np.float32)


def key(fingerprint: str, text: str) -> bytes:
    """Hash fingerprint and text to a key."""
    return hashlib.sha256(f"{fingerprint}\n{text}".encode()).digest()
