"""Load encoders of sounds by name: `clap:…`, `whisper:…`, `hf-audio:…`, `embedded:log-mel`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import cast

from asif.encoders.audio.log_mel import SPEC, load_log_mel
from asif.encoders.audio.transformers_ import AudioLibrary, load_transformers_encoder
from asif.encoders.audio.windows import SoundEncoder
from asif.encoders.backends.runtime import Backend
from asif.encoders.precision import Precision
from asif.encoders.torch_common import Device
from asif.errors import UsageError, suggest_nearest

AUDIO_FORMS = ("clap:<id>[@revision]", "whisper:<id>[@revision]", "hf-audio:<id>[@revision]", SPEC)
_LIBRARIES = tuple(form.partition(":")[0] for form in AUDIO_FORMS[:3])

_log = logging.getLogger(__name__)


def load_audio_encoder(
    spec: str,
    device: Device = "auto",
    backend: Backend = "auto",
    cache: Path | None = None,
    precision: Precision = "float32",
) -> SoundEncoder:
    """Load an encoder of sounds; torch runs those of transformers, whatever `backend` is; `cache` has no exports.

    Raises UsageError for an unknown name, and for a precision in which the device does not compute.
    """
    library, name = parse_audio_spec(spec)
    if library == "embedded":
        if precision != "float32":
            raise UsageError(f"the precision {precision} with {spec}", "float32", "leave the precision out")
        return load_log_mel()
    if backend not in ("auto", "torch"):
        _log.warning("torch runs %s, not %s: encoders of sounds are not exported", spec, backend)
    return load_transformers_encoder(cast("AudioLibrary", library), name, device, precision)


def parse_audio_spec(spec: str) -> tuple[str, str]:
    """Split the name of an encoder of sounds into library and model; raises UsageError for an unknown library.

    >>> parse_audio_spec("clap:laion/clap-htsat-unfused")
    ('clap', 'laion/clap-htsat-unfused')
    """
    library, _, name = spec.partition(":")
    if spec != SPEC and (library not in _LIBRARIES or not name):
        example = "for example clap:laion/clap-htsat-unfused"
        near = suggest_nearest(library, _LIBRARIES, example)
        fix = (
            example if not name else f"write {SPEC}" if library == "embedded" else near.replace(", if", f":{name}, if")
        )
        raise UsageError(f"the audio encoder is {spec!r}", " or ".join(AUDIO_FORMS), fix)
    return library, name
