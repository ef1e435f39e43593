"""The placeholder for the encoder of precomputed vectors: it has a dimension, but cannot encode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from asif.encoders.protocol import ImageSource
from asif.errors import UsageError
from asif.modality import FIELD, name_one
from asif.vectors import Fingerprint, Float32, Side, Tokens


@dataclass(frozen=True)
class PrecomputedEncoder:
    """Represent the unknown encoder of precomputed vectors of one side; `modality` is what they are of, if not `side`.

    >>> PrecomputedEncoder("text", 4).forward(["a dog"])
    Traceback (most recent call last):
        ...
    asif.errors.UsageError: a text to encode, with an anchor set of precomputed vectors
      expected: text vectors [n, 4] from the encoder that made the anchors
      to do:    encode it yourself and pass the vectors (.npy)
    """

    side: Side
    dim: int
    batch: int = 4096
    spec: str = "precomputed"
    modality: str | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        fields = {"library": "precomputed", "side": self.side, "dim": self.dim}
        return Fingerprint(fields if self._modality == self.side else {**fields, FIELD: self._modality})

    @property
    def _modality(self) -> str:
        return self.modality or self.side

    def prepare(self, source: ImageSource) -> NoReturn:
        """Raise UsageError: there is no model."""
        self._refuse()

    def forward(self, inputs: Sequence[Any]) -> Float32:
        """Raise UsageError: there is no model."""
        self._refuse()

    @property
    def is_english_only(self) -> bool:
        """Return False: nothing is known of the encoder."""
        return False

    def tokenize(self, inputs: Sequence[Any]) -> NoReturn:
        """Raise UsageError: there is no model."""
        self._refuse()

    def tokens(self, inputs: Sequence[Any]) -> Tokens:
        """Raise UsageError: there is no model."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UsageError(
            f"{name_one(self._modality)} to encode, with an anchor set of precomputed vectors",
            f"{self._modality} vectors [n, {self.dim}] from the encoder that made the anchors",
            "encode it yourself and pass the vectors (.npy)",
        )
