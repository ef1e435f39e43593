"""Keys of a service: who calls, what he may see and do, and how often."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

Role = Literal["read", "edit", "admin"]
ROLES: tuple[Role, ...] = ("read", "edit", "admin")
"""Each role may do what those before it may."""
HASH_LENGTH = 64
_PREFIX = "asif_"
_KEY_BYTES = 32


@dataclass(frozen=True)
class Grant:
    """Say what the holder of a key may do: as which tenant, with which role, on which anchors and galleries.

    `sha256` is the hash of the key in hex. `anchors` and `galleries` None mean all that are served. Pairs that do not
    match `where`, and items that do not match `items_where`, do not exist for him.
    """

    sha256: str
    tenant: str
    role: Role = "read"
    anchors: tuple[str, ...] | None = None
    galleries: tuple[str, ...] | None = None
    where: str | None = None
    items_where: str | None = None
    requests_per_minute: int | None = None

    def may(self, role: Role) -> bool:
        """Tell whether the grant's role includes another.

        >>> Grant("", "us", "edit").may("read"), Grant("", "us", "edit").may("admin")
        (True, False)
        """
        return ROLES.index(self.role) >= ROLES.index(role)

    def may_see_anchors(self, name: str) -> bool:
        return self.anchors is None or name in self.anchors

    def may_see_gallery(self, name: str) -> bool:
        return self.galleries is None or name in self.galleries


OWNER = Grant("", "", "admin")
"""The caller of a service without keys, who is on the same machine."""


def make_key() -> str:
    """Return a new key, of 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def hash_key(key: str) -> str:
    """Return the hash by which a key is known; keys are random, so that one round is enough."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


class KeyRing:
    """Find the grant of a key, and count the requests of each."""

    def __init__(self, grants: Sequence[Grant]) -> None:
        self._grants = {grant.sha256: grant for grant in grants}
        self._buckets = {
            grant.sha256: TokenBucket(grant.requests_per_minute) for grant in grants if grant.requests_per_minute
        }

    @property
    def is_open(self) -> bool:
        """Tell whether there are no keys, so that everyone who can call is the owner."""
        return not self._grants

    def find(self, key: str | None) -> Grant | None:
        """Return the grant of a key; None for no key, or one that is not known."""
        if self.is_open:
            return OWNER
        return None if key is None else self._grants.get(hash_key(key))

    def take(self, grant: Grant) -> float:
        """Count one request; returns 0, or the seconds until the next one is allowed."""
        bucket = self._buckets.get(grant.sha256)
        return 0.0 if bucket is None else bucket.take()


@dataclass
class TokenBucket:
    """Allow so many requests in a minute, of which a tenth may come at once."""

    per_minute: int
    _tokens: float = field(init=False)
    _filled: float = field(init=False)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._tokens = self._most = max(1.0, self.per_minute / 10)
        self._filled = time.monotonic()

    def take(self) -> float:
        """Take a token; returns 0, or the seconds until there is one."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._most, self._tokens + (now - self._filled) * self.per_minute / 60)
            self._filled = now
            if self._tokens >= 1:
                self._tokens -= 1
                return 0.0
            return (1 - self._tokens) * 60 / self.per_minute
