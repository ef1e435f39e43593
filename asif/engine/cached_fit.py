"""Fits of aligners to anchor sets, and sums over anchors, taken from where they were kept, or made and kept."""

from __future__ import annotations

import logging
from functools import partial

from asif.aligners import Aligner, FittedAligner, Fused, Linear, Moments, TrainedAligner
from asif.aligners.moments import find_moments
from asif.anchorset import AnchorSet, OpenAnchors, View
from asif.errors import IntegrityError
from asif.kernels import KernelName

_log = logging.getLogger(__name__)


def fit(aligner: Aligner, anchors: OpenAnchors, kernel: KernelName = "auto") -> FittedAligner:
    """Fit an aligner to an anchor set, or take up what an earlier fit of it came to; a new one is kept.

    A kept fit that was changed, or belongs to other anchors, is not used: it is named in the log, and made anew. Where
    the store cannot be written, the fit is made each time; that of a view always is. A trained aligner is
    loaded, never trained here.
    """
    if isinstance(aligner, TrainedAligner):
        return aligner.load_trained(anchors)
    if not isinstance(anchors, AnchorSet):
        if is_linear(aligner):
            find_moments(anchors, partial(sums_of_view, kernel=kernel))
        return aligner.fit(anchors)
    described = {"name": aligner.name, "parameters": aligner.parameters}
    try:
        kept = anchors.kept_fit(described)
        if kept is not None:
            return aligner.restore(anchors, kept)
    except (IntegrityError, KeyError) as error:
        _log.warning("a kept fit is not used: %s", str(error).splitlines()[0])
    if is_linear(aligner):
        find_moments(anchors, partial(sums, kernel=kernel))
    fitted = aligner.fit(anchors)
    arrays = fitted.arrays()
    if arrays:
        anchors.keep_fit(described, arrays)
    return fitted


def is_linear(aligner: Aligner) -> bool:
    """Tell whether an aligner, or a member of a fusion, is a closed-form map: it is solved from sums over anchors."""
    if isinstance(aligner, Fused):
        return any(is_linear(member.aligner) for member in aligner.members)
    return isinstance(aligner, Linear)


def sums_of_view(anchors: OpenAnchors, kernel: KernelName = "auto") -> Moments:
    """Sum over the pairs of a view, in the order and pieces in which a set of just these pairs would be summed."""
    assert isinstance(anchors, View)
    return Moments.over(anchors.iter_copied_blocks(), kernel)


def sums(anchors: AnchorSet, kernel: KernelName = "auto") -> Moments:
    """Sum over an anchor set, or take up sums that were kept, of it or of a version that shares most of its blocks.

    The latter are added to and taken from block by block. Sums that were changed are not used, as for fits.
    """
    try:
        kept = anchors.kept_sums()
        found = None if kept is None else Moments.from_arrays(kept.arrays)
    except (IntegrityError, KeyError) as error:
        _log.warning("kept sums are not used: %s", str(error).splitlines()[0])
        kept = found = None
    if kept is None or found is None:
        found = Moments.of(anchors, kernel)
    elif kept.is_exact:
        return found
    else:
        found = found + Moments.over(kept.added, kernel) if kept.added else found
        found = found - Moments.over(kept.removed, kernel) if kept.removed else found
    anchors.keep_sums(found.as_arrays())
    return found
