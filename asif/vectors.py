"""Values shared by all packages: frozen, checked at construction, trusted afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from asif.errors import BadEmbedding

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
FitArrays = Mapping[str, NDArray[Any]]
"""The arrays of a fitted aligner by name; stored as float32 if they are float32, else as float64."""
Texts = tuple[tuple[str, ...], ...]
"""For each row the texts whose mean embedding it is: the captions of an anchor, the prompts of a label, one query."""
Side = Literal["image", "text"]
SIDES: tuple[Side, Side] = ("image", "text")
OTHER_SIDE: dict[Side, Side] = {"image": "text", "text": "image"}


@dataclass(frozen=True)
class Embeddings:
    """Hold an encoder's output: `values` [n, d], float32, unit rows.

    `texts` are the texts of each row, which is the mean of their embeddings; None for images, and for vectors without.
    Raises BadEmbedding, naming the rows, for NaN, infinite or zero vectors.

    >>> Embeddings.from_raw([[3.0, 4.0]]).values
    array([[0.6, 0.8]], dtype=float32)
    >>> Embeddings.from_raw([[1.0, 0.0], [0.0, 0.0]])
    Traceback (most recent call last):
        ...
    asif.errors.BadEmbedding: 1 of 2 vectors cannot be used (zero): rows 1
      expected: finite vectors with a length above zero
      to do:    look at the inputs of those rows, or leave them out
    """

    values: Float32
    texts: Texts | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != np.float32:
            raise TypeError(f"embeddings are float32 [n, d], not {self.values.dtype} {self.values.shape}")
        if self.texts is not None and len(self.texts) != len(self.values):
            raise TypeError(f"the texts of {len(self.texts)} rows for {len(self.values)} embeddings")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        return int(self.values.shape[1])

    def select_rows(self, rows: slice | Int64) -> Embeddings:
        """Return some rows, with their texts.

        >>> Embeddings(np.eye(2, dtype=np.float32), (("a cat",), ("a dog",))).select_rows(np.array([1])).texts
        (('a dog',),)
        """
        if self.texts is None:
            return Embeddings(self.values[rows])
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        return Embeddings(self.values[rows], tuple(self.texts[row] for row in chosen))

    @classmethod
    def from_raw(cls, raw: Any, texts: Texts | None = None) -> Embeddings:
        """Normalise raw vectors [n, d] of any float type to unit rows.

        Lengths are taken in float64, so float16 input neither overflows nor vanishes.
        """
        wide = np.atleast_2d(np.asarray(raw)).astype(np.float64)
        problems = find_vector_problems(wide)
        if problems:
            rows = ", ".join(map(str, list(problems)[:10]))
            raise BadEmbedding(
                f"{len(problems)} of {len(wide)} vectors cannot be used ({next(iter(problems.values()))}): rows {rows}",
                "finite vectors with a length above zero",
                "look at the inputs of those rows, or leave them out",
            )
        largest = np.abs(wide).max(axis=1, keepdims=True, initial=0.0)
        scaled = wide / largest  # lengths of tiny and of huge vectors stay in range
        return cls((scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32), texts)


def find_vector_problems(raw: NDArray[np.floating[Any]]) -> dict[int, str]:
    """Find unusable rows of raw [n, d]: {row: "not finite" | "zero"}.

    >>> find_vector_problems(np.array([[1.0, np.nan], [0.0, 0.0], [0.0, 2.0]]))
    {0: 'not finite', 1: 'zero'}
    """
    finite = np.isfinite(raw).all(axis=1)
    nonzero = (raw != 0).any(axis=1)
    return {int(row): "zero" if finite[row] else "not finite" for row in np.flatnonzero(~(finite & nonzero))}


def mean_direction(vectors: Sequence[Float32]) -> Float32:
    """Average vectors [d] after scaling each to unit length; NaN if one of them is zero.

    >>> mean_direction([np.array([3.0, 0.0], np.float32), np.array([0.0, 0.5], np.float32)])
    array([0.5, 0.5], dtype=float32)
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = np.stack(vectors).astype(np.float64)
        mean: Float32 = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0).astype(np.float32)
    return mean


def normalise_rows(rows: Float32 | Float64) -> Float32:
    """Scale rows [n, d] to unit length; the caller has checked that none is zero or not finite.

    >>> normalise_rows(np.array([[3.0, 4.0]], np.float32))
    array([[0.6, 0.8]], dtype=float32)
    """
    wide = rows.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True), np.float32)


