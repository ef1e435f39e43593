"""What a search gives: options, answers, results, and the anchors behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from asif.anchorset import AnchorsIdentity
from asif.engine.clip_spans import ClipSpan
from asif.engine.search.query import Query
from asif.errors import BadMedia, UsageError
from asif.explain import Contributions
from asif.pairs import PairRecord
from asif.pairs.item import ItemRecord

Space: TypeAlias = str
"""`shared`, or the modality of a gallery."""
EXPECTED_BY_CHANCE = 0.5
"""A result is relevant if fewer items than this are expected to score as high by chance, of all that are searched."""


@dataclass(frozen=True)
class SearchOptions:
    """Say which results are wanted: `k` after the first `offset`, of the items that match `where`.

    With `only_relevant`, results are left out if half an item as good, or more, is expected by chance among those that
    are searched. `explain` is the number of anchors to name behind each result. `approximate` looks into
    some cells of similar items only. Items that do not match `within` do not exist for the caller: no count, error or
    query by id shows them.
    """

    k: int = 20
    offset: int = 0
    where: str | None = None
    only_relevant: bool = False
    explain: int = 0
    approximate: bool = False
    within: str | None = None

    def __post_init__(self) -> None:
        if self.k < 1 or self.offset < 0:
            raise UsageError(
                f"k is {self.k}, offset {self.offset}", "k from 1, offset from 0", "pass for example k=20, offset=0"
            )


@dataclass(frozen=True)
class SearchEvidence:
    """The anchors behind a score; `parts` has the sum of the contributions to each part of the query, in its order.

    The score is the sum of all contributions minus `hubness`. `spans` are those of `asif.engine.predict.Evidence`.
    """

    contributions: Contributions
    records: tuple[PairRecord, ...]
    parts: tuple[float, ...]
    hubness: float = 0.0
    spans: tuple[ClipSpan | None, ...] = ()


@dataclass(frozen=True)
class SearchResult:
    """One item that was found: its row in the gallery, its record, its score, and the chance of such a score."""

    row: int
    item: ItemRecord
    score: float
    chance: float
    evidence: SearchEvidence | None = None

    @property
    def id(self) -> str:
        return self.item.id

    @property
    def uri(self) -> str:
        return self.item.uri

    def __repr__(self) -> str:
        return f"<SearchResult {self.id}: {self.score:.4f}, chance {self.chance:.2g}>"


@dataclass(frozen=True)
class HubLoss:
    """Say how much gets lost: of the `compared` items that captions find, their own inputs find the share `kept`.

    A mean over `samples` anchors; `cosine` is the mean cosine of a caption and the text that stands for its input.
    """

    kept: float
    cosine: float
    compared: int
    samples: int


@dataclass(frozen=True)
class HubUsed:
    """Name the anchors by way of which a query became a text, the captions that stand for it, and the loss."""

    anchors: AnchorsIdentity
    captions: tuple[str, ...]
    loss: HubLoss | None = None


@dataclass(frozen=True)
class SearchAnswer:
    """The results of one query, best first; `error` if an image or sound of it could not be decoded.

    `hub` says by way of which anchors a part of it became a text, and what gets lost on such a way.

    `space` is where scores were computed: `shared` by the aligner, or the space of the gallery's own encoder, if all of
    the query was of its kind. `searched` counts the items that match the filter. `relevant` counts
    those of the first offset + k that less than half an item is expected to reach by chance. `recall` is None if
    the search was exact, else what share of the exact results it finds, as measured on sample queries.
    """

    query: Query
    results: tuple[SearchResult, ...]
    gallery: AnchorsIdentity
    anchors: AnchorsIdentity
    space: Space
    searched: int
    relevant: int
    recall: float | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    hub: HubUsed | None = None
    error: BadMedia | None = None

    def is_relevant(self, result: SearchResult) -> bool:
        """Tell whether fewer than half an item is expected by chance to score as high as a result."""
        return result.chance * self.searched < EXPECTED_BY_CHANCE

    def without_evidence(self) -> SearchAnswer:
        """Return the answer without the anchors behind its scores."""
        return replace(self, results=tuple(replace(result, evidence=None) for result in self.results))

    def __iter__(self) -> Iterator[SearchResult]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __repr__(self) -> str:
        shown = ", ".join(f"{each.id} {each.score:.4f}" for each in self.results[:3])
        more = ", …" if len(self.results) > 3 else ""
        return f"<SearchAnswer {str(self.query)!r} in {self.gallery.name}: {shown or 'nothing'}{more}>"
