"""freeze-align on all tokens of an image and of a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from asif.aligners.protocol import Anchors, Arrays
from asif.errors import UsageError
from asif.kernels import Engine
from asif.rivals.freeze_align import FreezeAlign
from asif.rivals.projector import FittedProjector, filled, grown
from asif.rivals.token_pairs import inputs
from asif.rivals.training_pairs import Dims
from asif.vectors import DenseRows, Embeddings, Float32, Side, Tokens

if TYPE_CHECKING:
    from asif.rivals.trainer import Networks

CLS_FORM = "use its CLS form, which takes single vectors: --aligner freeze-align"


@dataclass(frozen=True)
class FreezeAlignTokens(FreezeAlign):
    """Train freeze-align on tokens (Maniparambil et al., CVPR 2025).

    An image is the mean of its projected patches plus its projected CLS token, or whatever vector stands for the whole
    of it; a text is the mean of its projected tokens after the head. Batches are smaller than those of the CLS form
    while pairs are few: one of 256 images holds about 1 GB while it is trained on, at 200 patches of 768 dimensions.
    """

    name: ClassVar[str] = "freeze-align-tokens"

    @property
    def command(self) -> str:
        return "asif train-freeze-align --tokens PAIRS"

    def resolved(self, pairs: int) -> FreezeAlignTokens:
        sized = filled(self, batch=grown(pairs, 256, 1800))
        whole = super().resolved(pairs)
        return filled(sized, epochs=whole.epochs, dropout=whole.dropout, decay=whole.decay)

    def networks(self, dims: Dims) -> Networks:
        from asif.rivals.networks import Patches, Words

        return {
            "image": Patches(dims["image"], dims["pooled"], self.width, self.dropout),
            "text": Words(dims["text"], self.width, self.dropout),
        }

    def fit(self, anchors: Anchors) -> FittedTokens:
        """Refuse: anchors have no tokens."""
        raise UsageError(f"{self.name} was to be fitted to anchors", "tokens of their pairs", CLS_FORM)

    def trained(self, dims: Dims, weights: Mapping[str, Float32]) -> FittedTokens:
        return FittedTokens(self, dims, weights)

    def restore(self, anchors: Anchors, arrays: Arrays) -> FittedTokens:
        """Take up weights that were trained before; anchors have no tokens, so the weights say their dimensions."""
        scales = {"image": "image.local", "text": "text.headed.projection", "pooled": "image.whole"}
        dims = {of: len(arrays[f"{name}.before.0.weight"]) for of, name in scales.items()}
        return self.trained(dims, {name: np.asarray(value, np.float32) for name, value in arrays.items()})


@dataclass(frozen=True)
class FittedTokens(FittedProjector):
    """Trained networks of tokens: they have nothing to say of single vectors."""

    def represent(self, side: Side, embeddings: Embeddings, engine: Engine = "auto") -> DenseRows:
        """Refuse: see `represent_tokens`."""
        raise UsageError(
            f"{self.aligner.name} was given single vectors of {len(embeddings)} {side}s",
            "all tokens of each, which its networks were trained on",
            CLS_FORM,
        )

    def represent_tokens(self, side: Side, tokens: Tokens) -> DenseRows:
        """Project tokens into the common space [n, s], to unit length; float32, on the processor.

        Each input by itself, without its padding: what it becomes does not depend on the others.
        """
        import torch

        refuse_others(side, tokens, self.dims)
        network, found = self._networks[side], []
        with torch.inference_mode():
            for values, mask, pooled in zip(tokens.values, tokens.mask, tokens.pooled, strict=True):
                alone = Tokens(values[mask][None], mask[mask][None], pooled[None])
                found.append(network(*map(torch.from_numpy, inputs(side, alone))).numpy())
        return DenseRows(Embeddings.from_raw(np.concatenate(found)).values)


def refuse_others(side: Side, tokens: Tokens, dims: Dims) -> None:
    """Raise UsageError for tokens that are not of the encoder that the networks were trained on."""
    given = {side: tokens.values.shape[2]} | ({"pooled": tokens.pooled.shape[1]} if side == "image" else {})
    for name, dim in given.items():
        if dim != dims[name]:
            raise UsageError(
                f"{name} tokens have {dim} dimensions, those it was trained on {dims[name]}",
                "equal dimensions",
                "encode with the encoder of the anchor set",
            )
