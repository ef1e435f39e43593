"""The cache of exported models: one folder for each, named by what it was made from, complete or not there."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asif.encoders.backends.sealed_files import TEMPORARY_PREFIX, read_sealed, write_sealed
from asif.vectors import Fingerprint, Float32, Side, canonical_json

EXPORT_FORMAT = 1
MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
_RECORD_FILE = "export.json"
_REFERENCE_FILE = "reference.npy"
_TEMPORARY_SECONDS = 3600
"""Age at which an unfinished export is taken for one of a killed process."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportRecord:
    """Describe an export: the encoder it was made from, with the fingerprint of torch, and its files' sha256.

    `libraries` are the versions that made it, `settings` those with which its files are read. `failure` is the reason
    why the model cannot be exported.
    """

    spec: str
    side: Side
    dim: int
    fingerprint: Mapping[str, Any]
    libraries: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    failure: str | None = None


@dataclass(frozen=True)
class Export:
    """Hold a checked export in its folder."""

    folder: Path
    record: ExportRecord

    @property
    def model(self) -> Path:
        return self.folder / MODEL_FILE

    @property
    def tokenizer(self) -> Path:
        return self.folder / TOKENIZER_FILE

    @cached_property
    def sha256(self) -> str:
        """Return one hash of the files that decide the vectors: the model and, for texts, the tokenizer."""
        hashes = {name: sha256 for name, sha256 in self.record.files.items() if name != _REFERENCE_FILE}
        return hashlib.sha256(canonical_json(hashes)).hexdigest()

    @property
    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the encoder on torch."""
        return Fingerprint(self.record.fingerprint)

    def read_reference(self) -> Float32:
        """Read the unit vectors of the first probe inputs by torch, on the machine that exported the model."""
        reference: Float32 = np.load(self.folder / _REFERENCE_FILE, allow_pickle=False)
        return reference


class ExportCache:
    """Keep exports in a folder that may be deleted at any time: what is missing is exported again."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: str) -> Export | None:
        """Return the export of a key after checking the hashes of all its files; None if it is missing or damaged."""
        folder = self.root / key
        if not folder.is_dir():
            return None
        try:
            record = ExportRecord(**read_sealed(folder / _RECORD_FILE))
            damaged = [name for name, sha256 in record.files.items() if not _is_intact(folder / name, sha256)]
        except (OSError, ValueError, TypeError, KeyError) as error:
            damaged = [f"{_RECORD_FILE}: {type(error).__name__}"]
        if damaged:
            _log.warning("the exported model in %s is damaged (%s) and is exported again", folder, ", ".join(damaged))
            return None
        return Export(folder, record)

    def add(
        self,
        key: str,
        record: ExportRecord,
        write: Callable[[Path], Mapping[str, Any]] = lambda folder: {},
        reference: Float32 | None = None,
    ) -> Export:
        """Write an export with `write(folder)`, complete or not at all; raises OSError if the folder cannot be written.

        `write` returns the record's settings; `reference` are vectors of the first probe inputs. If another process has
        added the export meanwhile, that one stays.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        temporary = self.root / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        temporary.mkdir()
        try:
            settings = write(temporary)
            if reference is not None:
                np.save(temporary / _REFERENCE_FILE, reference)
            hashes = {path.name: _hash_file(path) for path in sorted(temporary.iterdir())}
            write_sealed(temporary / _RECORD_FILE, asdict(replace(record, settings=settings, files=hashes)))
            for path in temporary.iterdir():
                _flush(path)
            self._put_in_place(temporary, self.root / key)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        found = self.find(key)
        if found is None:
            raise OSError(f"{self.root / key} does not hold what was written")
        return found

    def _put_in_place(self, temporary: Path, target: Path) -> None:
        """Rename a finished folder to its place; a damaged or a failed export that is there makes room."""
        found = self.find(target.name)
        if target.is_dir() and (found is None or found.record.failure is not None):
            doomed = self.root / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
            with suppress(OSError):  # another process has moved it
                os.rename(target, doomed)
                shutil.rmtree(doomed)
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.is_dir():
                raise

    def _remove_leftovers(self) -> None:
        for path in self.root.glob(f"{TEMPORARY_PREFIX}*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _TEMPORARY_SECONDS:
                    shutil.rmtree(path)


def make_key(identity: Mapping[str, Any]) -> str:
    """Return the name of an export's folder: a hash of what it is made from.

    >>> make_key({"weights": "a"}) == make_key({"weights": "b"})
    False
    """
    return hashlib.sha256(canonical_json({"export": EXPORT_FORMAT, **identity})).hexdigest()


def _is_intact(path: Path, sha256: str) -> bool:
    try:
        return _hash_file(path) == sha256
    except OSError:
        return False


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
