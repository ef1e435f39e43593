"""Rows that an aligner made of a gallery or of anchors, kept as a fit of that set: checked, and deleted with it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from asif.aligners import TrainedAligner
from asif.aligners.protocol import reads_tokens
from asif.anchorset import AnchorSet, OpenAnchors
from asif.anchorset.format.fit_cache import FitKey, delete_fits, hash_anchors
from asif.engine.snapshots import FittedTask
from asif.errors import AsifError, IntegrityError
from asif.vectors import DenseRows, FitArrays, FusedRows, Rows, Side, SparseRows

ITEMS, NEIGHBOURS, CELLS = "items", "neighbours", "cells"
ENCODED_ITEMS, BIASES = "encoded items", "biases of encoded items"
"""Rows of an aligner of tokens, which later rows of others are not to drive out, and their hubness biases."""
KEPT_WITH_GALLERIES = (ITEMS, NEIGHBOURS, CELLS, ENCODED_ITEMS, BIASES)
"""All names under which rows are kept with galleries."""
_KEPT, _KEPT_NEIGHBOURS = 4, 2
"""Rows of one name that a set keeps: of the last anchors, aligners and hubness corrections."""
_MOST_INDEX = 1 << 24
"""Up to here float32 holds every whole number."""
_ALL = slice(None)

_log = logging.getLogger(__name__)


def find_or_make_rows(stored: OpenAnchors, name: str, task: FittedTask, side: Side, make: Callable[[], Rows]) -> Rows:
    """Return the rows that are kept with a set under a name, for a task over some anchors; else make and keep them."""
    return unpack_rows(find_or_make_arrays(stored, name, task, side, lambda: pack_rows(make())))


def find_or_make_arrays(
    stored: OpenAnchors, name: str, task: FittedTask, side: Side, make: Callable[[], FitArrays]
) -> FitArrays:
    """Return the arrays that are kept with a set under a name, for a task over some anchors; else make and keep them.

    A damaged file is logged, and made again. Nothing is kept for views, nor for trained aligners but those of tokens.
    """
    described, anchors = describe_rows(name, task, side), task.anchors
    if described is None or not isinstance(anchors, AnchorSet) or not isinstance(stored, AnchorSet):
        return make()
    key = FitKey.of(stored.manifest, described)
    try:
        kept = stored.cached_fit_of(key)
        if kept is not None:
            return kept
    except IntegrityError as error:
        _log.warning("represented items are not used: %s", str(error).splitlines()[0])
    arrays = make()
    try:
        keep_arrays(stored, key, anchors, arrays)
        delete_older_rows(stored, name)
    except (AsifError, OSError) as error:
        _log.warning("represented items are not kept: %s", str(error).splitlines()[0])
    return arrays


def describe_rows(name: str, task: FittedTask, side: Side) -> Mapping[str, Any] | None:
    """Describe what rows under a name depend on besides what is represented; None for those that are not kept."""
    anchors, choice = task.anchors, task.choice
    if not isinstance(anchors, AnchorSet):
        return None
    if isinstance(choice.aligner, TrainedAligner) and not reads_tokens(task.fitted):
        return None
    parameters = {
        "anchors": hash_anchors(anchors.manifest),
        "aligner": {"name": choice.aligner.name, "parameters": task.fitted.parameters},
        "fit": _hash_arrays(task.fitted.arrays()),
        "hubness": choice.hubness.parameters,
        "side": side,
    }
    return {"name": name, "parameters": parameters}


def _hash_arrays(arrays: FitArrays) -> str:
    """Hash the arrays of a fit: one that is computed on another machine may differ in the last digits."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def keep_arrays(stored: AnchorSet, key: FitKey, anchors: AnchorSet, arrays: FitArrays) -> None:
    """Write arrays that were made over some anchors as a fit of a set; raises what `write_fit_of` raises.

    Raises Conflict if the version of the anchors was deleted meanwhile, perhaps by a purge: then nothing stays.
    """
    stored.write_fit_of(key, arrays)
    if not anchors.folder.version_file(anchors.version).exists():
        stored.folder.fit_path(key.file_name).unlink(missing_ok=True)
        raise anchors.folder.make_deleted_error(anchors.version)


def delete_older_rows(stored: AnchorSet, name: str) -> None:
    """Delete rows under a name but for those of the last few anchors, aligners and hubness corrections."""
    delete_fits(stored.folder.fits, name, _KEPT_NEIGHBOURS if name == NEIGHBOURS else _KEPT)


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


def unpack_rows(arrays: Mapping[str, Any], some: slice = _ALL) -> Rows:
    """Return the rows that `pack_rows` made named arrays of, or some of them; raises KeyError for others."""
    parts: list[SparseRows | DenseRows] = []
    for number in range(sum(name.endswith(".values") for name in arrays)):
        values = arrays[f"{number}.values"][some]
        if f"{number}.indices" in arrays:
            indices = arrays[f"{number}.indices"][some].astype(np.int64)
            parts.append(SparseRows(indices, values, int(arrays[f"{number}.width"][0])))
        else:
            parts.append(DenseRows(values))
    return FusedRows(tuple(parts)) if arrays["fused"][0] else parts[0]
