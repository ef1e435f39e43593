"""Image encoders from timm, and the class prototypes in their classifier heads. The door to timm."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from asif.encoders.backends.export_cache import MODEL_FILE
from asif.encoders.backends.torch_export import NotExportableError, write_onnx
from asif.encoders.eval_transform import EvalTransform
from asif.encoders.hub_access import open_hub
from asif.encoders.images import DECODER_VERSION, decode_image
from asif.encoders.precision import Precision
from asif.encoders.protocol import ClassifierHead, ImageSource
from asif.encoders.timm_files import SUBSETS, read_imagenet_classes
from asif.encoders.torch_common import MODEL_LOCK, Device, ForwardPasses, hash_weights
from asif.encoders.torch_placement import TorchPlacement, choose_placement
from asif.encoders.torch_transfer import finish_one_behind, make_transfer
from asif.errors import AsifError, InputRefused, MissingDependency, UsageError
from asif.vectors import Fingerprint, Float32, Tokens

if TYPE_CHECKING:
    import torch


class TimmEncoder:
    """Encode images with a frozen timm model without its head, channels-last, in float32 or by autocast.

    A vector does not depend on the other images of a call: every forward pass has the same shape, the last one padded
    with repetitions, because convolutions of other batch sizes are summed in another order.
    """

    def __init__(
        self, spec: str, model: torch.nn.Module, device: Literal["cpu", "cuda"], precision: Precision = "float32"
    ) -> None:
        import torch

        data = import_timm().data
        self.spec = spec
        self._config: dict[str, Any] = data.resolve_model_data_config(model)
        self._transform = data.create_transform(**self._config, is_training=False)
        self._placement = TorchPlacement(device, precision)
        self._transfer = make_transfer(device)
        self._weights = hash_weights(model)
        self._model: Any = model.eval().to(device).to(memory_format=torch.channels_last)
        self.dim = int(getattr(model, "head_hidden_size", None) or model.num_features)  # type: ignore[arg-type]
        _, height, width = self._config["input_size"]
        size = self._placement.choose_images_per_pass(height * width)
        self._passes = ForwardPasses(size, least=1 if self._placement.is_exact else size)

    @property
    def batch(self) -> int:
        """Return how many images one call takes at best: those of one pass, of several on a CUDA device."""
        return self._passes.size * self._placement.passes_per_call

    @cached_property
    def fingerprint(self) -> Fingerprint:
        config = {key: list(value) if isinstance(value, tuple) else value for key, value in self._config.items()}
        return Fingerprint(
            {
                "library": "timm",
                "model": self.spec.partition(":")[2],
                "weights_sha256": self._weights,
                "preprocessing": config,
                "decoder": DECODER_VERSION,
                "pooling": "pre-logits",
                **self._placement.describe(images_per_pass=self._passes.size),
            }
        )

    def prepare(self, source: ImageSource) -> torch.Tensor:
        """Decode one image and apply timm's own evaluation transform: [3, h, w]."""
        tensor: torch.Tensor = self._transform(decode_image(source))
        return tensor

    def forward(self, prepared: Sequence[torch.Tensor]) -> Float32:
        """Run the model over prepared images in batches: raw vectors [n, dim]."""

        def start(batch: list[torch.Tensor]) -> Callable[[], Float32]:
            return self._transfer.download(self._model(self._stacked(batch)))

        out = np.empty((len(prepared), self.dim), np.float32)
        with MODEL_LOCK, self._placement.settings():
            for rows, vectors in finish_one_behind(self._passes.run(prepared, start)):
                out[rows] = vectors[: rows.stop - rows.start]
        return out

    def tokens(self, prepared: Sequence[torch.Tensor]) -> Tokens:
        """Run the model over prepared images in batches: patches [n, t, d] in reading order, and `forward`'s vectors.

        Class and register tokens are left out. Raises UsageError for a model that has no patches.
        """

        def run(batch: list[torch.Tensor]) -> tuple[Float32, Float32]:
            features = self._model.forward_features(self._stacked(batch))
            patches = (
                select_patches(self._model, features, self.spec).float().cpu().numpy().copy()
            )  # a head may overwrite
            return patches, self._model.forward_head(features).float().cpu().numpy()

        pooled = np.empty((len(prepared), self.dim), np.float32)
        values = np.empty((len(prepared), 0, 0), np.float32)
        with MODEL_LOCK, self._placement.settings():
            for rows, (patches, vectors) in self._passes.run(prepared, run):
                if not values.size:
                    values = np.empty((len(prepared), *patches.shape[1:]), np.float32)
                values[rows], pooled[rows] = patches[: rows.stop - rows.start], vectors[: rows.stop - rows.start]
        return Tokens(values, np.ones(values.shape[:2], bool), pooled)

    def write_export(self, folder: Path, keep_weights: bool = False) -> dict[str, Any]:
        """Export the model, from prepared images [n, 3, h, w] to vectors; raises NotExportableError.

        `keep_weights` is that of `write_onnx`.
        """
        import torch

        if EvalTransform.from_config(self._config) is None:
            raise NotExportableError("its images are preprocessed by timm alone")
        model = copy.deepcopy(self._model).to("cpu", memory_format=torch.contiguous_format)
        write_onnx(model, torch.zeros(2, *self._config["input_size"]), folder / MODEL_FILE, {0: "images"}, keep_weights)
        return {}

    def _stacked(self, batch: list[torch.Tensor]) -> torch.Tensor:
        import torch

        return self._transfer.upload(batch).to(memory_format=torch.channels_last)


