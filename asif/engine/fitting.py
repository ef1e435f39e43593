"""Fits of aligners to anchor sets, taken from where they were kept, or made and kept."""

from __future__ import annotations

import logging

from asif.aligners import Aligner, Fitted
from asif.anchorset import AnchorSet
from asif.errors import IntegrityError

_log = logging.getLogger(__name__)


def fit(aligner: Aligner, anchors: AnchorSet) -> Fitted:
    """Fit an aligner to an anchor set, or take up what an earlier fit of it came to; a new one is kept.

    A kept fit that was changed, or belongs to other anchors, is not used: it is named in the log, and made anew. Where
    the store cannot be written, the fit is made each time.
    """
    described = {"name": aligner.name, "parameters": aligner.parameters}
    try:
        kept = anchors.kept_fit(described)
        if kept is not None:
            return aligner.restore(anchors, kept)
    except (IntegrityError, KeyError) as error:
        _log.warning("a kept fit is not used: %s", str(error).splitlines()[0])
    fitted = aligner.fit(anchors)
    arrays = fitted.arrays()
    if arrays:
        anchors.keep_fit(described, arrays)
    return fitted
