"""Anchors as rows of a trained projector of tokens, for hubness corrections and for the chances of a search."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from asif.aligners.hubness import MAX_BANK_ROWS
from asif.aligners.sampling import choose_evenly_spaced
from asif.anchorset.tokens.pair_tokens import PairTokens
from asif.anchorset.tokens.token_rows import TokenRows
from asif.errors import InputRefused
from asif.pairs.pair import PairRecord
from asif.rivals.freeze_align_tokens import FittedTokens
from asif.vectors import Float32, Int64, Side, mean_direction, normalise_rows

_ROWS_READ = 64


def project_anchors(
    fitted: FittedTokens, tokens: PairTokens, anchors: Iterable[PairRecord], most: int = MAX_BANK_ROWS
) -> dict[Side, Float32]:
    """Project at most `most` evenly spaced ones of the anchors that have tokens: unit rows [m, s] of each side.

    The text of an anchor with several captions is the mean of these, as its stored vector is.
    """
    places = [rows for record in anchors if (rows := _find_text_rows(tokens, record)) is not None]
    chosen = [places[row] for row in choose_evenly_spaced(len(places), most)]
    images = project_rows(fitted, "image", tokens.image, tokens.owners[[rows[0] for rows in chosen]])
    texts = project_rows(fitted, "text", tokens.text, np.concatenate(chosen))
    ends = np.cumsum([len(rows) for rows in chosen])
    return {"image": images, "text": np.stack(list(map(_average, np.split(texts, ends[:-1]))))}


def _average(rows: Float32) -> Float32:
    """Return the mean of unit rows [n, s], to unit length; a single row as it is."""
    mean: Float32 = rows[0] if len(rows) == 1 else normalise_rows(mean_direction(list(rows))[None])[0]
    return mean


def _find_text_rows(tokens: PairTokens, record: PairRecord) -> Int64 | None:
    try:
        return tokens.find_text_rows(record)
    except InputRefused:
        return None


def project_rows(fitted: FittedTokens, side: Side, tokens: TokenRows, rows: Int64) -> Float32:
    """Project some rows [m, s], equal ones once, a few at a time in memory."""
    distinct, places = np.unique(rows, return_inverse=True)
    parts = [distinct[start : start + _ROWS_READ] for start in range(0, len(distinct), _ROWS_READ)]
    return np.concatenate([fitted.represent_tokens(side, tokens.read(part)).values for part in parts])[places]
