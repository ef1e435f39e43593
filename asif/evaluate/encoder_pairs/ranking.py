"""Encoder pairs, ranked: which two encoders see the same pairs most alike, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from asif.evaluate.encoder_pairs.alignment import Alignment, Space, align
from asif.evaluate.encoder_pairs.embeddings import Encoded, SeenPairs, labels
from asif.evaluate.encoder_pairs.permutation_test import Measured

DOUBTFUL = 0.05
COPIES = 0.01  # of the rows, above which copies are worth a warning
RANKED_BY = "mutual_knn"  # CKA hears little but the first principal directions; see docs/encoders.md
MEASURES = {"cka": "linear CKA", "cka_debiased": "debiased CKA", "mutual_knn": "mutual k-NN"}


@dataclass(frozen=True)
class EncoderPair:
    """Hold an image encoder, a text encoder, and what they have in common; `name` tells it from the others."""

    name: str
    image: Encoded
    text: Encoded
    alignment: Alignment

    def measured(self, measure: str) -> Measured | None:
        """Return one of MEASURES."""
        found: Measured | None = getattr(self.alignment, measure)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON keeps; null where a measure is undefined."""
        return {
            **{side.side: described(side) for side in (self.image, self.text)},
            "pairs": len(self.image.values),
            **{measure: figures(self.measured(measure)) for measure in MEASURES},
        }


def described(side: Encoded) -> dict[str, Any]:
    """Say which encoder made a side, of how many dimensions, and which anchor set keeps it."""
    return {
        "encoder": side.spec,
        "fingerprint": side.fingerprint.digest,
        "dim": side.values.shape[1],
        "anchors": None if side.anchors is None else dict(side.anchors),
    }


def figures(measured: Measured | None) -> dict[str, float | None] | None:
    """Return the numbers of a measure, JSON-able."""
    if measured is None:
        return None
    names = ("value", "standard_error", "null_mean", "null_sd", "z", "p")
    return {name: getattr(measured, name) for name in names}


def rank(
    seen: SeenPairs,
    k: int = 10,
    permutations: int = 200,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> list[EncoderPair]:
    """Align every image encoder with every text encoder; the highest mutual k-NN first, undefined ones last.

    Neither rank nor figures depend on the order of the encoders. `progress` is called for each shuffled pairing.
    Raises what `Space.of` does.
    """
    sides = [
        [(label, one, Space.of(one.values, k)) for label, one in zip(labels(encoded), encoded, strict=True)]
        for encoded in (seen.images, seen.texts)
    ]
    pairs = [
        EncoderPair(f"{left} + {right}", image, text, align(x, y, permutations, seed, progress))
        for (left, image, x), (right, text, y) in product(*sides)
    ]
    return ranked(pairs, RANKED_BY)


def ranked(pairs: Sequence[EncoderPair], measure: str) -> list[EncoderPair]:
    """Sort by one measure, highest first, undefined ones last, equal ones by name."""

    def key(pair: EncoderPair) -> tuple[float, str]:
        measured = pair.measured(measure)
        return (float("inf") if measured is None else -measured.value), pair.name

    return sorted(pairs, key=key)


def verdict(pairs: Sequence[EncoderPair]) -> list[str]:
    """Say what each measure would choose, and whether they agree; nothing where there is no choice."""
    best = {measure: ranked(pairs, measure)[0] for measure in MEASURES}
    if len(pairs) == 1 or any(pair.measured(measure) is None for measure, pair in best.items()):
        return []
    lines = [
        f"freeze-align's rule, the highest linear CKA: {best['cka'].name}",
        "  (the paper takes it over means of all image tokens; here it is over each encoder's own pooled output)",
    ]
    for measure in ("cka_debiased", "mutual_knn"):
        close = [
            pair.name for pair in pairs if pair is not best[measure] and not told_apart(best[measure], pair, measure)
        ]
        doubt = f", not clearly above {', '.join(close)}" if close else ""
        lines.append(f"the highest {MEASURES[measure]}: {best[measure].name}{doubt}")
    agree = len({id(pair) for pair in best.values()}) == 1
    lines.append("they agree" if agree else "they disagree: let retrieval of held-out pairs decide")
    return lines


def told_apart(best: EncoderPair, other: EncoderPair, measure: str) -> bool:
    """Tell whether one pair is clearly above another."""
    first, second = best.measured(measure), other.measured(measure)
    assert first is not None  # it is the highest
    return second is None or first.clearly_above(second)


def warnings(pairs: Sequence[EncoderPair]) -> list[str]:
    """Say what not to read into the figures: undefined ones, ones that shuffled pairs reach too, copies among rows."""
    lines = []
    for pair in pairs:
        weak = []
        for measure in ("cka_debiased", "mutual_knn"):
            measured = pair.measured(measure)
            if measured is None:
                weak.append(f"{MEASURES[measure]} is undefined, the embeddings of a side do not differ")
            elif measured.p > DOUBTFUL:
                weak.append(f"{MEASURES[measure]} is no higher than of shuffled pairs (p = {measured.p:.2g})")
        lines += [f"{pair.name}: {'; '.join(weak)}"] if weak else []
    for side in {one.identity: one for pair in pairs for one in (pair.image, pair.text)}.values():
        if side.copies > COPIES * len(side.values):
            lines.append(
                f"{side.spec}: {side.copies:,} of {len(side.values):,} {side.side} embeddings are copies of another;"
                " copies are neighbours of one another, so mutual k-NN says less"
            )
    return lines
