"""Hide passwords and tokens in URLs before they are shown."""

from __future__ import annotations

import re

HIDDEN = "…"
_PASSWORD = re.compile(r"://[^/:@\s]*:(?!\d+/)[^@\s]*@|(?<=http)://[^/@\s]*@|(?<=https)://[^/@\s]*@")
_QUERY = re.compile(r"(://(?:(?!::)[^\s'\"<>?])*)\?(?:(?!::)[^\s'\"<>])+")
_FRAGMENT = re.compile(r"(?<=#).+")


def redact_url(url: str) -> str:
    """Hide the credentials of a URL, or of every URL in an fsspec chain; other text stays as it is.

    A user or container without a password is shown, except for http, where it may be a token.

    >>> redact_url("simplecache::https://me:secret@host/a.parquet?sig=abc"), redact_url("sftp://me@host/a.tar")
    ('simplecache::https://…@host/a.parquet?…', 'sftp://me@host/a.tar')
    """
    return "::".join(_redact_link(link) for link in url.split("::")) if "://" in url else url


def redact_text(text: str) -> str:
    """Hide the credentials of every URL in a text.

    >>> redact_text("403, url='https://me:secret@host/a?sig=abc', retried")
    "403, url='https://…@host/a?…', retried"
    """
    return _QUERY.sub(rf"\1?{HIDDEN}", _PASSWORD.sub(f"://{HIDDEN}@", text))


def _redact_link(link: str) -> str:
    path, mark, query = _PASSWORD.sub(f"://{HIDDEN}@", link).partition("?")
    if path.startswith("http"):
        path = _FRAGMENT.sub(HIDDEN, path)
    return f"{path}{mark}{HIDDEN if query else ''}"
