"""What may be shown of a URL: not its password, nor the token in its query."""

from __future__ import annotations

import re

HIDDEN = "…"
_PASSWORD = re.compile(r"://[^/:@\s]*:(?!\d+/)[^@\s]*@|(?<=http)://[^/@\s]*@|(?<=https)://[^/@\s]*@")
_QUERY = re.compile(r"(://(?:(?!::)[^\s'\"<>?])*)\?(?:(?!::)[^\s'\"<>])+")
_FRAGMENT = re.compile(r"(?<=#).+")


def redacted(url: str) -> str:
    """Hide the credentials of a URL, or of every link of a chain; what is no URL stays as it is.

    A user or container without a password is shown, but for http, where it may be a token.

    >>> redacted("simplecache::https://me:secret@host/a.parquet?sig=abc"), redacted("sftp://me@host/a.tar")
    ('simplecache::https://…@host/a.parquet?…', 'sftp://me@host/a.tar')
    """
    return "::".join(_link(link) for link in url.split("::")) if "://" in url else url


def scrubbed(text: str) -> str:
    """Hide the credentials of every URL in a text.

    >>> scrubbed("403, url='https://me:secret@host/a?sig=abc', retried")
    "403, url='https://…@host/a?…', retried"
    """
    return _QUERY.sub(rf"\1?{HIDDEN}", _PASSWORD.sub(f"://{HIDDEN}@", text))


def _link(link: str) -> str:
    path, mark, query = _PASSWORD.sub(f"://{HIDDEN}@", link).partition("?")
    if path.startswith("http"):
        path = _FRAGMENT.sub(HIDDEN, path)
    return f"{path}{mark}{HIDDEN if query else ''}"
