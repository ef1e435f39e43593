"""What a service serves, to whom, and within which limits: options of the command, and `serve.toml`."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from asif.anchorset.format.references import parse_reference, parse_union
from asif.building.toml_schema import ValueKind, check_allowed, check_toml_table
from asif.defaults import DEFAULT_ANCHORS
from asif.errors import UsageError
from asif.pairs.filter_expression import parse_where
from asif.pairs.item import ITEM_FIELDS
from asif.service.keys import HASH_LENGTH, ROLES, Grant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MOST_PORT = 65_535


@dataclass(frozen=True)
class Limits:
    """Bound what one request may bring and how much may wait; the names are those of `[limits]` in serve.toml."""

    body_mb: float = 10.0
    images: int = 64
    megapixels: float = 50.0
    text_kb: float = 32.0
    results: int = 1_000
    labels: int = 10_000
    queries: int = 256
    queue_items: int = 1_024
    queue_mb: float = 256.0
    deadline_s: float = 30.0
    body_s: float = 20.0
    drain_s: float = 30.0

    @property
    def body_bytes(self) -> int:
        return int(self.body_mb * 1e6)

    @property
    def pixels(self) -> int:
        return int(self.megapixels * 1e6)

    @property
    def text_bytes(self) -> int:
        return int(self.text_kb * 1e3)

    @property
    def queue_bytes(self) -> int:
        return int(self.queue_mb * 1e6)


@dataclass(frozen=True)
class ServeConfig:
    """Say what is served: references of anchors and galleries, where, the limits, keys, and hosts of image URLs.

    Without `grants` no key is needed, and only this machine may call. `state` is a folder that several workers share.
    """

    home: Path
    anchors: tuple[str, ...] = (DEFAULT_ANCHORS,)
    galleries: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    grants: tuple[Grant, ...] = ()
    fetch_hosts: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    device: str = "auto"
    backend: str = "auto"
    access_log: bool = False
    state: Path | None = None

    def __post_init__(self) -> None:
        for kind, refs in (("anchors", self.anchors), ("galleries", self.galleries)):
            names = list(map(name_reference, refs))
            repeated = [name for name in names if names.count(name) > 1]
            if repeated:
                raise UsageError(f"{kind} {repeated[0]!r} is named twice", "each name once", "leave one of them out")
        if not self.anchors:
            raise UsageError("no anchors", "one anchor set at least", f"name one, for example {DEFAULT_ANCHORS}")
        if not 0 <= self.port <= _MOST_PORT:
            raise UsageError(f"the port {self.port}", f"0 to {_MOST_PORT}", "pass --port 8000")
        if not self.is_local and not self.grants:
            raise UsageError(
                f"the host {self.host}, which other machines can reach, without keys",
                "127.0.0.1, or keys in the configuration",
                "make one with asif serve --new-key, put its lines into serve.toml, and pass --config serve.toml",
            )
        self._check_names()

    def _check_names(self) -> None:
        """Refuse keys that name what is not served."""
        known = {
            "anchors": set(map(name_reference, self.anchors)),
            "galleries": set(map(name_reference, self.galleries)),
        }
        for grant in self.grants:
            for kind, named in (("anchors", grant.anchors), ("galleries", grant.galleries)):
                for name in named or ():
                    check_allowed(name, known[kind], f"a key of {grant.tenant!r} names {kind} {name!r}")

    @property
    def is_local(self) -> bool:
        """Tell whether only this machine can call."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own.

    >>> [is_loopback(each) for each in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def name_reference(ref: str) -> str:
    """Return the name by which a reference is served: that of its sets, without aliases and versions.

    >>> name_reference("coco@best"), name_reference("./sets/own"), name_reference("coco+own@2")
    ('coco', 'own', 'coco+own')
    """
    names = []
    for part in parse_union(ref):
        reference = parse_reference(part)
        names.append(reference.name or (reference.path or Path()).name)
    return "+".join(names)


_SERVER: dict[str, ValueKind] = {"anchors": "texts", "galleries": "texts", "host": "text", "port": "count"}
_SERVER |= {"workers": "count", "hosts": "texts", "device": "text", "backend": "text"}
_KEY: dict[str, ValueKind] = {"anchors": "texts", "galleries": "texts", "where": "text", "items_where": "text"}
_KEY |= {"role": "text", "requests_per_minute": "count"}


def read_config(path: Path, home: Path) -> ServeConfig:
    """Read a `serve.toml`; raises UsageError, which names the table, for anything unknown or of another kind."""
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_bytes().decode())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "a file in TOML, in UTF-8", "correct the file") from error
    kinds: dict[str, ValueKind] = {"server": "table", "limits": "table", "keys": "tables", "fetch": "table"}
    top = check_toml_table(tables, str(path), {}, kinds)
    server = check_toml_table(top["server"] or {}, f"[server] of {path}", {}, _SERVER)
    fetch = check_toml_table(top["fetch"] or {}, f"[fetch] of {path}", {}, {"hosts": "texts"})
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in server.items() if value
    }
    return ServeConfig(
        home,
        **given,
        limits=_read_limits(top["limits"] or {}, f"[limits] of {path}"),
        grants=tuple(_read_grant(key, f"a key of {path}") for key in top["keys"] or ()),
        fetch_hosts=tuple(fetch["hosts"] or ()),
    )


def _read_limits(table: Mapping[str, Any], where: str) -> Limits:
    kinds: dict[str, ValueKind] = {
        each.name: "count" if each.type in (int, "int") else "number" for each in fields(Limits)
    }
    given = {name: value for name, value in check_toml_table(table, where, {}, kinds).items() if value is not None}
    for name, value in given.items():
        if value <= 0:
            raise UsageError(f"{where} has {name} = {value}", "a number above 0", f"correct {name}")
    return replace(Limits(), **given)


def _read_grant(table: Mapping[str, Any], where: str) -> Grant:
    found = check_toml_table(table, where, {"sha256": "text", "tenant": "text"}, _KEY)
    role = check_allowed(found.pop("role") or "read", ROLES, f"{where} has the role {table.get('role')!r}")
    digest = found.pop("sha256").lower()
    if len(digest) != HASH_LENGTH or set(digest) - set("0123456789abcdef"):
        raise UsageError(f"{where} has sha256 = {digest[:80]!r}", "64 hex digits", "make a key: asif serve --new-key")
    if found["where"]:
        parse_where(found["where"])
    if found["items_where"]:
        parse_where(found["items_where"], ITEM_FIELDS)
    names = {name: _take_names(found.pop(name)) for name in ("anchors", "galleries")}
    return Grant(digest, found.pop("tenant"), role, **names, **found)  # type: ignore[arg-type]


def _take_names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)
