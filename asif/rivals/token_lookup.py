"""Tokens of inputs by their vectors, or texts: where methods are given vectors, one of tokens finds what it reads."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset import EncodedSet, OpenAnchors
from asif.anchorset.tokens.pair_tokens import PairTokens
from asif.anchorset.tokens.token_rows import TokenRows
from asif.encoders import ImageEncoder, TextEncoder
from asif.engine.encoder_pool import EncoderPool
from asif.errors import UsageError
from asif.kernels import KernelName
from asif.rivals.freeze_align_tokens import FittedTokens
from asif.rivals.token_pairs import select_network_inputs
from asif.rivals.token_pool import encode_distinct
from asif.vectors import DenseRows, Embeddings, Float32, Int64, Side, Tokens

_INPUTS_READ = 64


@dataclass(frozen=True)
class _TokenPlace:
    """Name the tokens of one input: a row of some tokens; `noise` is the seed of noise that is added, and its share."""

    tokens: TokenRows | _TokenFile
    row: int
    noise: tuple[int, float] | None = None


class _TokenFile:
    """Write tokens to a file that is deleted when it is closed, and read rows of it."""

    def __init__(self, folder: Path | None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._places: list[tuple[int, int, int]] = []  # where each begins, tokens, dimensions
        self._pooled: list[Float32] = []

    def close(self) -> None:
        self._file.close()

    def append(self, tokens: TokenRows) -> Iterator[int]:
        """Write all rows; yields the number of each."""
        for row in range(len(tokens)):
            values = tokens[row]
            self._places.append((self._file.seek(0, 2), *values.shape))
            self._file.write(np.ascontiguousarray(values).tobytes())
            self._pooled.append(tokens.pooled[row].copy())
            yield len(self._places) - 1

    def read(self, rows: Sequence[int]) -> Tokens:
        """Read some rows, padded to the longest of them."""
        values = []
        for row in rows:
            start, count, dim = self._places[row]
            self._file.seek(start)
            values.append(np.frombuffer(self._file.read(2 * count * dim), "<f2").reshape(count, dim))
        return Tokens.padded(values, np.stack([self._pooled[row] for row in rows]))


class TokenLookup:
    """Find the tokens of embeddings: by their text where they have one, else by every bit of their vector.

    What `record` is given is written to a temporary file in `folder`, until the lookup is closed.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = _TokenFile(folder)
        self._by_vector: dict[Side, dict[bytes, _TokenPlace]] = {"image": {}, "text": {}}
        self._by_text: dict[str, _TokenPlace] = {}

    def __enter__(self) -> TokenLookup:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def record(self, side: Side, tokens: Tokens, texts: Sequence[str] | None = None) -> None:
        """Keep tokens under their unit vectors, or under their texts."""
        numbers = self._file.append(TokenRows.from_padded(tokens))
        once = Embeddings.from_raw(tokens.pooled).values
        twice = Embeddings.from_raw(once).values  # some callers normalise what is normalised
        for at, number in enumerate(numbers):
            place = _TokenPlace(self._file, number)
            if texts is not None:
                self._by_text.setdefault(texts[at], place)
                continue
            for vector in (once[at], twice[at]):
                self._by_vector[side].setdefault(vector.tobytes(), place)

    def add(self, side: Side, vectors: Float32, tokens: TokenRows, rows: Int64) -> None:
        """Name rows of tokens by vectors [n, d]."""
        for vector, row in zip(np.asarray(vectors, np.float32), rows.tolist(), strict=True):
            self._by_vector[side].setdefault(vector.tobytes(), _TokenPlace(tokens, row))

    def add_noisy(self, clean: Float32, noisy: Float32, seed: int, cosine: float) -> None:
        """Name the tokens of images [n, d] with noise by vectors with noise [n, d], see `_add_noise`."""
        places = self._by_vector["image"]
        for at, (before, after) in enumerate(zip(clean, noisy, strict=True)):
            place = places[before.tobytes()]
            places[after.tobytes()] = _TokenPlace(place.tokens, place.row, (seed * len(clean) + at, cosine))

    def find(self, side: Side, embeddings: Embeddings) -> list[list[_TokenPlace]]:
        """Return where the tokens of each embedding are: of several texts, those of each; raises UsageError."""
        texts = embeddings.texts if side == "text" else None
        found = []
        for row, vector in enumerate(embeddings.values):
            said = texts[row] if texts is not None else ()
            named = [self._by_text[text] for text in said if text in self._by_text]
            known = self._by_vector[side].get(vector.tobytes())
            if named and len(named) == len(said):
                found.append(named)
            elif known is not None:
                found.append([known])
            else:
                raise UsageError(
                    f"a vector of {side}s whose tokens are not known",
                    "vectors of the anchors, and of the data that were encoded for this comparison",
                    "leave freeze-align-tokens out",
                )
        return found

    def iter_inputs(self, side: Side, embeddings: Embeddings) -> Iterator[tuple[NDArray[Any], ...]]:
        """Yield the inputs of a network of one side for embeddings of one input each, some at a time."""
        places = [each[0] for each in self.find(side, embeddings)]
        for start in range(0, len(places), _INPUTS_READ):
            yield select_network_inputs(side, read_tokens(places[start : start + _INPUTS_READ]))


