"""Fit aligners to anchor sets; fits and sums over anchors are cached in the folder of the set."""

from __future__ import annotations

import logging
from functools import partial
from typing import Protocol, runtime_checkable

from asif.aligners import Aligner, FittedAligner, Moments, TrainedAligner, is_linear
from asif.aligners.moments import find_moments
from asif.anchorset import AnchorSet, OpenAnchors, View
from asif.errors import IntegrityError
from asif.kernels import KernelName

_log = logging.getLogger(__name__)


@runtime_checkable
class SummedElsewhere(Protocol):
    """Anchors over which other processes sum."""

    def sum_moments(self) -> Moments:
        """Sum over the pairs."""
        ...


def fit_aligner(aligner: Aligner, anchors: OpenAnchors, kernel: KernelName = "auto") -> FittedAligner:
    """Fit an aligner to an anchor set, or restore the cached fit; a new fit is cached.

    A cached fit that was changed, or belongs to other anchors, is logged and fitted again. Nothing is cached if the
    store cannot be written, nor for views. A trained aligner is loaded, never trained here.
    """
    if isinstance(aligner, TrainedAligner):
        return aligner.load_trained(anchors)
    if not isinstance(anchors, AnchorSet):
        if is_linear(aligner):
            find_moments(anchors, partial(_sum_view, kernel=kernel))
        return aligner.fit(anchors)
    key = {"name": aligner.name, "parameters": aligner.parameters}
    try:
        cached = anchors.cached_fit(key)
        if cached is not None:
            return aligner.restore(anchors, cached)
    except (IntegrityError, KeyError) as error:
        _log.warning("a cached fit is not used: %s", str(error).splitlines()[0])
    if is_linear(aligner):
        find_moments(anchors, partial(sum_anchors, kernel=kernel))
    fitted = aligner.fit(anchors)
    arrays = fitted.arrays()
    if arrays:
        anchors.cache_fit(key, arrays)
    return fitted


def _sum_view(anchors: OpenAnchors, kernel: KernelName = "auto") -> Moments:
    """Sum over the pairs of a view, in the order and blocks of an anchor set of the same pairs."""
    assert isinstance(anchors, View)
    return Moments.over(anchors.iter_copied_blocks(), kernel)


def sum_anchors(anchors: AnchorSet, kernel: KernelName = "auto") -> Moments:
    """Sum over an anchor set, starting from cached sums of it or of a version that shares most of its blocks.

    Sums of another version are corrected by the blocks that were added and removed since. Damaged sums are not used.
    """
    try:
        cached = anchors.cached_sums()
        moments = None if cached is None else Moments.from_arrays(cached.arrays)
    except (IntegrityError, KeyError) as error:
        _log.warning("cached sums are not used: %s", str(error).splitlines()[0])
        cached = moments = None
    if cached is None or moments is None:
        moments = anchors.sum_moments() if isinstance(anchors, SummedElsewhere) else Moments.of(anchors, kernel)
    elif cached.is_exact:
        return moments
    else:
        moments = moments + Moments.over(cached.added, kernel) if cached.added else moments
        moments = moments - Moments.over(cached.removed, kernel) if cached.removed else moments
    anchors.cache_sums(moments.as_arrays())
    return moments
