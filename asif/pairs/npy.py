"""Read precomputed vectors from .npy parts, as clip-retrieval writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

from asif.errors import InputRefused
from asif.pairs.columns import Columns, ColumnShape, check_shard, find_columns
from asif.pairs.location import Place, list_folder, map_places
from asif.pairs.npy_file import NpyFile, open_npy_file
from asif.pairs.pair import Pair, Reject
from asif.pairs.parquet import find_parquet_forms, read_parquet_cells, read_parquet_head
from asif.pairs.row_parser import parse_row, split_vectors
from asif.pairs.source import PairSource

_BLOCK_ROWS = 256
_VECTORS: dict[str, ColumnShape] = {"img_emb_*.npy": "vector", "text_emb_*.npy": "vector"}


@dataclass(frozen=True)
class NpyPart:
    """Name the files of one part and the number of rows in each."""

    image: Place
    text: Place
    metadata: Place | None
    rows: int


@dataclass(frozen=True)
class NpySource(PairSource):
    """Read vectors part by part, with captions if there is metadata."""

    parts: tuple[NpyPart, ...]

    @property
    def rows(self) -> int:
        """Count the rows."""
        return sum(part.rows for part in self.parts)

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one item for each row from `start` on."""
        first = 0
        for part in self.parts:
            skip = min(max(start - first, 0), part.rows)
            for row, (vectors, texts) in enumerate(zip(_read_part_vectors(part, skip), self._texts(part, skip)), skip):  # noqa: B905
                yield parse_row(first + row, {**texts, **vectors}, self.path, self.columns.forms)
            first += part.rows

    def _texts(self, part: NpyPart, skip: int) -> Iterator[dict[str, Any]]:
        if part.metadata is None:
            return repeat({})
        texts = replace(self.columns, image_embedding=None, text_embedding=None)
        return (cells for _, cells in read_parquet_cells(part.metadata, part.rows, texts, None, skip))


def has_npy(path: Place) -> bool:
    """Tell whether a folder looks like clip-retrieval's."""
    return bool(_find_numbered(path, "img_emb", "npy") or _find_numbered(path, "text_emb", "npy"))


def open_npy(path: Place, overrides: Mapping[str, str]) -> NpySource:
    """Open the parts of a folder, reading only headers and footers."""
    images, texts = _find_numbered(path, "img_emb", "npy"), _find_numbered(path, "text_emb", "npy")
    metadata = _find_numbered(path, "metadata", "parquet")
    for name, numbers in (("text_emb_*.npy", texts.keys()), ("metadata_*.parquet", metadata.keys() or images.keys())):
        if numbers != images.keys():
            odd = ", ".join(map(str, sorted(numbers ^ images.keys())))
            raise _bad_parts(f"{path}: img_emb_*.npy and {name} do not go together: parts {odd}")
    ordered = {images[number]: number for number in sorted(images)}
    opened = map_places(
        lambda image: _open_part(image, texts[ordered[image]], metadata.get(ordered[image])), [*ordered]
    )
    dims = {shape for _, shape in opened}
    if len(dims) > 1:
        raise _bad_parts(f"{path}: the parts have vectors of different widths: {sorted(dims)}")
    parts = tuple(part for part, _ in opened)
    columns, unused = _find_part_columns(parts, overrides)
    files = tuple(file for part in parts for file in (part.image, part.text, part.metadata) if file)
    return NpySource(path, "precomputed vectors (.npy)", columns, unused, files, opened[0][1], parts)


def _find_part_columns(parts: tuple[NpyPart, ...], overrides: Mapping[str, str]) -> tuple[Columns, tuple[str, ...]]:
    heads = {part.metadata: read_parquet_head(part.metadata)[1] for part in parts if part.metadata}
    where, shapes = next(iter(heads.items()), (parts[0].image.parent, {}))
    image, text = _VECTORS
    vectors = {"image_embedding": image, "text_embedding": text}
    columns = find_columns({**shapes, **_VECTORS}, {**vectors, **overrides}, str(where))
    for file, others in heads.items():
        check_shard(columns, {**others, **_VECTORS}, str(file))
    columns = find_parquet_forms(columns, shapes, {part.metadata: part.rows for part in parts if part.metadata})
    used = set(columns.by_role().values())
    return columns, tuple(name for name in shapes if name not in used)


def _find_numbered(path: Place, name: str, suffix: str) -> dict[int, Place]:
    inside = list_folder(path)
    within = list_folder(inside[name]) if name in inside and inside[name].is_dir() else {}
    for files in (within, inside):
        matches = [
            (re.fullmatch(rf"{name}_(\d+)\.{suffix}", label, re.IGNORECASE), file) for label, file in files.items()
        ]
        found = {int(match[1]): file for match, file in matches if match}
        if found:
            return found
    return {}


def _open_part(image: Place, text: Place, metadata: Place | None) -> tuple[NpyPart, tuple[int, int]]:
    left, right = _open_vectors(image), _open_vectors(text)
    counts = {image: left.shape[0], text: right.shape[0]}
    if metadata:
        counts[metadata] = read_parquet_head(metadata)[0]
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{file.name} has {count:,}" for file, count in counts.items())
        raise _bad_parts(f"{image.parent}: parts of different lengths: {listed}")
    return NpyPart(image, text, metadata, left.shape[0]), (left.shape[1], right.shape[1])


def _open_vectors(path: Place) -> NpyFile:
    try:
        array = open_npy_file(path)
    except (OSError, ValueError, EOFError) as error:
        raise _bad_parts(f"{path} cannot be read: {error}") from error
    if len(array.shape) != 2 or array.dtype.kind != "f":
        raise _bad_parts(f"{path} holds {array.dtype} {list(array.shape)}")
    return array


def _read_part_vectors(part: NpyPart, skip: int) -> Iterator[dict[str, Any]]:
    image, text = _open_vectors(part.image), _open_vectors(part.text)
    for start in range(skip, part.rows, _BLOCK_ROWS):
        block = start, min(start + _BLOCK_ROWS, part.rows)
        for left, right in zip(split_vectors(image.rows(*block)), split_vectors(text.rows(*block)), strict=True):
            yield {"image_embedding": left, "text_embedding": right}


def _bad_parts(came: str) -> InputRefused:
    return InputRefused(
        came,
        "float vectors [n, d], row for row: img_emb_0.npy with text_emb_0.npy (and metadata_0.parquet)",
        "write the parts again, for instance with clip-retrieval inference",
    )
