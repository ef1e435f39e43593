"""Check that an encoder is the one that made a set, or another backend of it that gives the same answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from asif.anchorset import EncodedSet
from asif.anchorset.format.kinds import ANCHORS, GALLERY
from asif.encoders import Backend, ImageEncoder, TextEncoder
from asif.encoders.backends.probe import (
    INPUTS,
    RUN_FIELDS,
    ProbeVerdict,
    VerdictCache,
    count_other_neighbours,
    encode_probe,
    is_same_model,
)
from asif.encoders.precision import Precision, find_precision
from asif.errors import EncoderMismatch, MissingDependency, UsageError
from asif.kernels import topk_similarity
from asif.vectors import Fingerprint, Side

_NEAREST = 10

_log = logging.getLogger(__name__)

Encoder = ImageEncoder | TextEncoder


def check_encoder(
    stored: EncodedSet, side: Side, encoder: Encoder, verdicts: VerdictCache, open_on: Callable[[Backend], Encoder]
) -> None:
    """Raise EncoderMismatch, naming the fields that differ, for an encoder that did not make one side of a set.

    Another float32 backend of the same model may answer if both agree on the probe inputs: the largest difference is
    at most 1e-5, and the ten nearest rows of the set are the same. `open_on` opens the encoder on a backend for that;
    verdicts are kept by both fingerprints and the machine. In bfloat16 and float16 all fields must be equal: backend,
    version, device, export and the size of passes.
    """
    expected, mine = stored.fingerprint(side), encoder.fingerprint
    if expected == mine:
        return
    if not is_same_model(expected, mine):
        differing = expected.differences(mine)
        details = _describe_differences(expected, mine)
        advice = ""
        if set(differing) <= RUN_FIELDS and {find_precision(expected), find_precision(mine)} != {"float32"}:
            details += "; only in float32 may another backend, version or device answer"
            advice = advise_run(differing)
        raise _make_mismatch(stored, side, encoder, details, advice)
    verdict = verdicts.find(expected, mine, INPUTS)
    if verdict is None:
        verdict = _probe(stored, side, encoder, open_on)
        verdicts.add(expected, mine, INPUTS, verdict)
    if not verdict.passed:
        why = f"{_name_backend(mine)} gives other vectors than {_name_backend(expected)}: {verdict}"
        raise _make_mismatch(stored, side, encoder, why, advise_run(expected.differences(mine)))


def _probe(stored: EncodedSet, side: Side, encoder: Encoder, open_on: Callable[[Backend], Encoder]) -> ProbeVerdict:
    """Compare an encoder with the backend that made a set.

    Another version or export of its own backend is compared with torch, from which all exports are stored.
    """
    expected, mine = stored.fingerprint(side), encoder.fingerprint
    made_by = expected.fields["backend"]
    other: Backend = "torch" if made_by == mine.fields["backend"] else made_by
    _log.info("comparing %s on %s and %s, once", encoder.spec, mine.fields["backend"], other)
    try:
        reference = open_on(other)
    except (MissingDependency, UsageError) as error:  # a backend that is not installed, or that is not known
        why = f"runs on {_name_backend(mine)}, and {made_by} is not here to compare it with"
        raise _make_mismatch(stored, side, encoder, why, f"{error.fix}, or ") from error
    if reference.fingerprint.fields["backend"] != other or not is_same_model(reference.fingerprint, mine):
        raise _make_mismatch(
            stored, side, encoder, f"{_describe_differences(expected, mine)}; {other} cannot run the same model here"
        )
    ones, others = encode_probe(encoder, side), encode_probe(reference, side)
    blocks, k = list(stored.blocks(side)), min(_NEAREST, stored.count)
    near = [topk_similarity(rows, blocks, k) for rows in (ones, others)]
    differing = count_other_neighbours((near[0].scores, near[0].indices), (near[1].scores, near[1].indices))
    return ProbeVerdict(float(np.abs(ones - others).max()), differing)


def _describe_differences(expected: Fingerprint, mine: Fingerprint) -> str:
    differing = expected.differences(mine)
    return "; ".join(f"{name}: {was!r} in the set, {now!r} here" for name, (was, now) in differing.items())


def advise_run(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """Return the options with which the model runs as it did when a set was made; "" if no options do that.

    >>> advise_run({"backend": ("torch", "openvino"), "export_sha256": (None, "ab")})
    'pass --backend torch, or '
    >>> advise_run({"backend": ("torch+openvino", "torch")})
    ''
    """
    made_by = {name: differing.get(name, (None, None))[0] for name in ("backend", "device")}
    options = [f"--{name} {value}" for name, value in made_by.items() if value and "+" not in value]
    return f"pass {' '.join(options)}, or " if options and "dtype" not in differing else ""


def _make_mismatch(stored: EncodedSet, side: Side, encoder: Encoder, why: str, first: str = "") -> EncoderMismatch:
    """Return the error; `first` is advice to try before the set is built again."""
    came = f"{encoder.spec} with fingerprint {encoder.fingerprint.digest[:12]} ({why})"
    return make_mismatch(stored, side, came, first, find_precision(encoder.fingerprint))


def make_mismatch(
    stored: EncodedSet, side: Side, came: str, first: str = "", precision: Precision = "float32"
) -> EncoderMismatch:
    """Return the error about an encoder that `came` describes; `first` is advice to try before a set is built again.

    `precision` is that of the set to be built.
    """
    noun = "anchors" if stored.kind is ANCHORS else stored.kind.noun
    options = "--kind text " if stored.kind is GALLERY and side == "text" else ""
    options += f"--{side}-encoder {stored.encoder_spec(side)}"
    options += "" if precision == "float32" else f" --precision {precision}"
    return EncoderMismatch(
        f"{side} encoder {came}",
        f"fingerprint {stored.fingerprint(side).digest[:12]}, with which {stored.ref} was made",
        f"{first}build the {noun} again with this encoder: {stored.kind.build} --name {stored.name} {options}",
    )


def _name_backend(fingerprint: Fingerprint) -> str:
    """Return backend and version.

    >>> _name_backend(Fingerprint({"backend": "onnx", "backend_version": "1.23"})), _name_backend(Fingerprint({}))
    ('onnx 1.23', 'torch')
    """
    fields = fingerprint.fields
    return " ".join(str(fields[name]) for name in ("backend", "backend_version") if name in fields) or "torch"
