"""Protocols of aligners, which make the embeddings of two encoders comparable by means of an anchor set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from asif.anchorset import OpenAnchors
from asif.kernels import KernelName
from asif.vectors import AnchorContributions, Embeddings, FitArrays, Rows, Side

TemplateMode = Literal["mean", "max"]


class Anchors(Protocol):
    """The part of an anchor set that aligners use: row-aligned blocks of both sides, and their means."""

    @property
    def count(self) -> int: ...

    def blocks(self, side: Side) -> Sequence[NDArray[Any]]:
        """Return the anchors of one side as blocks [n, d] in stored precision."""
        ...

    def mean(self, side: Side) -> NDArray[np.float64]:
        """Return the mean anchor of one side [d]."""
        ...


def read_captions(anchors: Anchors) -> list[tuple[str, ...]] | None:
    """Read the captions of each anchor, in order; None for anchors that have no `read_captions`."""
    read = getattr(anchors, "read_captions", None)
    return None if read is None else list(read())


def uses_texts(fitted: FittedAligner) -> bool:
    """Tell whether an aligner compares words, so that text embeddings need their texts: it has `uses_texts`, true."""
    return bool(getattr(fitted, "uses_texts", False))


def reads_tokens(fitted: FittedAligner) -> bool:
    """Tell whether an aligner reads all tokens of inputs, so that stored vectors have to be encoded again for it."""
    return isinstance(fitted, TokenReader)


class FittedAligner(Protocol):
    """An aligner fitted to one anchor set."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the aligner's parameters with every default resolved, as JSON values: they reproduce its results."""
        ...

    def arrays(self) -> FitArrays:
        """Return the arrays of the fit, for a file; empty if the fit is the anchors themselves."""
        ...

    def represent(self, side: Side, embeddings: Embeddings, engine: KernelName = "auto") -> Rows:
        """Map embeddings to rows such that images and texts can be compared by inner product."""
        ...

    def split_score(self, image: Any, text: Any) -> AnchorContributions:
        """Split the score of one image row and one text row, as `represent` returns them, into anchor contributions."""
        ...


@runtime_checkable
class TokenReader(Protocol):
    """A fitted aligner of tokens, which anchors do not have: it keeps rows of some of them."""

    def represent_anchors(self, side: Side, most: int) -> Rows:
        """Return one side of at most `most` anchors, evenly spaced; the same anchors for both sides.

        Raises UsageError if none are kept.
        """
        ...


class Aligner(Protocol):
    """A method of making two spaces comparable; `fit` binds it to an anchor set."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters as JSON values."""
        ...

    @property
    def template_mode(self) -> TemplateMode:
        """Return how the prompts of one label are combined by default."""
        ...

    def fit(self, anchors: Anchors) -> FittedAligner:
        """Bind the aligner to an anchor set, in seconds and without training."""
        ...

    def restore(self, anchors: Anchors, arrays: FitArrays) -> FittedAligner:
        """Bind the aligner to an anchor set by the arrays of an earlier fit to it."""
        ...


class TrainedAligner(ABC):
    """An aligner whose weights are trained in advance and stored with an anchor set; queries never train it."""

    def adapt_encoders(self, encoders: Any) -> Any:
        """Return the encoders that an engine uses with this aligner, by default its own."""
        return encoders

    @abstractmethod
    def find_trained(self, anchors: OpenAnchors) -> Aligner:
        """Return the aligner that was last trained on these anchors, its parameters resolved.

        Raises Stale if it was trained on other anchors, NotFound if none was trained; both name the command.
        """

    @abstractmethod
    def load_trained(self, anchors: OpenAnchors) -> FittedAligner:
        """Load the weights that were last trained on these anchors.

        Raises what `find_trained` raises, and IntegrityError for weights that were changed on disk.
        """
