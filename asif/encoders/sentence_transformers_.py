"""Text encoders from sentence-transformers. The door to it."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from asif.encoders.backends.export_cache import MODEL_FILE, TOKENIZER_FILE
from asif.encoders.backends.torch_export import NotExportableError, write_onnx
from asif.encoders.hub_access import open_hub
from asif.encoders.precision import Precision
from asif.encoders.protocol import TokenizedText
from asif.encoders.subword_tokenizer import serialise_tokenizer
from asif.encoders.text_limits import has_english_vocabulary
from asif.encoders.torch_common import MODEL_LOCK, Device, ForwardPasses, hash_weights
from asif.encoders.torch_placement import TorchPlacement, choose_placement
from asif.encoders.torch_transfer import finish_one_behind, make_transfer
from asif.errors import AsifError, MissingDependency, UsageError
from asif.vectors import Fingerprint, Float32, Tokens

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

R = TypeVar("R")

_TOKENS_PER_PASS = {"cpu": 256, "cuda": 16384}
"""Tokens per forward pass: on the CPU, more are not faster."""

_EXPORTED_MODULES = ("Transformer", "Pooling", "Normalize", "Dense")

_POOLING_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""Modes of sentence-transformers 6 and the flags of version 5, in the order in which 5 concatenates them."""


