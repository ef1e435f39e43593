"""Check that an encoder is the one that made some anchors, or another backend of it that gives the same answers."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from asif.anchorset import OpenAnchors
from asif.encoders import Backend, ImageEncoder, TextEncoder
from asif.encoders.backends.probe import (
    INPUTS,
    ProbeVerdict,
    VerdictCache,
    count_other_neighbours,
    encode_probe,
    is_same_model,
)
from asif.errors import EncoderMismatch, MissingDependency
from asif.kernels import topk_similarity
from asif.vectors import Fingerprint, Side

_NEAREST = 10

_log = logging.getLogger(__name__)

Encoder = ImageEncoder | TextEncoder


def check_encoder(
    anchors: OpenAnchors, side: Side, encoder: Encoder, verdicts: VerdictCache, open_on: Callable[[Backend], Encoder]
) -> None:
    """Raise EncoderMismatch, naming the fields that differ, for an encoder that did not make one side of the anchors.

    Another float32 backend of the same model may answer if both agree on the probe inputs: the largest difference is
    at most 1e-5, and the ten nearest anchors are the same. `open_on` opens the encoder on a backend for that; verdicts
    are kept by both fingerprints and the machine.
    """
    expected, mine = anchors.fingerprint(side), encoder.fingerprint
    if expected == mine:
        return
    if not is_same_model(expected, mine):
        differing = expected.differences(mine)
        details = "; ".join(f"{name}: {was!r} in the set, {now!r} here" for name, (was, now) in differing.items())
        raise _make_mismatch(anchors, side, encoder, details)
    verdict = verdicts.find(expected, mine, INPUTS)
    if verdict is None:
        verdict = _probe(anchors, side, encoder, open_on)
        verdicts.add(expected, mine, INPUTS, verdict)
    if not verdict.passed:
        why = f"{_name_backend(mine)} gives other vectors than {_name_backend(expected)}: {verdict}"
        raise _make_mismatch(anchors, side, encoder, why, f"pass --backend {expected.fields['backend']}, or ")


def _probe(anchors: OpenAnchors, side: Side, encoder: Encoder, open_on: Callable[[Backend], Encoder]) -> ProbeVerdict:
    """Compare an encoder with the backend that made the anchors.

    Another version or export of its own backend is compared with torch, from which all exports are made.
    """
    expected, mine = anchors.fingerprint(side), encoder.fingerprint
    made_by = expected.fields["backend"]
    other: Backend = "torch" if made_by == mine.fields["backend"] else made_by
    _log.info("comparing %s on %s and %s, once", encoder.spec, mine.fields["backend"], other)
    try:
        reference = open_on(other)
    except MissingDependency as error:
        why = f"runs on {_name_backend(mine)}, and {made_by} is not here to compare it with"
        raise _make_mismatch(anchors, side, encoder, why, f"{error.fix}, or ") from error
    if reference.fingerprint.fields["backend"] != other or not is_same_model(reference.fingerprint, mine):
        raise _make_mismatch(anchors, side, encoder, f"{other} cannot run the same model here")
    ones, others = encode_probe(encoder, side), encode_probe(reference, side)
    blocks, k = list(anchors.blocks(side)), min(_NEAREST, anchors.count)
    near = [topk_similarity(rows, blocks, k) for rows in (ones, others)]
    differing = count_other_neighbours((near[0].scores, near[0].indices), (near[1].scores, near[1].indices))
    return ProbeVerdict(float(np.abs(ones - others).max()), differing)


def _make_mismatch(anchors: OpenAnchors, side: Side, encoder: Encoder, why: str, first: str = "") -> EncoderMismatch:
    """Return the error; `first` is advice to try before the anchors are built again."""
    return EncoderMismatch(
        f"{side} encoder {encoder.spec} with fingerprint {encoder.fingerprint.digest[:12]} ({why})",
        f"fingerprint {anchors.fingerprint(side).digest[:12]}, with which {anchors.ref} was made",
        f"{first}build the anchors again with this encoder: asif build-anchors PAIRS --name {anchors.name} "
        f"--{side}-encoder {encoder.spec}",
    )


def _name_backend(fingerprint: Fingerprint) -> str:
    """Return backend and version.

    >>> _name_backend(Fingerprint({"backend": "onnx", "backend_version": "1.23"})), _name_backend(Fingerprint({}))
    ('onnx 1.23', 'torch')
    """
    fields = fingerprint.fields
    return " ".join(str(fields[name]) for name in ("backend", "backend_version") if name in fields) or "torch"
