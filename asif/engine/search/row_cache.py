"""Rows that an aligner made of a gallery or of anchors, kept as a fit of that set: checked, and deleted with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from asif.aligners import TrainedAligner
from asif.anchorset import AnchorSet, OpenAnchors
from asif.anchorset.format.fit_cache import delete_fits, hash_anchors
from asif.engine.snapshots import FittedTask
from asif.errors import AsifError, IntegrityError
from asif.vectors import DenseRows, FitArrays, FusedRows, Rows, Side, SparseRows

_MOST_BYTES = 4 << 30
_KEPT = 4
"""Rows of one name that a set keeps: of the last anchors, aligners and hubness corrections."""
ITEMS, CELLS = "items", "cells"
_MOST_INDEX = 1 << 24
"""Up to here float32 holds every whole number."""

_log = logging.getLogger(__name__)


def find_or_make_rows(stored: OpenAnchors, name: str, task: FittedTask, side: Side, make: Callable[[], Rows]) -> Rows:
    """Return the rows that are kept with a set under a name, for a task over some anchors; else make and keep them."""
    return unpack_rows(find_or_make_arrays(stored, name, task, side, lambda: pack_rows(make())))


def find_or_make_arrays(
    stored: OpenAnchors, name: str, task: FittedTask, side: Side, make: Callable[[], FitArrays]
) -> FitArrays:
    """Return the arrays that are kept with a set under a name, for a task over some anchors; else make and keep them.

    A damaged file is logged, and made again. Nothing is kept for views, trained aligners, and more than 4 GB.
    """
    anchors, choice = task.anchors, task.choice
    if not isinstance(anchors, AnchorSet) or not isinstance(stored, AnchorSet):
        return make()
    if isinstance(choice.aligner, TrainedAligner):
        return make()
    parameters = {
        "anchors": hash_anchors(anchors.manifest),
        "aligner": {"name": choice.aligner.name, "parameters": task.fitted.parameters},
        "hubness": choice.hubness.parameters,
        "side": side,
    }
    key = {"name": name, "parameters": parameters}
    try:
        kept = stored.cached_fit(key)
        if kept is not None:
            return kept
    except IntegrityError as error:
        _log.warning("represented items are not used: %s", str(error).splitlines()[0])
    arrays = make()
    if sum(values.nbytes for values in arrays.values()) <= _MOST_BYTES:
        try:
            stored.cache_fit(key, arrays)
            delete_fits(stored.folder.fits, name, _KEPT)
        except AsifError as error:
            _log.warning("represented items are not kept: %s", str(error).splitlines()[0])
    return arrays


def pack_rows(rows: Rows) -> FitArrays:
    """Return rows as named arrays, all of floats, which hold indices exactly."""
    parts = rows.parts if isinstance(rows, FusedRows) else (rows,)
    arrays: dict[str, Any] = {"fused": np.array([float(isinstance(rows, FusedRows))])}
    for number, part in enumerate(parts):
        arrays[f"{number}.values"] = part.values
        if isinstance(part, SparseRows):
            exact = np.float32 if part.width <= _MOST_INDEX else np.float64
            arrays[f"{number}.indices"] = part.indices.astype(exact)
            arrays[f"{number}.width"] = np.array([float(part.width)])
    return arrays


def unpack_rows(arrays: Mapping[str, Any]) -> Rows:
    """Return the rows that `pack_rows` made named arrays of; raises KeyError for others."""
    parts: list[SparseRows | DenseRows] = []
    for number in range(sum(name.endswith(".values") for name in arrays)):
        values = arrays[f"{number}.values"]
        if f"{number}.indices" in arrays:
            indices = arrays[f"{number}.indices"].astype(np.int64)
            parts.append(SparseRows(indices, values, int(arrays[f"{number}.width"][0])))
        else:
            parts.append(DenseRows(values))
    return FusedRows(tuple(parts)) if arrays["fused"][0] else parts[0]