def read_tokens(places: Sequence[_TokenPlace]) -> Tokens:
    """Read the tokens at some places, padded to the longest."""
    read = [_add_noise(place.tokens.read([place.row]), place.noise) for place in places]
    return Tokens.padded([each.values[0] for each in read], np.concatenate([each.pooled for each in read]))


def _add_noise(tokens: Tokens, noise: tuple[int, float] | None) -> Tokens:
    """Add one direction to all tokens of an input, so that each has the given cosine to itself without, and its length.

    Were it drawn for each token, it would vanish in their mean.
    """
    if noise is None:
        return tokens
    random, cosine = np.random.default_rng(noise[0]), noise[1]

    def mix(values: Float32) -> Float32:
        direction = random.standard_normal(values.shape[-1])
        lengths = np.linalg.norm(values, axis=-1, keepdims=True) / np.linalg.norm(direction)
        return np.asarray(cosine * values + np.sqrt(1 - cosine**2) * lengths * direction, np.float32)

    return Tokens(mix(tokens.values), tokens.mask, mix(tokens.pooled))


@dataclass(frozen=True)
class FittedTokensByVector(FittedTokens):
    """Represent embeddings by the tokens that a lookup finds for them; a label's several prompts by their mean."""

    lookup: TokenLookup | None = None
    _made: dict[tuple[Side, bytes], DenseRows] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, fitted: FittedTokens, anchors: Mapping[Side, Float32], lookup: TokenLookup) -> FittedTokensByVector:
        """Return a trained projector with rows of anchors and a lookup."""
        return cls(fitted.aligner, fitted.dims, fitted.weights, anchors, lookup)

    def represent(self, side: Side, embeddings: Embeddings, engine: KernelName = "auto") -> DenseRows:
        """Project the tokens of embeddings; rows of the same embeddings are made once."""
        assert self.lookup is not None
        key = side, embeddings.values.tobytes()
        if key not in self._made:
            rows = [self._project(side, places) for places in self.lookup.find(side, embeddings)]
            self._made[key] = DenseRows(np.concatenate(rows))
        return self._made[key]

    def _project(self, side: Side, places: Sequence[_TokenPlace]) -> Float32:
        rows = np.concatenate([self.represent_tokens(side, read_tokens([place])).values for place in places])
        return rows if len(rows) == 1 else Embeddings.from_raw(rows.mean(axis=0)).values


class TokenRecordingPool(EncoderPool):
    """Load encoders as `EncoderPool` does, on torch, and record the tokens of all that they encode."""

    def __init__(self, pool: EncoderPool, lookup: TokenLookup) -> None:
        super().__init__(pool.folder, pool.device, "torch")
        self._lookup = lookup

    def load_image_encoder(self, stored: EncodedSet) -> ImageEncoder:
        return _RecordingEncoder(super().load_image_encoder(stored), self._lookup)

    def encode_texts(self, texts: Sequence[str], anchors: OpenAnchors) -> Embeddings:
        """Encode texts, equal ones once; vectors in the cache on disk have no tokens, so it is not used."""
        encoder: TextEncoder = self.load_text_encoder(anchors)

        def encode(some: Sequence[str]) -> Float32:
            tokens = encoder.tokens(some)
            self._lookup.record("text", tokens, some)
            return Embeddings.from_raw(tokens.pooled).values

        return encode_distinct(texts, encode)


@dataclass(frozen=True)
class _RecordingEncoder:
    """An encoder of images that records tokens."""

    inner: Any
    lookup: TokenLookup

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def forward(self, inputs: Sequence[Any]) -> Float32:
        """Compute vectors of prepared images, and record their tokens."""
        tokens: Tokens = self.inner.tokens(inputs)
        self.lookup.record("image", tokens)
        return tokens.pooled


def name_anchors(
    lookup: TokenLookup, tokens: PairTokens, text_rows: Sequence[Int64], images: Float32, texts: Float32
) -> None:
    """Let a lookup find the tokens of anchors by their vectors as stored [n, d]; `text_rows` are those of each."""
    firsts = np.array([rows[0] for rows in text_rows], np.int64)
    lookup.add("image", images, tokens.image, tokens.owners[firsts])
    lookup.add("text", texts, tokens.text, firsts)
