"""Cache text embeddings on disk by fingerprint and text, so that known labels load no text encoder."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from asif.errors import AsifError
from asif.vectors import Float32

CHECKSUM_BYTES = 8
"""Bytes of the checksum of key and vector before each vector."""


def _make_parents(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)


class TextCache:
    """Store unit text embeddings in one SQLite file, by hashes of the texts.

    A cache that cannot be read or written is skipped: everything works without it, only slower. Each entry has a
    checksum of its key and its vector; an entry without it, as earlier versions wrote them, or with another one is
    encoded again. `create` makes the file's folder, and maybe the file, before entries are added.
    """

    def __init__(self, path: Path, create: Callable[[Path], None] = _make_parents) -> None:
        self.path = path
        self._create = create

    def get(self, fingerprint: str, texts: Sequence[str], dim: int) -> dict[str, Float32]:
        """Return the cached embeddings: {text: vector [dim]}."""
        found: dict[str, Float32] = {}
        if not self.path.is_file():
            return found
        keys = {text: hash_text(fingerprint, text) for text in texts}
        try:
            with self._connect() as connection:
                for text, key in keys.items():
                    row = connection.execute("SELECT vector FROM texts WHERE key = ?", (key,)).fetchone()
                    vector = _check_checksum(key, row[0]) if row is not None else None
                    if vector is not None and len(vector) == dim:  # damaged entries are encoded again
                        found[text] = vector
        except sqlite3.Error:
            return {}
        return found

    def put(self, fingerprint: str, vectors: dict[str, Float32]) -> None:
        """Add embeddings."""
        keys = {text: hash_text(fingerprint, text) for text in vectors}
        rows = [(keys[text], _add_checksum(keys[text], vector)) for text, vector in vectors.items()]
        try:
            self._create(self.path)
            with self._connect() as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS texts (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
                connection.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?)", rows)
        except (sqlite3.Error, OSError, AsifError):
            return

    def find_known(self, fingerprint: str, texts: Collection[str]) -> set[str]:
        """Return which texts have an entry; raises sqlite3.Error for a file that cannot be read."""
        if not self.path.is_file():
            return set()
        with self._connect() as connection:
            query = "SELECT 1 FROM texts WHERE key = ?"
            return {text for text in texts if connection.execute(query, (hash_text(fingerprint, text),)).fetchone()}

    def forget(self, fingerprint: str, texts: Collection[str]) -> None:
        """Delete and overwrite the entries of texts; raises AsifError if that fails."""
        try:
            if self.find_known(fingerprint, texts):
                with self._connect() as connection:
                    connection.execute("PRAGMA secure_delete = ON")
                    connection.executemany(
                        "DELETE FROM texts WHERE key = ?", [(hash_text(fingerprint, t),) for t in texts]
                    )
        except sqlite3.Error as error:
            raise AsifError(
                f"the embeddings of texts in {self.path} cannot be deleted ({error})",
                "a cache that can be read and written",
                "wait until the other process has finished, or delete the file: it is created again",
            ) from error

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction; sqlite3's own context manager does not close the connection.

        Raises sqlite3.Error for any damage: Python cannot decode some damaged names and messages, and some damaged
        sizes are larger than the memory.
        """
        try:
            with closing(sqlite3.connect(self.path, timeout=5)) as connection, connection:
                yield connection
        except (UnicodeError, MemoryError, OverflowError) as error:
            raise sqlite3.DatabaseError(f"damaged: {type(error).__name__}") from error


def _add_checksum(key: bytes, vector: Float32) -> bytes:
    """Serialise a vector after the checksum of its key and itself."""
    return _compute_checksum(key, vector.tobytes()) + vector.tobytes()


def _check_checksum(key: bytes, entry: object) -> Float32 | None:
    """Read a vector that `_add_checksum` wrote for this key; None if a byte has changed, or the key is another."""
    if not isinstance(entry, bytes) or _compute_checksum(key, entry[CHECKSUM_BYTES:]) != entry[:CHECKSUM_BYTES]:
        return None
    return np.frombuffer(entry[CHECKSUM_BYTES:], np.float32)


def _compute_checksum(key: bytes, vector: bytes) -> bytes:
    return hashlib.sha256(key + vector).digest()[:CHECKSUM_BYTES]


def hash_text(fingerprint: str, text: str) -> bytes:
    """Hash fingerprint and text to the key of an entry."""
    return hashlib.sha256(f"{fingerprint}\n{text}".encode()).digest()
