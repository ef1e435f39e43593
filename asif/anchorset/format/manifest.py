"""The manifest: what one version of an anchor set consists of (format 1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from asif.anchorset.format.atomic_io import RESTORE
from asif.anchorset.format.blocks import DTYPES, MAX_ROWS
from asif.anchorset.format.checksummed_json import Fields, check_seal, parse_object, seal
from asif.anchorset.format.deletion_list import Mask, Runs, is_list, live_mask, live_range
from asif.anchorset.format.references import check_name, is_version
from asif.errors import IntegrityError, UnknownFormat, UsageError
from asif.vectors import SIDES, Fingerprint, Side

FORMAT = 1
FEATURES = ("deletions", "pieces")
CAPTIONS = ("mean", "first", "all")


@dataclass(frozen=True)
class FileEntry:
    """Name a file by its content."""

    sha256: str
    size: int


@dataclass(frozen=True)
class BlockEntry:
    """Name a block of `rows` anchors, the parquet with their pairs, and which rows the version leaves out of both."""

    sha256: str
    size: int
    rows: int
    pairs: FileEntry
    deleted: Runs = ()

    @property
    def count(self) -> int:
        """Count the rows that are there."""
        return self.rows - sum(self.deleted[1::2])

    @property
    def live(self) -> Mask:
        """Tell which rows are there [rows]."""
        return live_mask(self.deleted, self.rows)

    @property
    def whole(self) -> BlockEntry:
        """Return the entry of the same block with all of its rows."""
        return replace(self, deleted=()) if self.deleted else self


@dataclass(frozen=True)
class EncoderInfo:
    """Hold which encoder made one side: `spec` as the user names it, and its fingerprint."""

    spec: str
    fingerprint: Fingerprint


@dataclass(frozen=True)
class Manifest:
    """Describe one version of an anchor set.

    `count` anchors are kept of `rows_in` rows read, `rejected` are not (a row counts once for each anchor it gives);
    `dims` and `encoders` are by side; `parent` is the version that was current before; `created` is ISO 8601 in UTC;
    `asif` is the writer's version.
    """

    name: str
    seq: int
    digest: str
    count: int
    rows_in: int
    rejected: int
    dims: Mapping[Side, int]
    dtype: str
    captions: str
    encoders: Mapping[Side, EncoderInfo]
    blocks: tuple[BlockEntry, ...]
    rejects: FileEntry | None
    parent: str | None
    operation: Mapping[str, Any]
    created: str
    profiles: Mapping[str, Any]
    asif: str

    @property
    def files(self) -> list[BlockEntry]:
        """Return each block once, with all of its rows."""
        return [entry.whole for entry in {entry.sha256: entry for entry in self.blocks}.values()]

    def live_rows(self) -> list[tuple[BlockEntry, Mask]]:
        """Return each block once, with all of its rows, and tell which of them are there [rows], in whatever piece."""
        found: dict[BlockEntry, Mask] = {}
        for entry in self.blocks:
            found[entry.whole] = found[entry.whole] | entry.live if entry.whole in found else entry.live
        return list(found.items())

    @property
    def version(self) -> str:
        """Return the version, such as '000001-1f2e3d4c5b6a'."""
        return version_of(self.seq, self.digest)

    @property
    def ref(self) -> str:
        """Return the reference that means exactly this version, such as 'coco@3'."""
        return f"{self.name}@{self.seq}"

    def to_bytes(self) -> bytes:
        """Serialise; `from_bytes` reads it back."""
        encoders = {
            side: {"spec": info.spec, "fingerprint": dict(info.fingerprint.fields)}
            for side, info in self.encoders.items()
        }
        blocks = list(_described(self.blocks))
        features = _features(self.blocks)
        return seal({"format": FORMAT, "features": features, **asdict(self), "blocks": blocks, "encoders": encoders})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """Read a manifest from untrusted bytes; `where` is named in errors.

        Fields it does not know are left alone: what must be understood stands in `features`.
        Raises UnknownFormat for a newer format or feature, IntegrityError for any other change.
        """
        fields = parse_object(data, where)
        _check_format(Fields(fields, where))
        check_seal(fields, data, where)
        manifest = _read(Fields(fields, where))
        if fields["features"] != _features(manifest.blocks):
            raise IntegrityError(f"{where} names other features than it uses", "those it uses", RESTORE)
        _check_sums(manifest, where)
        return manifest


def version_of(seq: int, digest: str) -> str:
    """Return the version with this sequence number and set digest."""
    return f"{seq:06d}-{digest[:12]}"


def _check_format(fields: Fields) -> None:
    """Refuse what a newer asif wrote before anything else is interpreted."""
    found = fields.whole("format")
    came = f"format {found}"
    if found == FORMAT:
        features = fields.items("features")
        unknown = [feature for feature in features if feature not in FEATURES]
        if not unknown:
            return
        came = f"the features {ascii(unknown)[:80]}"
    raise UnknownFormat(
        f"an anchor set with {came}",
        f"format {FORMAT} and no features but {', '.join(FEATURES)}",
        "upgrade asif: pip install -U asif",
    )


def _features(blocks: Sequence[BlockEntry]) -> list[str]:
    """Name what a reader must understand, so that an older one refuses the version instead of misreading it."""
    deletions = ["deletions"] if any(block.deleted for block in blocks) else []
    return deletions + (["pieces"] if len({block.sha256 for block in blocks}) < len(blocks) else [])


def _described(blocks: Sequence[BlockEntry]) -> Iterator[dict[str, Any]]:
    """Describe blocks; a further piece of one names the place of the first and which rows it leaves out."""
    first: dict[str, int] = {}
    for at, block in enumerate(blocks):
        known = first.setdefault(block.sha256, at)
        if known < at:
            yield {"of": known, "deleted": block.deleted}
        else:
            yield {name: value for name, value in asdict(block).items() if name != "deleted" or value}


def _read(fields: Fields) -> Manifest:
    dims, encoders = fields.within("dims"), fields.within("encoders")
    return Manifest(
        name=_name(fields),
        seq=fields.whole("seq", 1),
        digest=fields.sha256("digest"),
        count=fields.whole("count", 1),
        rows_in=fields.whole("rows_in", 1),
        rejected=fields.whole("rejected"),
        dims={side: dims.whole(side, 1) for side in SIDES},
        dtype=_one_of(fields, "dtype", tuple(DTYPES)),
        captions=_one_of(fields, "captions", CAPTIONS),
        encoders={side: _encoder(encoders.within(side)) for side in SIDES},
        blocks=_blocks(fields.within_each("blocks")),
        rejects=None if fields.missing("rejects") else _file(fields.within("rejects")),
        parent=None if fields.missing("parent") else _parent(fields),
        operation=fields.mapping("operation"),
        created=fields.text("created"),
        profiles=fields.mapping("profiles"),
        asif=fields.text("asif"),
    )


def _name(fields: Fields) -> str:
    name = fields.text("name")
    try:
        return check_name(name)
    except UsageError as error:
        raise fields.wrong({"name": name}, error.expected) from error


def _parent(fields: Fields) -> str:
    parent = fields.text("parent")
    if not is_version(parent):
        raise fields.wrong({"parent": parent}, "parent: a version")
    return parent


def _one_of(fields: Fields, name: str, known: tuple[str, ...]) -> str:
    value = fields.text(name)
    if value not in known:
        raise fields.wrong({name: value}, f"{name}: one of {', '.join(known)}")
    return value


def _encoder(fields: Fields) -> EncoderInfo:
    return EncoderInfo(fields.text("spec"), Fingerprint(fields.mapping("fingerprint")))


def _file(fields: Fields) -> FileEntry:
    return FileEntry(fields.sha256("sha256"), fields.whole("size"))


def _blocks(each: Iterable[Fields]) -> tuple[BlockEntry, ...]:
    """Read blocks and pieces; of one block they have other rows each, in the order of its rows."""
    blocks: list[BlockEntry] = []
    ends: dict[str, int] = {}
    for fields in each:
        block = _block(fields) if fields.missing("of") else _piece(fields, blocks)
        first, last = live_range(block.deleted, block.rows)
        if first < ends.get(block.sha256, 0):
            raise fields.wrong({"deleted": block.deleted}, "deleted: rows that follow those of the piece before")
        ends[block.sha256] = last
        blocks.append(block)
    return tuple(blocks)


def _piece(fields: Fields, before: Sequence[BlockEntry]) -> BlockEntry:
    place = fields.whole("of")
    if place >= len(before):
        raise fields.wrong({"of": place}, "of: the place of a block before it")
    return replace(before[place], deleted=_deleted(fields, before[place].rows))


def _block(fields: Fields) -> BlockEntry:
    rows = fields.whole("rows", 1)
    if rows > MAX_ROWS:
        raise fields.wrong({"rows": rows}, f"rows: at most {MAX_ROWS}")
    deleted = () if fields.missing("deleted") else _deleted(fields, rows)
    return BlockEntry(fields.sha256("sha256"), fields.whole("size"), rows, _file(fields.within("pairs")), deleted)


def _deleted(fields: Fields, rows: int) -> Runs:
    deleted = tuple(fields.items("deleted"))
    if not is_list(deleted, rows):
        raise fields.wrong({"deleted": deleted}, f"deleted: run lengths that leave some of {rows} rows")
    return deleted


def _check_sums(manifest: Manifest, where: str) -> None:
    rows = sum(block.count for block in manifest.blocks)
    counted = manifest.count + manifest.rejected
    if rows != manifest.count or counted != manifest.rows_in or (manifest.rejects is None) != (not manifest.rejected):
        raise IntegrityError(
            f"{where} counts {rows} rows in blocks, {manifest.count} kept, {manifest.rejected} rejected",
            f"counts that add up to {manifest.rows_in} rows read",
            RESTORE,
        )
