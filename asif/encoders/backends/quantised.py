"""Text encoders whose weights are an int8 model: onnxruntime runs the file of the package as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np

from asif.encoders.backends.export_cache import TOKENIZER_FILE
from asif.encoders.backends.runtime import Backend, find_version
from asif.encoders.embedded import QUANTISED_WEIGHTS, EmbeddedWeights
from asif.encoders.precision import Precision
from asif.encoders.protocol import TokenizedText
from asif.encoders.subword_tokenizer import SubwordTokenizer, stack_tokens
from asif.encoders.text_limits import has_english_vocabulary
from asif.errors import MissingDependency, UsageError
from asif.kernels.native_binding import count_threads
from asif.vectors import Fingerprint, Float32, Tokens

_TOKENIZER_SHA256 = "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66"
_MAX_TOKENS = 512


class QuantisedTextEncoder:
    """Encode texts with a BERT of int8 weights: the vector of a text is that of its first token.

    The model takes the scale by which it rounds a layer's inputs from all tokens of a call, so each text is a call of
    its own; several run at once. A call has one thread, so that a vector does not depend on how many there are. The
    products are exact on every processor: weights are from -64 to 64, so that the sum of two products, which x86
    without VNNI forms, fits into 16 bits.
    """

    def __init__(self, name: str, weights: EmbeddedWeights, tokenizer_sha256: str) -> None:
        from asif.encoders.backends import onnxruntime_

        model = weights.find()
        tokenizer = model.parent / TOKENIZER_FILE
        weights.check(tokenizer, tokenizer_sha256)
        self.spec = f"embedded:{name}"
        self.dim = weights.dim
        self._hashes = {"weights_sha256": weights.sha256, "tokenizer_sha256": tokenizer_sha256}
        self._tokenizer = SubwordTokenizer(tokenizer.read_text(encoding="utf-8"), _MAX_TOKENS)
        self._session = onnxruntime_.open_quantised_session(model)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """All that decides the vectors; like all below float32, it names what runs the model."""
        return Fingerprint(
            {
                "library": "onnxruntime",
                "model": self.spec.partition(":")[2],
                **self._hashes,
                "pooling": "cls",
                "max_tokens": _MAX_TOKENS,
                "prompt": "",
                "dtype": "int8",
                "backend": "onnx",
                "backend_version": find_version("onnx"),
                "inputs_per_pass": 1,
            }
        )

    @cached_property
    def is_english_only(self) -> bool:
        return has_english_vocabulary(self._tokenizer.vocabulary)

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Return the tokens that the model reads of each text, with its start and end marks."""
        return self._tokenizer.tokenize(texts)

    def forward(self, texts: Sequence[str]) -> Float32:
        """Run the model over texts: raw vectors [n, dim]."""
        first = self._run(texts, lambda states: states[0].copy())  # a copy: the states of all texts may be gigabytes
        return np.array(first, np.float32).reshape(-1, self.dim)

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Run the model over texts: its output for all tokens [n, t, dim], and `forward`'s vectors."""
        found = self._run(texts, lambda states: states)
        return Tokens.padded(found, np.array([states[0] for states in found], np.float32).reshape(-1, self.dim))

    def _run(self, texts: Sequence[str], take: Callable[[Float32], Float32]) -> list[Float32]:
        """Return what `take` takes of the token states [t, dim] of each text."""

        def run_one(text: TokenizedText) -> Float32:
            return take(self._session(stack_tokens([text]))[0])

        with ThreadPoolExecutor(count_threads()) as pool:
            return list(pool.map(run_one, self.tokenize(texts)))


def load_quantised_encoder(name: str, backend: Backend, precision: Precision) -> QuantisedTextEncoder:
    """Load an encoder of `QUANTISED_WEIGHTS`.

    Raises UsageError for another backend that was named, or another precision than that of the weights;
    MissingDependency without the package or onnxruntime, and IntegrityError for other files.
    """
    weights = QUANTISED_WEIGHTS[name]
    if backend not in ("auto", "onnx"):
        raise UsageError(
            f"the backend is {backend}, and the text encoder embedded:{name}, whose weights are int8",
            "onnx: onnxruntime alone runs them",
            "leave --backend out, or choose another text encoder",
        )
    if precision != "float32":
        raise UsageError(
            f"the precision is {precision}, and the text encoder embedded:{name}, whose weights are int8",
            "no precision",
            "leave --precision out, or choose another text encoder",
        )
    if find_version("onnx") is None:
        raise MissingDependency(
            "the package onnxruntime is not installed", f"what runs embedded:{name}", weights.install
        )
    return QuantisedTextEncoder(name, weights, _TOKENIZER_SHA256)
