"""The fit cache: the arrays that an aligner was fitted to on an anchor set, each fit a safetensors file of the set.

A fit belongs to a version, or to one block, such as the rows that an aligner made of a block of a gallery. It can be
computed again, so a missing or damaged file costs time only.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.atomic_io import atomic_write, open_plain_file, translate_read_errors
from asif.anchorset.format.manifest import Manifest
from asif.anchorset.format.safetensors_header import (
    TensorSpec,
    build_safetensors_header,
    parse_safetensors_header,
    read_safetensors_metadata,
)
from asif.errors import IntegrityError
from asif.vectors import FitArrays, canonical_json

_FIT_FORMAT = "1"
_MAX_FIT_BYTES = 1 << 33
_NUMPY_DTYPES = {"F64": "<f8", "F32": "<f4"}
_SAFETENSORS_NAMES = {dtype: name for name, dtype in _NUMPY_DTYPES.items()}
_REMOVE_ADVICE = "remove the file: the fit is computed again"


def hash_anchors(manifest: Manifest) -> str:
    """Hash what a fit depends on: the set digest, and the bytes of the embeddings."""
    return hashlib.sha256(canonical_json([manifest.digest, [entry.sha256 for entry in manifest.blocks]])).hexdigest()


@dataclass(frozen=True)
class FitKey:
    """Identify a fit: the digest of the version, or the sha256 of the block, that it belongs to; a hash of the anchors.

    `aligner` holds the aligner's name and parameters. Fits of several blocks over the same anchors differ in `digest`
    alone.
    """

    digest: str
    anchors: str
    aligner: Mapping[str, Any]

    @classmethod
    def of(cls, manifest: Manifest, aligner: Mapping[str, Any]) -> FitKey:
        """Return the key of the fit of an aligner to a version."""
        return cls(manifest.digest, hash_anchors(manifest), aligner)

    @property
    def file_name(self) -> str:
        """Return the name of the file: what the fit belongs to, and a hash of the anchors and the aligner."""
        key = hashlib.sha256(canonical_json([self.anchors, dict(self.aligner)])).hexdigest()
        return f"{self.digest[:12]}-{key[:12]}.safetensors"


def write_fit(path: Path, key: FitKey, arrays: FitArrays) -> None:
    """Write named arrays atomically, with their key and a checksum over the file; raises OutOfSpace."""
    stored = {
        name: np.asarray(values, "<f4" if values.dtype == np.float32 else "<f8", order="C")
        for name, values in arrays.items()
    }
    data = [values.reshape(-1).view(np.uint8).data for values in stored.values()]
    metadata = {"aligner": canonical_json(dict(key.aligner)).decode(), "anchors": key.anchors}
    metadata |= {"digest": key.digest, "format": _FIT_FORMAT}
    tensors = {name: TensorSpec(_SAFETENSORS_NAMES[values.dtype.str], values.shape) for name, values in stored.items()}
    checksum = _compute_checksum(metadata, tensors, data)
    header = build_safetensors_header(tensors, {**metadata, "sha256": checksum})

    def write(temporary: Path) -> None:
        with open(temporary, "xb") as file:
            file.write(header)
            for part in data:
                file.write(part)

    atomic_write(path, write, len(header) + sum(part.nbytes for part in data))


def _compute_checksum(
    metadata: Mapping[str, str], tensors: Mapping[str, TensorSpec], data: Iterable[memoryview]
) -> str:
    """Hash the metadata, the shapes and the values of a fit."""
    shapes = {
        name: list(tensor.shape) if tensor.dtype == "F64" else [tensor.dtype, *tensor.shape]
        for name, tensor in tensors.items()
    }
    digest = hashlib.sha256(canonical_json([dict(metadata), shapes]))
    for part in data:
        digest.update(part)
    return digest.hexdigest()


def read_fit(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Read the metadata and the arrays of a fit; raises IntegrityError for any byte that was changed."""
    data = _map_file(path)
    try:
        metadata, tensors, length = parse_safetensors_header(data, str(path))
        body = memoryview(data)[length:]
        unsigned = {name: value for name, value in metadata.items() if name != "sha256"}
        intact = (
            build_safetensors_header(tensors, metadata) == data[:length]
            and _compute_checksum(unsigned, tensors, [body]) == metadata["sha256"]
            and metadata["format"] == _FIT_FORMAT
            and all(tensor.dtype in _NUMPY_DTYPES for tensor in tensors.values())
            and len(body) == sum(tensor.size for tensor in tensors.values())
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        intact = False
    if not intact:
        raise IntegrityError(f"{path} is no fit, or was changed", "the bytes as written", _REMOVE_ADVICE)
    arrays, offset = {}, 0
    for name, tensor in tensors.items():
        values = np.frombuffer(body, _NUMPY_DTYPES[tensor.dtype], math.prod(tensor.shape), offset)
        arrays[name] = values.reshape(tensor.shape)
        offset += tensor.size
    return metadata, arrays


def _map_file(path: Path) -> bytes:
    """Map a file into memory, so that processes share its bytes; raises IntegrityError for one that is too large."""
    with translate_read_errors(path), open_plain_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MAX_FIT_BYTES:
            raise IntegrityError(f"{path} has {size:,} bytes", f"at most {_MAX_FIT_BYTES:,}", _REMOVE_ADVICE)
        mapped: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    found: bytes = mapped  # it is sliced and viewed as bytes are
    return found


def read_matching_fit(path: Path, key: FitKey) -> dict[str, NDArray[Any]]:
    """Read the fit with a key; raises IntegrityError if the file has another one."""
    metadata, arrays = read_fit(path)
    if _read_key(metadata) != FitKey(key.digest, key.anchors, json.loads(canonical_json(dict(key.aligner)))):
        raise IntegrityError(
            f"{path} was fitted to the digest {metadata['digest'][:12]}, or with other parameters",
            f"a fit to {key.digest[:12]}",
            _REMOVE_ADVICE,
        )
    return arrays


def _read_key(metadata: Mapping[str, str]) -> FitKey:
    return FitKey(metadata["digest"], metadata["anchors"], json.loads(metadata["aligner"]))


def check_fit_file(path: Path) -> None:
    """Raise IntegrityError if a byte of a fit was changed, or the file has the name of another fit."""
    metadata, _ = read_fit(path)
    name = _read_key(metadata).file_name
    if path.name != name:
        raise IntegrityError(f"{path} holds the fit {name}", "the fit it is named by", _REMOVE_ADVICE)


def find_unneeded_fits(folder: Path, digests: Iterable[str], blocks: Iterable[str]) -> list[Path]:
    """Return the files in a folder that belong to no version of these digests and to none of these blocks, by name."""
    needed = {each[:12] for each in (*digests, *blocks)}
    return [path for path in sorted(folder.glob("*")) if path.name[:12] not in needed]


def copy_fits(folder: Path, old: Manifest, new: Manifest) -> None:
    """Write the fits to a version again for another that has the same rows in other blocks; skip damaged files."""
    for path in sorted(folder.glob(f"{old.digest[:12]}-*.safetensors")):
        with suppress(IntegrityError):
            metadata, arrays = read_fit(path)
            if metadata["anchors"] == hash_anchors(old):
                key = FitKey.of(new, json.loads(metadata["aligner"]))
                write_fit(folder / key.file_name, key, arrays)


def list_fitted_aligners(folder: Path, manifest: Manifest, name: str) -> list[tuple[dict[str, Any], str]]:
    """List the fits of aligners of one name, newest first: the parameters, and the digest of the anchors.

    The digest is empty if the fit belongs to exactly these anchors. Reads headers only: `verify` finds damage.
    """
    fitted = []
    for path in _list_newest_first(folder):
        try:
            metadata = read_safetensors_metadata(path)
        except FileNotFoundError:
            continue  # a purge or gc has deleted it meanwhile
        aligner = json.loads(metadata.get("aligner", "{}"))
        if aligner.get("name") == name:
            own = metadata.get("anchors") == hash_anchors(manifest)
            fitted.append((dict(aligner["parameters"]), "" if own else str(metadata.get("digest"))))
    return fitted


def delete_fits(folder: Path, name: str, keep: int = 0) -> None:
    """Delete the fits in a folder of an aligner of one name, but for the `keep` newest; those of all blocks are one."""
    named = []
    for path in _list_newest_first(folder):
        with suppress(FileNotFoundError, IntegrityError, ValueError):
            if json.loads(read_safetensors_metadata(path).get("aligner", "{}")).get("name") == name:
                named.append(path)
    kept = list(dict.fromkeys(map(_name_kind, named)))[:keep]
    for path in named:
        if _name_kind(path) not in kept:
            path.unlink(missing_ok=True)


def _name_kind(path: Path) -> str:
    """Return the part of a file's name that fits of several blocks over the same anchors have in common."""
    return path.name.partition("-")[2]


def _list_newest_first(folder: Path) -> list[Path]:
    """List the fits in a folder; skips those that vanish meanwhile."""
    times: dict[Path, int] = {}
    for path in folder.glob("*.safetensors"):
        with suppress(FileNotFoundError):
            times[path] = path.stat().st_mtime_ns
    return sorted(times, key=lambda path: -times[path])
