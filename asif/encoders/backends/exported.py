"""Encoders whose exported model runs in onnxruntime or OpenVINO: they need neither torch nor its libraries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, NoReturn

import numpy as np

from asif.encoders.backends.export_cache import Export
from asif.encoders.backends.runtime import Runtime, find_version, open_session, run_in_passes
from asif.encoders.eval_transform import EvalTransform
from asif.encoders.images import decode_image
from asif.encoders.precision import Precision
from asif.encoders.protocol import ImageSource, TokenizedText
from asif.encoders.subword_tokenizer import SubwordTokenizer
from asif.errors import UsageError
from asif.vectors import Fingerprint, Float32, Tokens

_IMAGES_PER_PASS = 4
_TOKENS_PER_PASS = 128
"""Inputs of a forward pass: more are hardly faster on the CPU, and one alone takes as long as all."""


class ExportedEncoder:
    """Run the export of a frozen encoder; its fingerprint names the backend, its version and the export."""

    inputs_per_pass: ClassVar[Mapping[str, int]]
    """The fixed size of forward passes; below float32 a field of the fingerprint."""

    def __init__(self, export: Export, runtime: Runtime, precision: Precision = "float32") -> None:
        self.spec = export.record.spec
        self.dim = export.record.dim
        self.export = export
        self.runtime = runtime
        self.precision = precision
        self._session = open_session(runtime, export.model, precision)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(
            {
                **self.export.record.fingerprint,
                "backend": self.runtime,
                "backend_version": find_version(self.runtime),
                "export_sha256": self.export.sha256,
                **({} if self.precision == "float32" else {"dtype": self.precision, **self.inputs_per_pass}),
            }
        )

    def tokens(self, inputs: Sequence[Any]) -> Tokens:
        """Raise UsageError: an export gives vectors only."""
        self._refuse_tokens()

    def _refuse_tokens(self) -> NoReturn:
        raise UsageError(
            f"token features of {self.spec}, which runs in {self.runtime}",
            "the model itself: an export gives vectors only",
            "pass --backend torch",
        )


class ExportedImageEncoder(ExportedEncoder):
    """Encode images with an exported timm model."""

    batch = _IMAGES_PER_PASS
    inputs_per_pass: ClassVar[Mapping[str, int]] = {"images_per_pass": _IMAGES_PER_PASS}

    def __init__(self, export: Export, runtime: Runtime, precision: Precision = "float32") -> None:
        super().__init__(export, runtime, precision)
        transform = EvalTransform.from_config(export.record.fingerprint["preprocessing"])
        if transform is None:
            raise ValueError(f"the transform of {self.spec} is not covered")
        self._transform = transform

    def prepare(self, source: ImageSource) -> Float32:
        """Decode one image and apply the evaluation transform of its model: [3, h, w]."""
        return self._transform.apply(decode_image(source))

    def forward(self, prepared: Sequence[Float32]) -> Float32:
        """Run the model over prepared images in passes: raw vectors [n, dim]."""
        if not prepared:
            return np.empty((0, self.dim), np.float32)
        return run_in_passes(prepared, _IMAGES_PER_PASS, self._session)


class ExportedTextEncoder(ExportedEncoder):
    """Encode texts with an exported sentence-transformers model.

    Texts are batched by their number of tokens, so that none is padded.
    """

    inputs_per_pass: ClassVar[Mapping[str, int]] = {"tokens_per_pass": _TOKENS_PER_PASS}

    def __init__(self, export: Export, runtime: Runtime, precision: Precision = "float32") -> None:
        super().__init__(export, runtime, precision)
        fields, settings = export.record.fingerprint, export.record.settings
        self.is_english_only = bool(settings["is_english_only"])
        self._tokenizer = SubwordTokenizer(
            export.tokenizer.read_text(encoding="utf-8"),
            fields["max_tokens"],
            fields["prompt"],
            strip=settings["strip"],
            lowercase=settings["lowercase"],
        )

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Return the tokens that the model reads of each text, with its prompt and its start and end marks."""
        return self._tokenizer.tokenize(texts)

    def forward(self, texts: Sequence[str]) -> Float32:
        """Run the model over texts in passes: raw vectors [n, dim]."""
        out = np.empty((len(texts), self.dim), np.float32)
        ids = [np.array(text.ids, np.int64) for text in self.tokenize(texts)]
        rows_by_length: dict[int, list[int]] = defaultdict(list)
        for row, found in enumerate(ids):
            rows_by_length[len(found)].append(row)
        for length, rows in sorted(rows_by_length.items()):
            size = max(2, _TOKENS_PER_PASS // length)
            out[rows] = run_in_passes([ids[row] for row in rows], size, self._session)
        return out
