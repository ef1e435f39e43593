"""Image and text towers of open_clip, which share a space without anchors: a reference. A door to open_clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from asif.encoders.hub_access import open_hub
from asif.encoders.images import DECODER_VERSION, decode_image
from asif.encoders.precision import Precision
from asif.encoders.protocol import ImageSource, TokenizedText
from asif.encoders.text_limits import has_english_vocabulary
from asif.encoders.torch_common import MODEL_LOCK, Device, ForwardPasses, hash_weights
from asif.encoders.torch_placement import TorchPlacement, choose_placement
from asif.encoders.torch_transfer import finish_one_behind, make_transfer
from asif.errors import AsifError, MissingDependency, UsageError
from asif.vectors import Fingerprint, Float32, Tokens

if TYPE_CHECKING:
    import torch

_BATCH_SIZES = {"cpu": 4, "cuda": 32}
"""Images, or texts, per forward pass."""


class OpenClipTower:
    """Run one side of a frozen open_clip model, in float32 or by autocast.

    A vector does not depend on the other inputs of a call: every forward pass has the same shape, the last one padded
    with repetitions, because matrix products of other sizes are summed in another order.
    """

    def __init__(
        self, name: str, model: Any, dim: int, device: Literal["cpu", "cuda"], precision: Precision = "float32"
    ) -> None:
        self.spec = f"open-clip:{name}"
        self.dim = dim
        self._placement = TorchPlacement(device, precision)
        self._transfer = make_transfer(device)
        size = _BATCH_SIZES[device]
        self._passes = ForwardPasses(size, least=1 if self._placement.is_exact else size)
        self._weights = hash_weights(model)
        self._model = model.eval().to(device)

    @property
    def batch(self) -> int:
        """Return how many inputs one call takes at best: those of one pass, of several on a CUDA device."""
        return self._passes.size * self._placement.passes_per_call

    def _make_fingerprint(self, **fields: Any) -> Fingerprint:
        """Return the fingerprint with the fields of one side."""
        return Fingerprint(
            {
                "library": "open_clip",
                "model": self.spec.partition(":")[2],
                "weights_sha256": self._weights,
                **fields,
                **self._placement.describe(inputs_per_pass=self._passes.size),
            }
        )

    def run_model(self, encode: Any, inputs: Sequence[torch.Tensor]) -> Float32:
        """Run the model over inputs of one shape, in batches: raw vectors [n, dim]."""

        def start(batch: list[torch.Tensor]) -> Callable[[], Float32]:
            return self._transfer.download(encode(self._transfer.upload(batch)))

        out = np.empty((len(inputs), self.dim), np.float32)
        with MODEL_LOCK, self._placement.settings():
            for rows, vectors in finish_one_behind(self._passes.run(inputs, start)):
                out[rows] = vectors[: rows.stop - rows.start]
        return out

    def tokens(self, inputs: Sequence[Any]) -> Tokens:
        """Raise UsageError: reference towers give vectors only."""
        raise UsageError(
            f"the tokens of {self.spec}", "an encoder of timm or sentence-transformers", "use one of these encoders"
        )


class OpenClipImages(OpenClipTower):
    """Encode images with the image tower; preprocessing is the model's own."""

    def __init__(
        self,
        name: str,
        model: Any,
        transform: Any,
        dim: int,
        device: Literal["cpu", "cuda"],
        precision: Precision = "float32",
    ) -> None:
        self._transform = transform
        self._config = {key: _as_json(value) for key, value in model.visual.preprocess_cfg.items()}
        super().__init__(name, model.visual, dim, device, precision)
        self.fingerprint = self._make_fingerprint(side="image", preprocessing=self._config, decoder=DECODER_VERSION)

    def prepare(self, source: ImageSource) -> torch.Tensor:
        """Decode one image and apply the model's own evaluation transform: [3, h, w]."""
        tensor: torch.Tensor = self._transform(decode_image(source))
        return tensor

    def forward(self, prepared: Sequence[torch.Tensor]) -> Float32:
        """Run the tower over prepared images: raw vectors [n, dim]."""
        return self.run_model(self._model, prepared)


class OpenClipTexts(OpenClipTower):
    """Encode texts with the text tower; texts longer than its context are truncated."""

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        dim: int,
        device: Literal["cpu", "cuda"],
        precision: Precision = "float32",
    ) -> None:
        model.visual = None  # the image tower is neither run nor hashed
        self._tokenizer = tokenizer
        super().__init__(name, model, dim, device, precision)
        named = {"class": type(tokenizer).__name__, "context": int(tokenizer.context_length)}
        self.fingerprint = self._make_fingerprint(side="text", tokenizer=named)

    @cached_property
    def is_english_only(self) -> bool:
        wrapped = getattr(self._tokenizer, "tokenizer", None)  # of transformers; open_clip's own has an `encoder`
        return has_english_vocabulary(self._tokenizer.encoder if wrapped is None else wrapped.get_vocab())

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Return the tokens that the model reads of each text; with room for one more, a cut text has other ones."""
        context = int(self._tokenizer.context_length)
        with MODEL_LOCK:
            more, read = (self._tokenizer(list(texts), most).tolist() for most in (context + 1, context))
        return [TokenizedText(tuple(ids), is_cut=full[:context] != ids) for full, ids in zip(more, read, strict=True)]

    def forward(self, texts: Sequence[str]) -> Float32:
        """Run the tower over texts: raw vectors [n, dim]."""
        with MODEL_LOCK:  # like models, tokenizers are not thread-safe
            tokens = list(self._tokenizer(list(texts))) if texts else []
        return self.run_model(self._model.encode_text, tokens)


def load_image_tower(name: str, device: Device, precision: Precision = "float32") -> OpenClipImages:
    """Load the image tower of `<model>/<pretrained>`."""
    library, where = _import_open_clip(), choose_placement(device, precision).device
    model, transform, dim = _create_model(library, name)
    return OpenClipImages(name, model, transform, dim, where, precision)


def load_text_tower(name: str, device: Device, precision: Precision = "float32") -> OpenClipTexts:
    """Load the text tower of `<model>/<pretrained>`."""
    library, where = _import_open_clip(), choose_placement(device, precision).device
    model, _, dim = _create_model(library, name)
    return OpenClipTexts(name, model, library.get_tokenizer(name.partition("/")[0]), dim, where, precision)


def _create_model(library: Any, name: str) -> tuple[Any, Any, int]:
    """Create a pretrained model, its weights from the cache, the hub or a file; returns its transform and dimension."""
    model, _, pretrained = name.partition("/")
    try:
        with open_hub(pretrained):
            made, transform = library.create_model_from_pretrained(model, pretrained=pretrained, weights_only=True)
        return made, transform, int(library.get_model_config(model)["embed_dim"])
    except Exception as error:  # the library and the hub client have no common error; all of them mean "not loaded"
        raise AsifError(
            f"open_clip could not load {name!r}: {(str(error) or type(error).__name__).splitlines()[0]}",
            "a model and weights of open_clip.list_pretrained(), in the local cache or on a hub that can be reached",
            "check both names and the network",
        ) from error


def _as_json(value: Any) -> Any:
    """Return a value as it is after JSON."""
    return list(value) if isinstance(value, tuple) else value


def _import_open_clip() -> Any:
    """Import open_clip, or raise MissingDependency."""
    try:
        import open_clip
    except ImportError as error:
        raise MissingDependency(
            f"open_clip cannot be imported ({error})",
            "the package open_clip_torch",
            "pip install 'asif-engine[open-clip]'",
        ) from error
    return open_clip