def select_patches(model: Any, features: Any, spec: str) -> torch.Tensor:
    """Return the patches [b, t, d] of the features of a timm model: of a sequence or of a map.

    Raises UsageError if it is neither, or holds a class token alone.
    """
    shape = tuple(getattr(features, "shape", ()))
    if len(shape) == 4:
        by_row = features if getattr(model, "output_fmt", "NCHW") == "NHWC" else features.permute(0, 2, 3, 1)
        patches: torch.Tensor = by_row.flatten(1, 2)
        return patches
    # volo and others have a class token that is not in num_prefix_tokens
    prefix = getattr(model, "num_prefix_tokens", int(getattr(model, "cls_token", None) is not None))
    if len(shape) == 3 and shape[1] > prefix:
        sequence: torch.Tensor = features[:, prefix:]
        return sequence
    raise UsageError(
        f"the last features of {spec} are {shape or 'several tensors'}, which hold no one patch each",
        "one map [b, c, h, w] or one sequence [b, t, d] of patches",
        "choose another image encoder, or do without tokens",
    )


def load_timm_encoder(
    name: str, device: Device, weights: Path | None = None, precision: Precision = "float32"
) -> TimmEncoder:
    """Load a timm model without its head: `name[@revision]`, or an embedded EfficientNet-Lite from `weights`."""
    encoder, _ = _load_with_head(name, device, weights, precision)
    return encoder


def load_timm_classifier(
    name: str, device: Device, weights: Path | None = None, precision: Precision = "float32"
) -> tuple[TimmEncoder, ClassifierHead]:
    """Load a timm classifier as an encoder, together with the class prototypes in its head."""
    encoder, head = _load_with_head(name, device, weights, precision)
    return encoder, _read_classifier_head(name, head, encoder.dim)


def _load_with_head(
    name: str, device: Device, weights: Path | None, precision: Precision
) -> tuple[TimmEncoder, torch.nn.Module]:
    """Load a timm model and remove its classifier; returns both."""
    placement = choose_placement(device, precision)
    model: Any = create_timm_model(name) if weights is None else create_embedded_model(weights, name)
    head = model.get_classifier()
    model.reset_classifier(0)
    spec = f"timm:{name}" if weights is None else f"embedded:{name}"
    return TimmEncoder(spec, model, placement.device, precision), head


def create_timm_model(name: str) -> torch.nn.Module:
    """Create a pretrained timm model, its weights from the local cache or the hub."""
    timm = import_timm()
    # in hf-hub:<id>[@revision] and local-dir:<path>, timm reads an @ itself
    model, _, revision = (name, "", "") if ":" in name else name.partition("@")
    overlay = {}
    try:
        if revision:
            known = timm.get_pretrained_cfg(model)
            if known is None or not known.hf_hub_id:
                raise LookupError(f"{model!r} is not on the hub, so it has no revisions")
            overlay = {"pretrained_cfg_overlay": {"hf_hub_id": f"{known.hf_hub_id}@{revision}"}}
        with open_hub(model.removeprefix("local-dir:")):
            return timm.create_model(model, pretrained=True, **overlay)  # type: ignore[no-any-return]
    except Exception as error:  # timm and the hub client have no common error; all of them mean "not loaded"
        raise AsifError(
            f"timm could not load {name!r}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "a model of timm.list_models(pretrained=True), in the local cache or on a hub that can be reached",
            "check the name and the network, or use embedded:efficientnet-lite0, which needs none",
        ) from error


def create_embedded_model(weights: Path, name: str = "efficientnet-lite0") -> torch.nn.Module:
    """Create an EfficientNet-Lite from pinned weights, whose tensors map one to one, in order, onto timm's."""
    import torch

    model: torch.nn.Module = import_timm().create_model(f"tf_{name.replace('-', '_')}", pretrained=False)
    # only ever the pinned embedded weights: their sha256 has been checked, and no code is unpickled
    tensors = list(torch.load(weights, map_location="cpu", weights_only=True).values())
    model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=True)))
    return model


def _read_classifier_head(name: str, model_head: torch.nn.Module, dim: int) -> ClassifierHead:
    """Pair the rows of a linear classifier with the class names and definitions that timm ships."""
    weight = getattr(model_head, "weight", None)
    if weight is None or weight.ndim != 2 or weight.shape[1] != dim:
        raise InputRefused(
            f"the classifier of {name} is a {type(model_head).__name__}",
            f"one linear layer over the {dim} features of the encoder",
            "choose a classifier with a plain linear head",
        )
    if len(weight) not in SUBSETS:
        raise InputRefused(
            f"the classifier of {name} has {len(weight)} classes",
            f"an ImageNet classifier of {', '.join(map(str, SUBSETS))} classes, whose names timm ships",
            "choose a model with one of those heads",
        )
    return ClassifierHead(weight.detach().float().cpu().numpy(), *read_imagenet_classes(len(weight)))


def import_timm() -> Any:
    """Import timm, or raise MissingDependency."""
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise MissingDependency(f"timm cannot be imported ({error})", "timm", "pip install timm") from error
    return timm