@dataclass(frozen=True)
class Tokens:
    """Hold a model's token features of n inputs: `values` [n, t, d] of tokens, and `pooled` [n, e].

    `mask` [n, t] marks the tokens that an input has; the values of the others are zero. Nothing is normalised.
    """

    values: Float32
    mask: NDArray[np.bool_]
    pooled: Float32

    def __post_init__(self) -> None:
        shapes = self.values.shape, self.mask.shape, self.pooled.shape
        if self.values.ndim != 3 or self.mask.shape != self.values.shape[:2] or len(self.pooled) != len(self.mask):
            raise TypeError(f"tokens are [n, t, d], [n, t] and [n, e], not {shapes}")

    def __len__(self) -> int:
        return len(self.mask)

    @classmethod
    def padded(cls, rows: Sequence[NDArray[np.floating[Any]]], pooled: Float32) -> Tokens:
        """Stack the tokens [t, d] of each input, padded to the length of the longest.

        >>> two = Tokens.padded([np.ones((1, 2)), np.ones((3, 2))], np.zeros((2, 2), np.float32))
        >>> two.values[..., 0].tolist(), two.mask.sum(axis=1).tolist()
        ([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]], [1, 3])
        """
        counts = np.array([len(row) for row in rows], np.int64)
        longest = int(counts.max(initial=0))
        values = np.zeros((len(rows), longest, rows[0].shape[1] if len(rows) else 0), np.float32)
        for place, row in zip(values, rows, strict=True):
            place[: len(row)] = row
        return cls(values, np.arange(longest) < counts[:, None], pooled)


@dataclass(frozen=True)
class TopK:
    """Hold the k best entries per query, score descending, then smaller index.

    `indices` [q, k] int64, `scores` [q, k] float32.
    """

    indices: Int64
    scores: Float32

    def __post_init__(self) -> None:
        if self.indices.shape != self.scores.shape or self.indices.ndim != 2:
            raise TypeError(f"top-k needs equal [q, k] shapes, not {self.indices.shape} and {self.scores.shape}")


@dataclass(frozen=True)
class SparseRows:
    """Hold vectors of `width` entries, at most k of them not zero.

    `indices` [n, k] int64, distinct within a row; `values` [n, k] float32, zero for unused entries.
    """

    indices: Int64
    values: Float32
    width: int

    def __post_init__(self) -> None:
        if self.indices.shape != self.values.shape or self.indices.ndim != 2:
            raise TypeError(f"sparse rows need equal [n, k] shapes, not {self.indices.shape} and {self.values.shape}")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: slice) -> SparseRows:
        return SparseRows(self.indices[rows], self.values[rows], self.width)

    def to_dense(self) -> Float32:
        """Return the rows as a dense array [n, width].

        >>> SparseRows(np.array([[2, 0]]), np.array([[0.6, 0.8]], np.float32), 4).to_dense()
        array([[0.8, 0. , 0.6, 0. ]], dtype=float32)
        """
        out = np.zeros((len(self), self.width), np.float32)
        np.put_along_axis(out, self.indices, self.values, axis=1)
        return out

    def widen(self, entries: int) -> SparseRows:
        """Return the same rows with `entries` entries each; the added ones are zero, at indices the row does not use.

        >>> SparseRows(np.array([[1, 0]]), np.array([[0.6, 0.8]], np.float32), 4).widen(3).indices.tolist()
        [[1, 0, 2]]
        """
        more = entries - self.indices.shape[1]
        if not more:
            return self
        free = np.ones((len(self), entries), bool)  # of the first indices: at least `more` of them are unused
        rows, columns = np.nonzero(self.indices < entries)
        free[rows, self.indices[rows, columns]] = False
        unused = np.argsort(~free, axis=1, kind="stable")[:, :more]
        padding = np.zeros((len(self), more), np.float32)
        return SparseRows(np.hstack([self.indices, unused]), np.hstack([self.values, padding]), self.width)


@dataclass(frozen=True)
class DenseRows:
    """Hold vectors [n, d] in a space that images and texts share: float32, of unit length or zero."""

    values: Float32

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> DenseRows:
        return DenseRows(self.values[rows])


@dataclass(frozen=True)
class FusedRows:
    """Hold the rows of several aligners, a part for each; an inner product is the sum over the parts."""

    parts: tuple[SparseRows | DenseRows, ...]

    def __post_init__(self) -> None:
        if len(set(map(len, self.parts))) != 1:
            raise TypeError(f"fused rows need parts of equal length, not {[len(part) for part in self.parts]}")

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, rows: slice) -> FusedRows:
        return FusedRows(tuple(part[rows] for part in self.parts))


