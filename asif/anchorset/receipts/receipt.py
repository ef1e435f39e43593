"""Receipts: a file that proves what a removal took out of a set, and that nothing else was changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asif.anchorset.format.checksummed_json import Fields, check_seal, parse_object, seal
from asif.anchorset.format.references import is_version
from asif.anchorset.receipts.merkle import MOST_BITS, bits_for, fold, group_of, leaf, root_of
from asif.errors import IntegrityError, UnknownFormat

FORMAT = 1
KIND = "asif removal receipt"
LARGEST = 1 << 30  # bytes
AGAIN = "take the receipt as it was written; for a removal without --purge make another: asif anchors receipt"


@dataclass(frozen=True)
class State:
    """Name a version, and the root of the tree over its row hashes."""

    version: str
    digest: str
    count: int
    root: str


@dataclass(frozen=True)
class Receipt:
    """Prove that the version `after` is `before` without the rows `removed`, and without those that were `erased`.

    All row hashes are ascending. `erased` are rows that `before` did not have: only hidden, or in older versions;
    with `embeddings`, the sha256 of what was stored of the rows, they come with a purge alone. `groups` are the hashes
    left in each group of the tree that one of the rows belongs to, `siblings` lead from there to both roots.
    """

    name: str
    purged: bool
    before: State
    after: State
    removed: tuple[bytes, ...]
    erased: tuple[bytes, ...]
    bits: int
    groups: tuple[bytes, ...]
    siblings: tuple[bytes, ...]
    embeddings: tuple[bytes, ...]
    time: str
    code: Mapping[str, str]
    limits: tuple[str, ...]

    @property
    def gone(self) -> list[bytes]:
        """Return the hashes of all rows that are gone, ascending."""
        return sorted([*self.removed, *self.erased])

    def to_bytes(self) -> bytes:
        """Serialise; `from_bytes` reads it back."""
        return seal(
            {
                "kind": KIND,
                "format": FORMAT,
                "set": self.name,
                "operation": {"kind": "purge" if self.purged else "remove", "pairs": len(self.removed)},
                "purged": self.purged,
                "time": self.time,
                "before": vars(self.before),
                "after": vars(self.after),
                "removed": _hex(self.removed),
                "erased": _hex(self.erased),
                "bits": self.bits,
                "groups": _hex(self.groups),
                "siblings": _hex(self.siblings),
                "embeddings": _hex(self.embeddings),
                "code": dict(self.code),
                "limits": list(self.limits),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Receipt:
        """Read a receipt from untrusted bytes, and check its proof; `where` is named in errors.

        Raises IntegrityError for what is no receipt, was changed, or does not prove what it says, UnknownFormat.
        """
        try:
            return _from_bytes(data, where)
        except UnknownFormat:
            raise
        except IntegrityError as error:
            raise IntegrityError(error.came, error.expected, AGAIN) from error


def _from_bytes(data: bytes, where: str) -> Receipt:
    parsed = parse_object(data, where)
    fields = Fields(parsed, where)
    if parsed.get("kind") != KIND:
        raise fields.wrong({"kind": parsed.get("kind")}, f"kind: {KIND!r}")
    if fields.whole("format") != FORMAT:
        came = f"a receipt of format {fields.whole('format')}"
        raise UnknownFormat(came, f"format {FORMAT}", "upgrade asif: pip install -U asif")
    check_seal(parsed, data, where)
    receipt = _read(fields, parsed)
    if receipt.to_bytes() != data:
        raise IntegrityError(f"{where} has fields that no receipt has", "those of this format", AGAIN)
    try:
        _check(receipt)
    except ValueError as error:
        raise IntegrityError(f"{where} proves nothing: {error}", "the proof as written", AGAIN) from error
    return receipt


def _check(receipt: Receipt) -> None:
    """Raise ValueError unless the proof leads from the rows and groups to both roots."""
    gone = [*receipt.removed, *receipt.erased]
    if not gone or len(set(gone)) != len(gone) or gone != [*sorted(receipt.removed), *sorted(receipt.erased)]:
        raise ValueError("its rows are none, not in order, or not distinct")
    if receipt.before.count - receipt.after.count != len(receipt.removed):
        raise ValueError("the numbers of rows do not add up")
    touched, known = touched_groups(receipt), set(gone)
    if len(touched) != len(receipt.groups) or receipt.bits != bits_for(receipt.before.count):
        raise ValueError("its groups are not those of its rows")
    back: dict[int, list[bytes]] = {at: [] for at in touched}
    for one in receipt.removed:
        back[group_of(one, receipt.bits)].append(one)
    was, now = {}, {}
    for at, group in zip(touched, receipt.groups, strict=True):
        left = [group[start : start + 32] for start in range(0, len(group), 32)]
        if left != sorted(set(left)) or any(len(one) != 32 or group_of(one, receipt.bits) != at for one in left):
            raise ValueError(f"the group {at} is not one")
        if not known.isdisjoint(left):
            raise ValueError(f"the group {at} still holds a row that it says is gone")
        was[at], now[at] = leaf(b"".join(sorted(left + back[at]))), leaf(group)
    for state, leaves in ((receipt.before, was), (receipt.after, now)):
        if root_of(fold(leaves, receipt.bits, receipt.siblings), receipt.bits, state.count) != state.root:
            raise ValueError(f"its groups and siblings do not lead to the root of {state.version}")


def touched_groups(receipt: Receipt) -> list[int]:
    """Return the groups of the tree that the rows of a receipt belong to, in order."""
    return sorted({group_of(one, receipt.bits) for one in (*receipt.removed, *receipt.erased)})


def _hex(values: Sequence[bytes]) -> list[str]:
    return [value.hex() for value in values]


def _read(fields: Fields, parsed: Mapping[str, Any]) -> Receipt:
    bits = fields.whole("bits")
    if bits > MOST_BITS:
        raise fields.wrong({"bits": bits}, f"bits: at most {MOST_BITS}")
    return Receipt(
        fields.text("set"),
        parsed.get("purged") is True,
        _state(fields.within("before")),
        _state(fields.within("after")),
        _bytes(fields, "removed", 32),
        _bytes(fields, "erased", 32),
        bits,
        _bytes(fields, "groups", None),
        _bytes(fields, "siblings", 32),
        _bytes(fields, "embeddings", 32),
        fields.text("time"),
        dict(fields.mapping("code")),
        tuple(fields.items("limits")),
    )


def _state(fields: Fields) -> State:
    state = State(fields.text("version"), fields.sha256("digest"), fields.whole("count", 1), fields.sha256("root"))
    if not is_version(state.version) or not state.version.endswith(f"-{state.digest[:12]}"):
        raise fields.wrong({"version": state.version}, "version: one with that digest")
    return state


def _bytes(fields: Fields, name: str, size: int | None) -> tuple[bytes, ...]:
    found = fields.items(name)
    try:
        values = tuple(bytes.fromhex(value) for value in found)
    except (TypeError, ValueError):
        raise fields.wrong({name: found}, f"{name}: a list of bytes in hexadecimal") from None
    if size is not None and any(len(value) != size for value in values):
        raise fields.wrong({name: found}, f"{name}: {size} bytes each")
    return values
