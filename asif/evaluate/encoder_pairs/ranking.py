"""Rank encoder pairs by the alignment of their embeddings of the same pairs; test how certain the ranking is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from asif.evaluate.encoder_pairs.alignment import Alignment, EncoderSpace, measure_alignment
from asif.evaluate.encoder_pairs.embeddings import EncodedPairs, EncodedSide, label_encoders
from asif.evaluate.encoder_pairs.permutation_test import PermutationTest

_DOUBTFUL_P = 0.05
_TOLERATED_COPIES = 0.01  # of the rows, above which copies are worth a warning
_RANKING_MEASURE = "mutual_knn"  # CKA depends on little but the first principal directions; see docs/encoders.md
_MEASURES = {"cka": "linear CKA", "cka_debiased": "debiased CKA", "mutual_knn": "mutual k-NN"}


@dataclass(frozen=True)
class EncoderPair:
    """Hold an image encoder, a text encoder and their alignment; `name` is unique among the pairs compared."""

    name: str
    image: EncodedSide
    text: EncodedSide
    alignment: Alignment

    def test_of(self, measure: str) -> PermutationTest | None:
        """Return one of the measures, None if it is undefined."""
        found: PermutationTest | None = getattr(self.alignment, measure)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object; null for a measure that is undefined."""
        return {
            **{side.side: _describe_side(side) for side in (self.image, self.text)},
            "pairs": len(self.image.values),
            **{measure: _describe_test(self.test_of(measure)) for measure in _MEASURES},
        }


def _describe_side(side: EncodedSide) -> dict[str, Any]:
    """Return the encoder of a side, its dimensions, and the anchor set of its rows, for JSON."""
    return {
        "encoder": side.spec,
        "fingerprint": side.fingerprint.digest,
        "dim": side.values.shape[1],
        "anchors": None if side.anchors is None else dict(side.anchors),
    }


def _describe_test(measured: PermutationTest | None) -> dict[str, float | None] | None:
    """Return the numbers of a measure, for JSON."""
    if measured is None:
        return None
    names = ("value", "standard_error", "null_mean", "null_sd", "z", "p")
    return {name: getattr(measured, name) for name in names}


def rank_encoder_pairs(
    encoded: EncodedPairs,
    k: int = 10,
    permutations: int = 200,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> list[EncoderPair]:
    """Align every image encoder with every text encoder; the highest mutual k-NN first, undefined ones last.

    Neither rank nor figures depend on the order of the encoders. `progress` is called for each shuffled pairing.
    Raises what `EncoderSpace.of` does.
    """
    sides = [
        [(label, one, EncoderSpace.of(one.values, k)) for label, one in zip(label_encoders(rows), rows, strict=True)]
        for rows in (encoded.images, encoded.texts)
    ]
    pairs = [
        EncoderPair(f"{left} + {right}", image, text, measure_alignment(x, y, permutations, seed, progress))
        for (left, image, x), (right, text, y) in product(*sides)
    ]
    return _sort_pairs(pairs, _RANKING_MEASURE)


def _sort_pairs(pairs: Sequence[EncoderPair], measure: str) -> list[EncoderPair]:
    """Sort by one measure, highest first, undefined ones last, equal ones by name."""

    def key(pair: EncoderPair) -> tuple[float, str]:
        measured = pair.test_of(measure)
        return (float("inf") if measured is None else -measured.value), pair.name

    return sorted(pairs, key=key)


def describe_choices(pairs: Sequence[EncoderPair]) -> list[str]:
    """Write which pair each measure would choose, and whether they agree; nothing if there is no choice."""
    best = {measure: _sort_pairs(pairs, measure)[0] for measure in _MEASURES}
    if len(pairs) == 1 or any(pair.test_of(measure) is None for measure, pair in best.items()):
        return []
    lines = [
        f"freeze-align's rule, the highest linear CKA: {best['cka'].name}",
        "  (the paper takes it over means of all image tokens; here it is over each encoder's own pooled output)",
    ]
    for measure in ("cka_debiased", "mutual_knn"):
        close = [
            pair.name
            for pair in pairs
            if pair is not best[measure] and not _is_clearly_above(best[measure], pair, measure)
        ]
        doubt = f", not clearly above {', '.join(close)}" if close else ""
        lines.append(f"the highest {_MEASURES[measure]}: {best[measure].name}{doubt}")
    agree = len({id(pair) for pair in best.values()}) == 1
    lines.append("they agree" if agree else "they disagree: let retrieval of held-out pairs decide")
    return lines


def _is_clearly_above(best: EncoderPair, other: EncoderPair, measure: str) -> bool:
    """Return whether one pair is clearly above another."""
    first, second = best.test_of(measure), other.test_of(measure)
    assert first is not None  # it is the highest
    return second is None or first.clearly_above(second)


def find_ranking_warnings(pairs: Sequence[EncoderPair]) -> list[str]:
    """Warn of figures that are undefined, that shuffled pairs reach too, and of copies among rows."""
    lines = []
    for pair in pairs:
        weak = []
        for measure in ("cka_debiased", "mutual_knn"):
            measured = pair.test_of(measure)
            if measured is None:
                weak.append(f"{_MEASURES[measure]} is undefined, the embeddings of a side do not differ")
            elif measured.p > _DOUBTFUL_P:
                weak.append(f"{_MEASURES[measure]} is no higher than of shuffled pairs (p = {measured.p:.2g})")
        lines += [f"{pair.name}: {'; '.join(weak)}"] if weak else []
    for side in {one.identity: one for pair in pairs for one in (pair.image, pair.text)}.values():
        if side.copies > _TOLERATED_COPIES * len(side.values):
            lines.append(
                f"{side.spec}: {side.copies:,} of {len(side.values):,} {side.side} embeddings are copies of another;"
                " copies are neighbours of one another, so mutual k-NN says less"
            )
    return lines