class SentenceTransformersEncoder:
    """Encode texts with a frozen sentence-transformers model, in float32 or by autocast.

    A vector does not depend on the other texts of a call: texts are batched by equal token count, so that no text is
    padded, and for each count every forward pass has the same shape, the last one padded with repetitions, because
    matrix products of other sizes are summed in another order.
    """

    def __init__(
        self, spec: str, model: SentenceTransformer, device: Literal["cpu", "cuda"], precision: Precision = "float32"
    ) -> None:
        self.spec = spec
        self._placement = TorchPlacement(device, precision)
        self._transfer = make_transfer(device)
        self._model = model.eval()
        self._tokens = _TOKENS_PER_PASS[device]
        self._passes: dict[int, ForwardPasses] = {}  # by number of tokens
        self._longest = model.max_seq_length or 512
        self.dim = len(model.encode(["a"], show_progress_bar=False)[0])

    @cached_property
    def fingerprint(self) -> Fingerprint:
        modules = [type(module).__name__ for module in self._model]
        return Fingerprint(
            {
                "library": "sentence-transformers",
                "model": self.spec.partition(":")[2],
                # sentence-transformers 6 renamed a module that 5 calls auto_model
                "weights_sha256": hash_weights(self._model, lambda key: key.replace(".auto_model.", ".model.")),
                "modules": modules,
                "pooling": [describe_pooling(module) for module in self._model if type(module).__name__ == "Pooling"],
                "max_tokens": self._longest,
                "prompt": self._model.prompts.get(self._model.default_prompt_name or "", ""),
                **self._placement.describe(tokens_per_pass=self._tokens),
            }
        )

    @cached_property
    def is_english_only(self) -> bool:
        return has_english_vocabulary(self._model.tokenizer.get_vocab())

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Return the tokens that the model reads of each text, with its prompt and its start and end marks."""
        prompt = str(self.fingerprint.fields["prompt"])
        with MODEL_LOCK:
            more, read = (
                self._model.tokenizer([prompt + text for text in texts], truncation=True, max_length=most)["input_ids"]
                for most in (self._longest + 1, self._longest)
            )
        return [TokenizedText(tuple(ids), is_cut=len(full) > len(ids)) for full, ids in zip(more, read, strict=True)]

    def forward(self, texts: Sequence[str]) -> Float32:
        """Run the model over texts: raw vectors [n, dim]."""

        def start(batch: list[str]) -> Callable[[], Float32]:
            return self._transfer.download(
                self._model.encode(batch, batch_size=len(batch), show_progress_bar=False, convert_to_tensor=True)
            )

        out = np.empty((len(texts), self.dim), np.float32)
        with MODEL_LOCK, self._placement.settings():  # like models, tokenizers are not thread-safe
            for rows, vectors in finish_one_behind(self._run_passes(texts, start)):
                out[rows] = vectors[: len(rows)]
        return out

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Run the model over texts: the transformer's output [n, t, d], and `forward`'s vectors.

        Includes all tokens that the model attends to, with its start and end marks. Raises UsageError for a
        model without token features.
        """

        def run(batch: list[str]) -> Any:
            return self._model.encode(batch, batch_size=len(batch), show_progress_bar=False, output_value=None)

        pooled = np.empty((len(texts), self.dim), np.float32)
        found: list[Float32] = [np.empty((0, 0), np.float32)] * len(texts)
        with MODEL_LOCK, self._placement.settings():
            for rows, outputs in self._run_passes(texts, run):
                for row, output in zip(rows, outputs, strict=False):  # padding of the batch is left over
                    found[row] = self._token_features(output)
                    pooled[row] = output["sentence_embedding"].float().cpu().numpy()
        return Tokens.padded(found, pooled)

    def write_export(self, folder: Path, keep_weights: bool = False) -> dict[str, Any]:
        """Export tokenizer and model, from token ids [n, t] to vectors; raises NotExportableError.

        `keep_weights` is that of `write_onnx`.
        """
        import torch

        others = [type(module).__name__ for module in self._model if type(module).__name__ not in _EXPORTED_MODULES]
        if others:
            raise NotExportableError(f"it has a module {others[0]}, not only {', '.join(_EXPORTED_MODULES)}")
        if set(getattr(self._model[0], "modality_config", None) or ("text",)) != {"text"}:
            raise NotExportableError("it reads more than plain texts")
        if any(not pooling["include_prompt"] for pooling in self.fingerprint.fields["pooling"]):
            raise NotExportableError("it leaves its prompt out of the mean of the tokens")
        try:
            content = serialise_tokenizer(self._model.tokenizer)
        except UsageError as error:
            raise NotExportableError(error.came) from error
        (folder / TOKENIZER_FILE).write_text(content, encoding="utf-8")
        model = _make_chain(self._model, "token_type_ids" in self._model.tokenizer.model_input_names)
        example = torch.ones(2, 9, dtype=torch.int64)
        write_onnx(model.to("cpu"), example, folder / MODEL_FILE, {0: "texts", 1: "tokens"}, keep_weights)
        strips = not hasattr(self._model[0], "preprocess")  # up to 5.3 it changes texts before it tokenises them
        lowercases = strips and bool(getattr(self._model[0], "do_lower_case", False))
        return {"is_english_only": self.is_english_only, "strip": strips, "lowercase": lowercases}

    def _token_features(self, output: Mapping[str, Any]) -> Float32:
        if "token_embeddings" not in output or "attention_mask" not in output:
            raise UsageError(
                f"{self.spec} gives no token features, only {', '.join(sorted(output))}",
                "a text model with a transformer in it",
                "choose another text encoder, or do without tokens",
            )
        values: Float32 = output["token_embeddings"][output["attention_mask"].bool()].float().cpu().numpy()
        return values

    def _run_passes(self, texts: Sequence[str], run: Callable[[list[str]], R]) -> Iterator[tuple[list[int], R]]:
        """Yield (rows, `run`'s result) for batches of texts of equal token count; padding comes after the rows."""
        for length, rows in self._by_length(texts).items():
            size = max(2, self._tokens // length)
            least = 2 if self._placement.is_exact else size
            passes = self._passes.setdefault(length, ForwardPasses(size, least))
            for some, result in passes.run([texts[row] for row in rows], run):
                yield rows[some], result

    def _by_length(self, texts: Sequence[str]) -> dict[int, list[int]]:
        """Group rows by their number of tokens."""
        groups: dict[int, list[int]] = defaultdict(list)
        if not texts:
            return {}
        tokens = self._model.tokenizer(list(texts), truncation=True, max_length=self._longest)["input_ids"]
        for row, ids in enumerate(tokens):
            groups[len(ids)].append(row)
        return dict(sorted(groups.items()))


def _make_chain(modules: SentenceTransformer, has_token_types: bool) -> torch.nn.Module:
    """Return one module from token ids [n, t] of texts without padding to vectors [n, dim]."""
    import torch

    class Chain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ModuleList(copy.deepcopy(list(modules)))

        def forward(self, ids: torch.Tensor) -> Any:
            features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            if has_token_types:
                features["token_type_ids"] = torch.zeros_like(ids)
            for part in self.parts:
                features = part(features)
            return features["sentence_embedding"]

    return Chain()


def describe_pooling(pooling: Any) -> dict[str, Any]:
    """Describe how token vectors are pooled, equally for sentence-transformers 5 and 6."""
    found: dict[str, Any] = pooling.get_config_dict()
    modes = found.get("pooling_mode") or [mode for mode, flag in _POOLING_FLAGS.items() if found.get(flag)]
    listed = [modes] if isinstance(modes, str) else list(modes)
    return {"modes": listed, "include_prompt": bool(found.get("include_prompt", True))}


def load_sentence_encoder(
    name: str, device: Device, folder: Path | None = None, precision: Precision = "float32"
) -> SentenceTransformersEncoder:
    """Load a model: `id[@revision]` from the cache, the hub or a local folder; the embedded one from `folder`."""
    library = import_sentence_transformers()
    model, _, revision = name.partition("@")
    where = choose_placement(device, precision).device
    try:
        if folder is not None:
            loaded = library.SentenceTransformer(str(folder), device=where, local_files_only=True)
            return SentenceTransformersEncoder(f"embedded:{name}", loaded, where, precision)
        with open_hub(model):
            loaded = library.SentenceTransformer(model, revision=revision or None, device=where)
    except Exception as error:  # the library and the hub client have no common error; all of them mean "not loaded"
        raise AsifError(
            f"sentence-transformers could not load {name!r}: {(str(error) or type(error).__name__).splitlines()[0]}",
            "a model in the local cache or on a hub that can be reached",
            "check the name and the network, or use embedded:all-minilm-l6-v2, which needs none",
        ) from error
    return SentenceTransformersEncoder(f"sentence-transformers:{name}", loaded, where, precision)


def import_sentence_transformers() -> Any:
    """Import sentence-transformers, or raise MissingDependency; silences its progress bars."""
    try:
        import sentence_transformers
        from transformers.utils import logging
    except ImportError as error:
        raise MissingDependency(
            f"sentence-transformers cannot be imported ({error})",
            "sentence-transformers",
            "pip install sentence-transformers",
        ) from error
    logging.disable_progress_bar()
    return sentence_transformers
