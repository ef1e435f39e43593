"""What answers: one version of an anchor set, or a view of some pairs of one or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.pair_filter import EVERYTHING, Mask
from asif.pairs.pair import PairRecord
from asif.vectors import Fingerprint, Int64, Side


@dataclass(frozen=True)
class Named:
    """Hold what an answer says of the anchors that it comes from; the digest alone decides which they were.

    >>> Named("coco", "000003-1f2e3d4c5b6a", "1f2e", Mask.of("source = 'web'")).as_dict()["where"]
    "source = 'web'"
    """

    name: str
    version: str
    digest: str
    mask: Mask = EVERYTHING

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; `where` and `licences` stand there where they left pairs out."""
        return {"name": self.name, "version": self.version, "digest": self.digest, **self.mask.as_dict()}


class OpenAnchors(Protocol):
    """Anchors that are open: rows in the order of their ids, and what is known of their pairs. They never change."""

    @property
    def named(self) -> Named: ...

    @property
    def name(self) -> str: ...

    @property
    def ref(self) -> str:
        """Return what means exactly these anchors, such as 'coco@3', for people."""
        ...

    @property
    def digest(self) -> str:
        """Return the set digest: which pairs, which encoders."""
        ...

    @property
    def count(self) -> int: ...

    @property
    def dims(self) -> Mapping[Side, int]: ...

    @property
    def profiles(self) -> Mapping[str, Any]:
        """Return what suits exactly these anchors, {task: profile}, where they were tuned."""
        ...

    def blocks(self, side: Side) -> Sequence[NDArray[Any]]:
        """Return one side as blocks [n, d] in stored precision, read-only, and the same ones each time."""
        ...

    def mean(self, side: Side) -> NDArray[np.float64]:
        """Return the mean anchor of one side [d]."""
        ...

    def records(self, indices: Sequence[int] | Int64) -> list[PairRecord]:
        """Return what is remembered of the pairs at `indices`."""
        ...

    def fingerprint(self, side: Side) -> Fingerprint:
        """Return the fingerprint of the encoder that made one side."""
        ...

    def encoder_spec(self, side: Side) -> str:
        """Return the encoder that made one side, as the user names it."""
        ...
