"""Loading models from the Hugging Face Hub: without network from the local cache alone, and retries reported once.

A door to huggingface_hub.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock, Thread
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

_PROBE_SECONDS = 5.0
_RETRY_LOGGER = "huggingface_hub.utils._http"

_log = logging.getLogger(__name__)
_lock = Lock()


@contextmanager
def open_hub(place: str) -> Iterator[None]:
    """Let a library load a model of the hub; where the hub does not answer within seconds, from the cache alone.

    A `place` that is a path here needs no hub. The setting is one of the whole process, hence one load at a time.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or os.path.exists(place):
        yield
        return
    retries = logging.getLogger(_RETRY_LOGGER)
    first_only = _FirstRetry()
    with _lock:
        retries.addFilter(first_only)
        try:
            if not _is_reachable(constants.ENDPOINT):
                _remark_unreachable(constants.ENDPOINT)
                constants.HF_HUB_OFFLINE = True
            yield
        finally:
            constants.HF_HUB_OFFLINE = False
            retries.removeFilter(first_only)


class _FirstRetry(logging.Filter):
    """Let one message about a failed request, and one about its retry, through."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.getMessage()[:8]
        if kind != "Retrying" and "thrown while requesting" not in record.getMessage():
            return True
        kind = kind if kind == "Retrying" else "thrown"
        is_new = kind not in self._seen
        self._seen.add(kind)
        return is_new


def _is_reachable(endpoint: str) -> bool:
    """Tell whether a server answers with anything; a resolver that hangs counts as no answer."""
    answers: list[bool] = []
    probe = Thread(target=lambda: answers.append(_answers(endpoint)), daemon=True)
    probe.start()
    probe.join(_PROBE_SECONDS + 1)
    return bool(answers) and answers[0]


def _answers(endpoint: str) -> bool:
    try:
        with urlopen(Request(endpoint, method="HEAD"), timeout=_PROBE_SECONDS):
            return True
    except HTTPError:
        return True
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # the library may know the certificate
    except OSError:
        return False


@cache
def _remark_unreachable(endpoint: str) -> None:
    _log.warning("the hub %s does not answer: models are loaded from the local cache, if they are there", endpoint)
