"""The protocol of opened anchors: one version of an anchor set, or a view of some pairs of one or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.kinds import SetKind
from asif.anchorset.format.pair_filter import NO_FILTER, PairFilter
from asif.modality import find_modalities
from asif.pairs.pair import PairRecord
from asif.vectors import Fingerprint, Int64, Side


@dataclass(frozen=True)
class AnchorsIdentity:
    """Name the anchors that a prediction comes from; the digest alone identifies them.

    >>> AnchorsIdentity("coco", "000003-1f2e3d4c5b6a", "1f2e", PairFilter.of("source = 'web'")).as_dict()["where"]
    "source = 'web'"
    """

    name: str
    version: str
    digest: str
    pair_filter: PairFilter = NO_FILTER

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; `where` and `licences` only if the filter has such conditions."""
        return {"name": self.name, "version": self.version, "digest": self.digest, **self.pair_filter.as_dict()}


class EncodedSet(Protocol):
    """Vectors of one encoder for each side, opened: anchors, or a gallery, which has one side."""

    @property
    def kind(self) -> SetKind: ...

    @property
    def name(self) -> str: ...

    @property
    def ref(self) -> str:
        """Return a readable reference to exactly these vectors, such as 'coco@3'."""
        ...

    @property
    def count(self) -> int: ...

    @property
    def dims(self) -> Mapping[Side, int]: ...

    def blocks(self, side: Side) -> Sequence[NDArray[Any]]:
        """Return one side as blocks [n, d] in stored precision, read-only; the same arrays each time."""
        ...

    def fingerprint(self, side: Side) -> Fingerprint:
        """Return the fingerprint of the encoder of one side."""
        ...

    def encoder_spec(self, side: Side) -> str:
        """Return the encoder of one side, as the user names it."""
        ...


class OpenAnchors(EncodedSet, Protocol):
    """Opened anchors: embeddings in the order of ids, and the records of their pairs. They never change."""

    @property
    def named(self) -> AnchorsIdentity: ...

    @property
    def digest(self) -> str:
        """Return the set digest, which depends on the pairs, the encoders and how they are stored."""
        ...

    @property
    def profiles(self) -> Mapping[str, Any]:
        """Return the profiles that were tuned on exactly these anchors, {task: profile}."""
        ...

    def mean(self, side: Side) -> NDArray[np.float64]:
        """Return the mean embedding of one side [d]."""
        ...

    def records(self, indices: Sequence[int] | Int64) -> list[PairRecord]:
        """Return the records of the pairs at `indices`."""
        ...


def describe_as_html(anchors: OpenAnchors) -> str:
    """Describe anchors as an HTML table: reference, digest, size, encoders with dimensions; all text is escaped."""
    rows = {
        "anchors": anchors.ref,
        "digest": anchors.digest[:12],
        "pairs": f"{anchors.count:,}",
        **{
            f"{modality} encoder": f"{anchors.encoder_spec(side)}, {anchors.dims[side]} dimensions"
            for side, modality in find_modalities(anchors).items()
        },
        "tuned for": ", ".join(anchors.profiles) or "nothing",
    }
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows.items())
    return f"<table>{cells}</table>"
