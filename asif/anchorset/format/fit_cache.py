"""Fits: what an aligner made of an anchor set, kept beside it as a safetensors file; made anew where there is none."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.atomic_io import read_small, replace_file
from asif.anchorset.format.checksummed_json import parse_object
from asif.anchorset.format.manifest import Manifest
from asif.errors import IntegrityError
from asif.vectors import canonical_json

Float64 = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
"""Named arrays: float32 ones stay so, all others become float64."""
FORMAT = "1"
LARGEST = 1 << 33  # bytes
HEADER = 1 << 20  # bytes
TYPES = {"F64": "<f8", "F32": "<f4"}
KINDS = {name: kind for kind, name in TYPES.items()}
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
REMOVE = "remove the file: it is made anew"


def anchors_hash(manifest: Manifest) -> str:
    """Hash what a fit depends on: the set digest, and the bytes of the embeddings."""
    return hashlib.sha256(canonical_json([manifest.digest, [entry.sha256 for entry in manifest.blocks]])).hexdigest()


def fit_name(manifest: Manifest, aligner: Mapping[str, Any]) -> str:
    """Return the file name of a fit: the set digest it belongs to, and a hash of the aligner's name and parameters."""
    return _name(manifest.digest, anchors_hash(manifest), aligner)


def _name(digest: str, anchors: str, aligner: Mapping[str, Any]) -> str:
    asked = hashlib.sha256(canonical_json([anchors, dict(aligner)])).hexdigest()
    return f"{digest[:12]}-{asked[:12]}.safetensors"


def write_fit(path: Path, manifest: Manifest, aligner: Mapping[str, Any], arrays: Arrays) -> None:
    """Write named arrays with the digest they were fitted on, and a checksum over all of it; durable, whole or not."""
    stored = {
        name: np.asarray(values, "<f4" if values.dtype == np.float32 else "<f8", order="C")
        for name, values in arrays.items()
    }
    data = b"".join(values.tobytes() for values in stored.values())
    about = {"aligner": canonical_json(dict(aligner)).decode(), "anchors": anchors_hash(manifest)}
    about |= {"digest": manifest.digest, "format": FORMAT}
    shapes = {name: (KINDS[values.dtype.str], values.shape) for name, values in stored.items()}
    head = header({**about, "sha256": checksum(about, shapes, data)}, shapes)

    def write(temporary: Path) -> None:
        with open(temporary, "xb") as file:
            file.write(head)
            file.write(data)

    replace_file(path, write, len(head) + len(data))


def checksum(about: Mapping[str, str], shapes: Shapes, data: bytes) -> str:
    """Hash all that a fit says."""
    said = canonical_json(
        [
            dict(about),
            {name: list(shape) if kind == "F64" else [kind, *shape] for name, (kind, shape) in shapes.items()},
        ]
    )
    return hashlib.sha256(said + data).hexdigest()


def header(about: Mapping[str, str], shapes: Shapes) -> bytes:
    """Return the safetensors header of arrays that lie one after another, `about` as its metadata."""
    described: dict[str, Any] = {"__metadata__": dict(about)}
    offset = 0
    for name, (kind, shape) in shapes.items():
        end = offset + np.dtype(TYPES[kind]).itemsize * math.prod(shape)
        described[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return len(text).to_bytes(8, "little") + text


def read_fit(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Read a fit: what it says of itself, and its arrays; raises IntegrityError for any byte that was changed."""
    data = read_small(path, LARGEST)
    length = int.from_bytes(data[:8], "little")
    described = parse_object(data[8 : 8 + length], str(path)) if 8 + length <= len(data) else {}
    about = described.pop("__metadata__", {})
    try:
        shapes = {
            name: (str(tensor["dtype"]), tuple(int(size) for size in tensor["shape"]))
            for name, tensor in described.items()
        }
        body = data[8 + length :]
        intact = header(about, shapes) == data[: 8 + length]
        said = {name: value for name, value in about.items() if name != "sha256"}
        intact = intact and checksum(said, shapes, body) == about["sha256"] and about["format"] == FORMAT
        sizes = [np.dtype(TYPES[kind]).itemsize * math.prod(shape) for kind, shape in shapes.values()]
        intact = intact and len(body) == sum(sizes)
    except (TypeError, KeyError, ValueError, AttributeError):
        intact = False
    if not intact:
        raise IntegrityError(f"{path} is no fit, or was changed", "the bytes as written", REMOVE)
    arrays, offset = {}, 0
    for (name, (kind, shape)), size in zip(shapes.items(), sizes, strict=True):
        arrays[name] = np.frombuffer(body, TYPES[kind], math.prod(shape), offset).reshape(shape)
        offset += size
    return dict(about), arrays


def check_fit(path: Path, manifest: Manifest, aligner: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Read the fit of an aligner to a version; raises IntegrityError where it belongs to other anchors."""
    about, arrays = read_fit(path)
    if about["anchors"] != anchors_hash(manifest) or about["aligner"] != canonical_json(dict(aligner)).decode():
        raise IntegrityError(
            f"{path} was fitted to the digest {about['digest'][:12]}, or with other parameters",
            f"a fit to {manifest.digest[:12]}",
            REMOVE,
        )
    return arrays


def check_named(path: Path) -> None:
    """Read a fit, whatever it belongs to; raises IntegrityError for a changed byte, or another fit's file name."""
    about, _ = read_fit(path)
    name = _name(about["digest"], about["anchors"], json.loads(about["aligner"]))
    if path.name != name:
        raise IntegrityError(f"{path} holds the fit {name}", "the fit it is named by", REMOVE)


def carry_fits(folder: Path, old: Manifest, new: Manifest) -> None:
    """Keep the fits to a version for another that has the same rows in other blocks; damaged ones are left alone."""
    for path in sorted(folder.glob(f"{old.digest[:12]}-*.safetensors")):
        with suppress(IntegrityError):
            about, arrays = read_fit(path)
            if about["anchors"] == anchors_hash(old):
                aligner = json.loads(about["aligner"])
                write_fit(folder / fit_name(new, aligner), new, aligner, arrays)


def kept_aligners(folder: Path, manifest: Manifest, name: str) -> list[tuple[dict[str, Any], str]]:
    """List what aligners of a name were kept in a folder of fits, the latest first: parameters, and anchors' digest.

    The digest is empty where the fit belongs to these very anchors. Reads headers; a damaged one is `verify`'s to find.
    """
    found = []
    for path in sorted(folder.glob("*.safetensors"), key=lambda path: -path.stat().st_mtime_ns):
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            about = parse_object(file.read(length), str(path)).get("__metadata__", {}) if length <= HEADER else {}
        described = json.loads(about.get("aligner", "{}"))
        if described.get("name") == name:
            own = about.get("anchors") == anchors_hash(manifest)
            found.append((dict(described["parameters"]), "" if own else str(about.get("digest"))))
    return found
