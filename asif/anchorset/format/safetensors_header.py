"""The header of a safetensors file: its length, JSON that describes the tensors, and blanks up to a multiple of 64.

Source: https://huggingface.co/docs/safetensors. The tensors are stored one after another in the order of the header, so
their offsets follow from dtypes and shapes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asif.anchorset.format.checksummed_json import parse_json_object

_ALIGNMENT = 64  # bytes
_MAX_METADATA_BYTES = 1 << 20
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "U8": 1}


@dataclass(frozen=True)
class TensorSpec:
    """Describe a tensor: its dtype, as safetensors calls it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Return the size in bytes; raises KeyError for a dtype that asif never writes."""
        return _ITEM_BYTES[self.dtype] * math.prod(self.shape)


def build_safetensors_header(tensors: Mapping[str, TensorSpec], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the header of tensors that are stored one after another; equal tensors give equal bytes.

    >>> build_safetensors_header({"a": TensorSpec("F32", (2, 3))})[8:].rstrip()
    b'{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'
    """
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.size
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def parse_safetensors_header(data: bytes, where: str) -> tuple[dict[str, Any], dict[str, TensorSpec], int]:
    """Read the header at the beginning of `data`: the metadata, the tensors, and the length of the header in bytes.

    Offsets are not checked: compare the bytes with `build_safetensors_header` of the result. Raises IntegrityError for
    a header that is not JSON; ValueError, TypeError, KeyError or AttributeError for any other invalid header.
    """
    length = 8 + int.from_bytes(data[:8], "little")
    if length > len(data):
        raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
    entries = parse_json_object(data[8:length], where)
    metadata = dict(entries.pop("__metadata__", {}))
    tensors = {
        name: TensorSpec(str(entry["dtype"]), tuple(int(size) for size in entry["shape"]))
        for name, entry in entries.items()
    }
    return metadata, tensors, length


def read_safetensors_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a file and nothing else; empty if the header is longer than 1 MiB.

    Raises IntegrityError for a header that is not JSON.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_METADATA_BYTES:
            return {}
        metadata: dict[str, Any] = parse_json_object(file.read(length), str(path)).get("__metadata__", {})
    return metadata
