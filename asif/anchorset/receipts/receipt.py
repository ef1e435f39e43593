"""Receipts: a file that proves which rows a removal took out of a set, and that nothing else was changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asif.anchorset.format.checksummed_json import JsonFields, check_checksum, parse_json_object
from asif.anchorset.format.references import is_version
from asif.anchorset.receipts.merkle import MAX_BITS, choose_group_bits, find_group, fold_proof, hash_leaf, hash_root
from asif.errors import IntegrityError, UnknownFormat
from asif.vectors import dump_checksummed

_FORMAT = 1
_KIND = "asif removal receipt"
MAX_RECEIPT_BYTES = 1 << 30
_REMEDY = "take the receipt as it was written; for a removal without --purge make another: asif anchors receipt"


@dataclass(frozen=True)
class VersionRoot:
    """Identify a version, with the root of the Merkle tree over its row hashes."""

    version: str
    digest: str
    count: int
    root: str


@dataclass(frozen=True)
class Receipt:
    """Prove that the version `after` is `before` without the rows `removed` and `erased`.

    All row hashes are ascending. `erased` are rows that `before` had only as deleted ones, or that only older versions
    had. Only a purge has them, and `embeddings`, the sha256 of the embeddings stored for the rows. `groups` are the
    hashes left in each group of the tree that one of the rows belongs to; with `siblings` they give both roots.
    """

    name: str
    purged: bool
    before: VersionRoot
    after: VersionRoot
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
    def all_removed(self) -> list[bytes]:
        """Return the hashes of all removed and erased rows, ascending."""
        return sorted([*self.removed, *self.erased])

    def to_bytes(self) -> bytes:
        """Serialise; `from_bytes` reads it back."""
        return dump_checksummed(
            {
                "kind": _KIND,
                "format": _FORMAT,
                "set": self.name,
                "operation": {"kind": "purge" if self.purged else "remove", "pairs": len(self.removed)},
                "purged": self.purged,
                "time": self.time,
                "before": vars(self.before),
                "after": vars(self.after),
                "removed": _format_hex(self.removed),
                "erased": _format_hex(self.erased),
                "bits": self.bits,
                "groups": _format_hex(self.groups),
                "siblings": _format_hex(self.siblings),
                "embeddings": _format_hex(self.embeddings),
                "code": dict(self.code),
                "limits": list(self.limits),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Receipt:
        """Read a receipt from untrusted bytes, and check its proof; `where` is named in errors.

        Raises IntegrityError for anything but a receipt, for one that was changed or whose proof does not hold, and
        UnknownFormat.
        """
        try:
            return _parse_receipt(data, where)
        except UnknownFormat:
            raise
        except IntegrityError as error:
            raise IntegrityError(error.came, error.expected, _REMEDY) from error


def _parse_receipt(data: bytes, where: str) -> Receipt:
    parsed = parse_json_object(data, where)
    fields = JsonFields(parsed, where)
    if parsed.get("kind") != _KIND:
        raise fields.mismatch({"kind": parsed.get("kind")}, f"kind: {_KIND!r}")
    if fields.integer("format") != _FORMAT:
        came = f"a receipt of format {fields.integer('format')}"
        raise UnknownFormat(came, f"format {_FORMAT}", "upgrade asif: pip install -U asif")
    check_checksum(parsed, data, where)
    receipt = _read_fields(fields, parsed)
    if receipt.to_bytes() != data:
        raise IntegrityError(f"{where} has fields that no receipt has", "those of this format", _REMEDY)
    try:
        _check_proof(receipt)
    except ValueError as error:
        raise IntegrityError(f"{where} proves nothing: {error}", "the proof as written", _REMEDY) from error
    return receipt


def _check_proof(receipt: Receipt) -> None:
    """Raise ValueError unless the rows and groups lead to both roots."""
    gone = [*receipt.removed, *receipt.erased]
    if not gone or len(set(gone)) != len(gone) or gone != [*sorted(receipt.removed), *sorted(receipt.erased)]:
        raise ValueError("its rows are none, not in order, or not distinct")
    if receipt.before.count - receipt.after.count != len(receipt.removed):
        raise ValueError("the numbers of rows do not add up")
    touched, gone_set = _find_touched_groups(receipt), set(gone)
    if len(touched) != len(receipt.groups) or receipt.bits != choose_group_bits(receipt.before.count):
        raise ValueError("its groups are not those of its rows")
    removed: dict[int, list[bytes]] = {number: [] for number in touched}
    for row_hash in receipt.removed:
        removed[find_group(row_hash, receipt.bits)].append(row_hash)
    before, after = {}, {}
    for number, group in zip(touched, receipt.groups, strict=True):
        left = [group[start : start + 32] for start in range(0, len(group), 32)]
        if left != sorted(set(left)) or any(len(one) != 32 or find_group(one, receipt.bits) != number for one in left):
            raise ValueError(f"the group {number} is not one")
        if not gone_set.isdisjoint(left):
            raise ValueError(f"the group {number} still holds a row that it lists as removed")
        before[number] = hash_leaf(b"".join(sorted(left + removed[number])))
        after[number] = hash_leaf(group)
    for version, leaves in ((receipt.before, before), (receipt.after, after)):
        top = fold_proof(leaves, receipt.bits, receipt.siblings)
        if hash_root(top, receipt.bits, version.count) != version.root:
            raise ValueError(f"its groups and siblings do not lead to the root of {version.version}")


def _find_touched_groups(receipt: Receipt) -> list[int]:
    """Return the groups that the rows of a receipt belong to, ascending."""
    return sorted({find_group(one, receipt.bits) for one in (*receipt.removed, *receipt.erased)})


def _format_hex(values: Sequence[bytes]) -> list[str]:
    return [value.hex() for value in values]


def _read_fields(fields: JsonFields, parsed: Mapping[str, Any]) -> Receipt:
    bits = fields.integer("bits")
    if bits > MAX_BITS:
        raise fields.mismatch({"bits": bits}, f"bits: at most {MAX_BITS}")
    return Receipt(
        fields.text("set"),
        parsed.get("purged") is True,
        _read_version_root(fields.nested("before")),
        _read_version_root(fields.nested("after")),
        _read_byte_strings(fields, "removed", 32),
        _read_byte_strings(fields, "erased", 32),
        bits,
        _read_byte_strings(fields, "groups", None),
        _read_byte_strings(fields, "siblings", 32),
        _read_byte_strings(fields, "embeddings", 32),
        fields.text("time"),
        dict(fields.mapping("code")),
        tuple(fields.items("limits")),
    )


def _read_version_root(fields: JsonFields) -> VersionRoot:
    root = VersionRoot(
        fields.text("version"), fields.sha256("digest"), fields.integer("count", 1), fields.sha256("root")
    )
    if not is_version(root.version) or not root.version.endswith(f"-{root.digest[:12]}"):
        raise fields.mismatch({"version": root.version}, "version: one with that digest")
    return root


def _read_byte_strings(fields: JsonFields, name: str, size: int | None) -> tuple[bytes, ...]:
    texts = fields.items(name)
    try:
        values = tuple(bytes.fromhex(text) for text in texts)
    except (TypeError, ValueError):
        raise fields.mismatch({name: texts}, f"{name}: a list of bytes in hexadecimal") from None
    if size is not None and any(len(value) != size for value in values):
        raise fields.mismatch({name: texts}, f"{name}: {size} bytes each")
    return values
