"""Joined encoders: one vector of the unit vectors of several frozen encoders, each a block of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Generic, NoReturn, TypeVar

import numpy as np

from asif.encoders.backends.probe import RUN_FIELDS
from asif.encoders.images import decode_pixels
from asif.encoders.protocol import ClassifierHead, ImageEncoder, ImageSource, TextEncoder, TokenizedText
from asif.encoders.spec import join_specs
from asif.errors import InputRefused, UsageError
from asif.vectors import Fingerprint, Float32, Tokens, find_vector_problems, normalise_rows

Part = TypeVar("Part", ImageEncoder, TextEncoder)

_BETWEEN_PARTS = -1
"""No token id: stands between the ids that two parts read of a text."""


@dataclass(frozen=True)
class PreparedParts:
    """Hold one image as each part reads it."""

    parts: tuple[Any, ...]

    @property
    def nbytes(self) -> int:
        return sum(int(getattr(part, "nbytes", 0)) for part in self.parts)


class JoinedEncoder(Generic[Part]):
    """Join encoders of one side: the vector of each part, of length 1/√parts, is a block of the joined vector.

    The cosine of two joined vectors of single inputs so is the mean of the cosines by part.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts: tuple[Part, ...] = tuple(parts)
        self.spec = join_specs(part.spec for part in parts)
        self.dim = sum(part.dim for part in parts)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """All that decides the vectors of each part, the size of each, and how they are run."""
        return join_fingerprints([(part.fingerprint, part.dim) for part in self.parts])

    def tokens(self, inputs: Sequence[Any]) -> Tokens:
        """Raise UsageError: the parts have different tokens."""
        self._refuse_tokens()

    def _refuse_tokens(self) -> NoReturn:
        raise UsageError(
            f"token features of {self.spec}, whose parts have different tokens",
            "one encoder",
            "name one of its parts alone",
        )


class JoinedImageEncoder(JoinedEncoder[ImageEncoder]):
    """Encode images with several encoders; each image is decoded once."""

    @property
    def batch(self) -> int:
        """Return how many images one call takes at best: the most that a part does."""
        return max(part.batch for part in self.parts)

    def prepare(self, source: ImageSource) -> PreparedParts:
        """Decode one image, and preprocess it as each part does."""
        pixels: Any = decode_pixels(source)
        return PreparedParts(tuple(part.prepare(pixels) for part in self.parts))

    def forward(self, prepared: Sequence[PreparedParts]) -> Float32:
        """Run all parts over prepared images: [n, dim]."""
        inputs = zip(*(image.parts for image in prepared), strict=True) if prepared else [[]] * len(self.parts)
        return join_vectors([part.forward(list(images)) for part, images in zip(self.parts, inputs, strict=True)])


class JoinedTextEncoder(JoinedEncoder[TextEncoder]):
    """Encode texts with several encoders."""

    @cached_property
    def is_english_only(self) -> bool:
        return all(part.is_english_only for part in self.parts)

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Return what all parts read of each text, part after part; a text is cut if one of them cuts it."""
        read = zip(*(part.tokenize(texts) for part in self.parts), strict=True)
        return [_join_tokenized(by_part) for by_part in read]

    def forward(self, texts: Sequence[str]) -> Float32:
        """Run all parts over texts: [n, dim]."""
        return join_vectors([part.forward(texts) for part in self.parts])


def join_fingerprints(parts: Sequence[tuple[Fingerprint, int]]) -> Fingerprint:
    """Return the fingerprint of a join of encoders, each with its dimension.

    Its `parts` say which models they are, `dims` where each one's block is, and its other fields how all are run.
    """
    fields = [fingerprint.fields for fingerprint, _ in parts]
    models = [{name: value for name, value in each.items() if name not in RUN_FIELDS} for each in fields]
    dims = [dim for _, dim in parts]
    return Fingerprint({"library": "joined", "parts": models, "dims": dims, **_describe_runs(fields)})


def join_vectors(parts: Sequence[Float32]) -> Float32:
    """Join raw vectors [n, d] of the same inputs by several encoders: [n, sum of d], each part of length 1/√parts.

    A row is zero if one of its parts is, and NaN if one of its parts is not finite.

    >>> join_vectors([np.array([[3.0, 4.0]], np.float32), np.array([[2.0]], np.float32)]).round(3).tolist()
    [[0.42399999499320984, 0.5659999847412109, 0.7070000171661377]]
    """
    rows: Float32 = np.concatenate([_normalise_usable(part) for part in parts], axis=1)
    rows /= np.float32(math.sqrt(len(parts)))
    for part in parts:
        for row, problem in find_vector_problems(part).items():
            rows[row] = 0 if problem == "zero" and np.isfinite(rows[row]).all() else np.nan
    return rows


def _normalise_usable(rows: Float32) -> Float32:
    """Scale rows to unit length; those that cannot be used stay as they are."""
    unusable = list(find_vector_problems(rows))
    usable = rows.copy()
    usable[unusable] = 1
    units = normalise_rows(usable)
    units[unusable] = rows[unusable]
    return units


def join_heads(parts: Sequence[tuple[str, ClassifierHead]]) -> ClassifierHead:
    """Join the prototypes of each class in the heads of several classifiers {name: head}, as their vectors are joined.

    Raises InputRefused for classifiers of other classes.
    """
    (first_name, first), *others = parts
    for name, head in others:
        if head.ids != first.ids:
            raise InputRefused(
                f"{first_name} has {len(first.ids):,} classes, {name} {len(head.ids):,}"
                + (" others" if len(first.ids) == len(head.ids) else ""),
                "classifiers of the same classes in the same order",
                "join encoders with heads of the same classes, or build anchors from pairs",
            )
    prototypes = join_vectors([head.prototypes for _, head in parts])
    return ClassifierHead(prototypes, first.ids, first.names, first.definitions)


def _join_tokenized(by_part: Sequence[TokenizedText]) -> TokenizedText:
    """Join what the parts read of one text."""
    ids = chain.from_iterable((_BETWEEN_PARTS, *read.ids) for read in by_part)
    return TokenizedText(tuple(ids)[1:], is_cut=any(read.is_cut for read in by_part))


def _describe_runs(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields that say how the parts are run: one value if it holds for all that have one, else a list.

    Different backends are joined by `+`, one for each part: `split_backend` reads that.
    """
    found: dict[str, Any] = {}
    for name in sorted(RUN_FIELDS):
        values = [fields[name] for fields in parts if name in fields]
        if values:
            found[name] = values[0] if all(value == values[0] for value in values) else values
    if isinstance(found.get("backend"), list):
        found["backend"] = "+".join(str(fields.get("backend", "torch")) for fields in parts)
    return found


def split_backend(backend: str, parts: int) -> list[str]:
    """Return the backend of each part of a joined encoder: one for all, or those that its fingerprint names.

    >>> split_backend("auto", 2), split_backend("openvino+torch", 2)
    (['auto', 'auto'], ['openvino', 'torch'])
    """
    named = backend.split("+")
    return named if len(named) == parts else [backend] * parts