Rows = SparseRows | DenseRows | FusedRows
"""Embeddings as an aligner represents them; rows of one aligner are compared by inner product."""


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Concatenate rows of one aligner.

    >>> join_rows([DenseRows(np.ones((2, 3), np.float32)), DenseRows(np.ones((1, 3), np.float32))]).values.shape
    (3, 3)
    """
    first = parts[0]
    if isinstance(first, FusedRows):
        fused = [rows for rows in parts if isinstance(rows, FusedRows)]
        columns = [join_rows([rows.parts[at] for rows in fused]) for at in range(len(first.parts))]
        return FusedRows(tuple(column for column in columns if not isinstance(column, FusedRows)))
    sparse = [rows for rows in parts if isinstance(rows, SparseRows)]
    if not sparse:
        return DenseRows(np.concatenate([rows.values for rows in parts if isinstance(rows, DenseRows)]))
    widest = max(rows.indices.shape[1] for rows in sparse)
    even = [rows.widen(widest) for rows in sparse]
    indices, values = (np.concatenate([getattr(rows, name) for rows in even]) for name in ("indices", "values"))
    return SparseRows(indices, values, sparse[0].width)


def gather_rows(blocks: Sequence[NDArray[Any]], rows: Int64) -> NDArray[Any]:
    """Copy rows [m, d], in ascending order, from blocks [n, d] whose rows are numbered consecutively.

    >>> gather_rows([np.eye(2), 5 * np.eye(2)], np.array([1, 2])).tolist()
    [[0.0, 1.0], [5.0, 0.0]]
    """
    found, first = [], 0
    for block in blocks:
        here = rows[(rows >= first) & (rows < first + len(block))] - first
        found.append(np.asarray(block[here]))
        first += len(block)
    return np.concatenate(found)


def scale_rows(rows: SparseRows | DenseRows, factor: float) -> SparseRows | DenseRows:
    """Multiply rows by a number.

    >>> scale_rows(DenseRows(np.array([[0.6, 0.8]], np.float32)), 0.5).values.tolist()
    [[0.30000001192092896, 0.4000000059604645]]
    """
    values = rows.values * np.float32(factor)
    return replace(rows, values=values)


def compute_lengths(rows: Rows) -> list[Float32]:
    """Return the lengths of rows, for each part of fused ones: [n] each.

    >>> compute_lengths(DenseRows(np.array([[0.6, 0.8]], np.float32)))
    [array([1.], dtype=float32)]
    """
    parts = rows.parts if isinstance(rows, FusedRows) else (rows,)
    return [np.linalg.norm(part.values, axis=1) for part in parts]


@dataclass(frozen=True)
class AnchorContributions:
    """Hold the contributions of single anchors to a score: `anchors` [m], ascending, `values` [m], whose sum it is."""

    anchors: Int64
    values: NDArray[np.float64]

    @classmethod
    def add(cls, parts: Sequence[AnchorContributions]) -> AnchorContributions:
        """Add up the contributions of each anchor to several scores.

        >>> one = AnchorContributions(np.array([2, 5]), np.array([0.25, 0.5]))
        >>> AnchorContributions.add([one, AnchorContributions(np.array([5]), np.array([0.25]))])
        AnchorContributions(anchors=array([2, 5]), values=array([0.25, 0.75]))
        """
        anchors, places = np.unique(np.concatenate([one.anchors for one in parts]), return_inverse=True)
        values = np.zeros(len(anchors))
        np.add.at(values, places, np.concatenate([one.values for one in parts]))
        return cls(anchors, values)


@dataclass(frozen=True)
class Fingerprint:
    """Hold what determines an encoder's output, as JSON values: library, model, weights, preprocessing, pooling, dtype.

    Two encoders with equal fingerprints are interchangeable; `digest` is the sha256 of the canonical JSON.

    >>> a = Fingerprint({"model": "resnet50", "dtype": "float32"})
    >>> a == Fingerprint({"dtype": "float32", "model": "resnet50"})
    True
    >>> a.differences(Fingerprint({"model": "resnet18", "dtype": "float32"}))
    {'model': ('resnet50', 'resnet18')}
    """

    fields: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", json.loads(canonical_json(dict(self.fields))))

    @property
    def digest(self) -> str:
        return hashlib.sha256(canonical_json(dict(self.fields))).hexdigest()

    @property
    def parts(self) -> tuple[Fingerprint, ...]:
        """The fingerprints of the encoders that a joined one is made of; that of another encoder alone."""
        joined = self.fields.get("parts")
        return (self,) if joined is None else tuple(map(Fingerprint, joined))

    def differences(self, other: Fingerprint) -> dict[str, tuple[Any, Any]]:
        """Return the fields that differ: {field: (mine, theirs)}, None if absent; those of a part after its number."""
        absent = object()
        mine, theirs = self._list_fields(), other._list_fields()
        differing = [
            name for name in sorted(set(mine) | set(theirs)) if mine.get(name, absent) != theirs.get(name, absent)
        ]
        return {name: (mine.get(name), theirs.get(name)) for name in differing}

    def _list_fields(self) -> dict[str, Any]:
        """Return the fields, those of the parts of a joined encoder by name: `part 2 model`."""
        fields = dict(self.fields)
        for number, part in enumerate(fields.pop("parts", ()), 1):
            fields.update({f"part {number} {name}": value for name, value in part.items()})
        return fields


def canonical_json(value: Any) -> bytes:
    """Serialise to canonical JSON, over which hashes are computed: sorted keys, no blanks, UTF-8.

    >>> canonical_json({"b": 1, "a": "é"}).decode()
    '{"a":"é","b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def dump_checksummed(fields: Mapping[str, Any]) -> bytes:
    """Serialise fields to canonical JSON and a newline, with `checksum`: the sha256 of their canonical JSON.

    >>> dump_checksummed({"a": 1})[:27]
    b'{"a":1,"checksum":"015abd7f'
    """
    checksum = hashlib.sha256(canonical_json(dict(fields))).hexdigest()
    return canonical_json({**fields, "checksum": checksum}) + b"\n"
