"""What an aligner is: it makes the embeddings of two encoders comparable by way of an anchor set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from asif.anchorset import OpenAnchors
from asif.kernels import Engine
from asif.vectors import Embeddings, Parts, Rows, Side

TemplateMode = Literal["mean", "max"]
Arrays = Mapping[str, NDArray[Any]]
"""What a fit came to, by name: float64, or float32 for trained weights."""


class Anchors(Protocol):
    """What an aligner sees of an anchor set: row-aligned blocks of both sides, and their means."""

    @property
    def count(self) -> int: ...

    def blocks(self, side: Side) -> Sequence[NDArray[Any]]:
        """Return the anchors of one side as blocks [n, d] in stored precision."""
        ...

    def mean(self, side: Side) -> NDArray[np.float64]:
        """Return the mean anchor of one side [d]."""
        ...


class Fitted(Protocol):
    """An aligner fitted to one anchor set."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Return what makes results reproducible, JSON-able: the aligner's parameters, none left open."""
        ...

    def arrays(self) -> Arrays:
        """Return what the fit came to, to be kept in a file: empty where the anchors themselves are all it is."""
        ...

    def represent(self, side: Side, embeddings: Embeddings, engine: Engine = "auto") -> Rows:
        """Re-express embeddings so that images and texts can be compared by inner product."""
        ...

    def parts(self, image: Any, text: Any) -> Parts:
        """Take the score of one image's row and one text's, as `represent` makes them, apart into anchors' parts."""
        ...


class Aligner(Protocol):
    """A way of making two spaces comparable; `fit` binds it to an anchor set."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> dict[str, Any]:
        """Return what makes results reproducible, JSON-able."""
        ...

    @property
    def template_mode(self) -> TemplateMode:
        """Return how it combines the prompts of one label unless told otherwise."""
        ...

    def fit(self, anchors: Anchors) -> Fitted:
        """Bind the aligner to an anchor set, in seconds and without training."""
        ...

    def restore(self, anchors: Anchors, arrays: Arrays) -> Fitted:
        """Bind the aligner to an anchor set that it was fitted to before: `arrays` are those of that fit."""
        ...


class TrainedAligner(ABC):
    """An aligner whose weights are trained beforehand and kept with an anchor set; a query never trains it."""

    @abstractmethod
    def latest(self, anchors: OpenAnchors) -> Aligner:
        """Return the one that was trained on these anchors last; raises Stale or NotFound, naming the command."""

    @abstractmethod
    def load(self, anchors: OpenAnchors) -> Fitted:
        """Load the weights of `latest`; raises what it raises, and IntegrityError for changed weights."""
