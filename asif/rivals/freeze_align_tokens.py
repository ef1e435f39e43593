"""freeze-align on all tokens of images and texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from asif.aligners.protocol import Anchors
from asif.aligners.sampling import choose_evenly_spaced
from asif.errors import UsageError
from asif.kernels import KernelName
from asif.rivals.freeze_align import FreezeAlign
from asif.rivals.projector import FittedProjector, fill_open_sizes, scale_size
from asif.rivals.token_pairs import select_network_inputs
from asif.rivals.training_pairs import Dims
from asif.vectors import SIDES, DenseRows, Embeddings, FitArrays, Float32, Side, Tokens

if TYPE_CHECKING:
    from asif.engine.encoder_pool import EncoderPool
    from asif.rivals.trainer import Networks

_ANCHORS: dict[Side, str] = {"image": "anchors.image", "text": "anchors.text"}
"""The names under which rows of anchors are stored with the weights."""
_CLS_FORM_HINT = "use its CLS form, which takes single vectors: --aligner freeze-align"


@dataclass(frozen=True)
class FreezeAlignTokens(FreezeAlign):
    """Train freeze-align on tokens (Maniparambil et al., CVPR 2025).

    An image is represented by the mean of its projected patches plus its projected CLS token, or its pooled vector if
    it has none; a text by the mean of its projected tokens after the head. With few pairs, batches are smaller than
    those of the CLS form: a batch of 256 images takes about 1 GB in training, at 200 patches of 768 dimensions.
    """

    name: ClassVar[str] = "freeze-align-tokens"

    @property
    def command(self) -> str:
        return "asif train-freeze-align --tokens PAIRS"

    def resolve(self, pairs: int) -> FreezeAlignTokens:
        sized = fill_open_sizes(self, batch=1800 if self.published else scale_size(pairs, 256, 1800))
        whole = super().resolve(pairs)
        shared = {name: getattr(whole, name) for name in ("epochs", "dropout", "decay", "width")}
        return fill_open_sizes(sized, **shared)

    def build_networks(self, dims: Dims) -> Networks:
        from asif.rivals.networks import PatchNetwork, WordNetwork

        assert self.width is not None  # resolved
        return {
            "image": PatchNetwork(dims["image"], dims["pooled"], self.width, self.dropout),
            "text": WordNetwork(dims["text"], self.width, self.dropout, self.head),
        }

    def adapt_encoders(self, encoders: EncoderPool) -> EncoderPool:
        """Return encoders that project tokens, for an engine that passes single vectors."""
        from asif.rivals.token_pool import TokenEncoderPool

        return TokenEncoderPool(encoders, self)

    def fit(self, anchors: Anchors) -> FittedTokens:
        """Raise UsageError: anchors have no tokens."""
        raise UsageError(f"{self.name} was to be fitted to anchors", "tokens of their pairs", _CLS_FORM_HINT)

    def build_fitted(self, dims: Dims, weights: Mapping[str, Float32]) -> FittedTokens:
        return FittedTokens(self, dims, weights)

    def restore(self, anchors: Anchors, arrays: FitArrays) -> FittedTokens:
        """Build the projector from stored weights; dimensions come from the weights, because anchors have no tokens."""
        layers = {"image": "image.local", "text": "text.headed.projection", "pooled": "image.whole"}
        dims = {kind: len(arrays[f"{name}.before.0.weight"]) for kind, name in layers.items()}
        every = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
        kept: dict[Side, Float32] = {side: every.pop(_ANCHORS[side]) for side in SIDES if _ANCHORS[side] in every}
        return self.build_fitted(dims, every).keep_anchors(kept)


@dataclass(frozen=True)
class FittedTokens(FittedProjector):
    """Hold trained networks of tokens; of single vectors they represent only what they have projected themselves.

    `anchor_rows` [m, s] are anchors that they have projected, evenly spaced, the same for both sides: anchors as stored
    have no tokens.
    """

    anchor_rows: Mapping[Side, Float32] = field(default_factory=dict)

    def arrays(self) -> FitArrays:
        """Return the weights, and the rows of anchors."""
        return {**self.weights, **{_ANCHORS[side]: rows for side, rows in self.anchor_rows.items()}}

    def keep_anchors(self, rows: Mapping[Side, Float32]) -> FittedTokens:
        """Return the same networks with rows of anchors."""
        return replace(self, anchor_rows=rows)

    def represent_anchors(self, side: Side, most: int) -> DenseRows:
        """Return one side of at most `most` of the anchors that are kept, see `TokenReader`; raises UsageError."""
        if side not in self.anchor_rows:
            raise UsageError(
                f"{self.aligner.name} was trained by a version that did not keep the anchors as it projects them",
                "projected anchors, for the chances of a search and for a hubness correction",
                f"train it again: {self.aligner.command} --anchors NAME",
            )
        rows = self.anchor_rows[side]
        return DenseRows(rows[choose_evenly_spaced(len(rows), most)])

    def represent(self, side: Side, embeddings: Embeddings, engine: KernelName = "auto") -> DenseRows:
        """Return the rows that `mark_projected` has marked; raises UsageError for other vectors, see above."""
        assert self.aligner.parameters["width"] is not None  # resolved
        if embeddings.dim == self.aligner.parameters["width"] + 1 and not embeddings.values[:, -1].any():
            return DenseRows(np.ascontiguousarray(embeddings.values[:, :-1]))
        raise UsageError(
            f"{self.aligner.name} was given single vectors of {len(embeddings)} {side}s",
            "all tokens of each, which its networks were trained on",
            _CLS_FORM_HINT,
        )

    def represent_tokens(self, side: Side, tokens: Tokens) -> DenseRows:
        """Project tokens into the common space [n, s], to unit length; float32, on the CPU.

        Each input is projected alone and without padding, so its representation does not depend on the others.
        """
        import torch

        _check_token_dims(side, tokens, self.dims)
        network, projected = self._networks[side], []
        with torch.inference_mode():
            for values, mask, pooled in zip(tokens.values, tokens.mask, tokens.pooled, strict=True):
                single = Tokens(values[mask][None], mask[mask][None], pooled[None])
                projected.append(network(*map(torch.from_numpy, select_network_inputs(side, single))).numpy())
        return DenseRows(Embeddings.from_raw(np.concatenate(projected)).values)


def _check_token_dims(side: Side, tokens: Tokens, dims: Dims) -> None:
    """Raise UsageError for tokens of another dimension than those that the networks were trained on."""
    given = {side: tokens.values.shape[2]} | ({"pooled": tokens.pooled.shape[1]} if side == "image" else {})
    for name, dim in given.items():
        if dim != dims[name]:
            raise UsageError(
                f"{name} tokens have {dim} dimensions, those it was trained on {dims[name]}",
                "equal dimensions",
                "encode with the encoder of the anchor set",
            )


def mark_projected(rows: Float32) -> Float32:
    """Mark rows of the common space [n, s] by one more entry, a zero: encoders' vectors of this form are unlikely.

    >>> mark_projected(np.ones((1, 2), np.float32)).tolist()
    [[1.0, 1.0, 0.0]]
    """
    return np.hstack([rows, np.zeros((len(rows), 1), np.float32)])
