"""The manifest: the files, the encoders and the history of one version of an anchor set or gallery (format 1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from asif.anchorset.format.atomic_io import RESTORE_ADVICE
from asif.anchorset.format.blocks import MAX_BLOCK_ROWS, SAFETENSORS_DTYPES
from asif.anchorset.format.checksummed_json import JsonFields, check_checksum, parse_json_object
from asif.anchorset.format.deletion_list import (
    DeletionList,
    LiveRows,
    decode_live_rows,
    find_live_range,
    is_deletion_list,
)
from asif.anchorset.format.kinds import ANCHORS, GALLERY, KINDS, SetKind
from asif.anchorset.format.references import check_set_name, is_version
from asif.errors import IntegrityError, UnknownFormat, UsageError
from asif.modality import FIELD, is_modality, read_modality
from asif.vectors import SIDES, Fingerprint, Side, dump_checksummed

_MANIFEST_FORMAT = 1
_KNOWN_FEATURES = ("deletions", "pieces", "gallery", "modalities")
MAX_FILE_BYTES = 8**11 - 1  # the largest size that the header of a tar can state, 8 GiB
_MAX_SEQ = 10**15  # far below the 18 digits of a version
CAPTIONS_MODES = ("mean", "first", "all")
NO_CAPTIONS_MODE = "none"  # of a gallery, whose captions are not encoded


@dataclass(frozen=True)
class FileEntry:
    """Name a file by its content."""

    sha256: str
    size: int


@dataclass(frozen=True)
class BlockEntry:
    """Name a block of `rows` anchors, the parquet with their pairs, and the rows of both that are deleted.

    The block of a gallery may have a parquet of thumbnails, too.
    """

    sha256: str
    size: int
    rows: int
    pairs: FileEntry
    deleted: DeletionList = ()
    thumbnails: FileEntry | None = None

    @property
    def count(self) -> int:
        """Count the live rows."""
        return self.rows - sum(self.deleted[1::2])

    @property
    def live(self) -> LiveRows:
        """Return which rows are live [rows]."""
        return decode_live_rows(self.deleted, self.rows)

    @property
    def whole(self) -> BlockEntry:
        """Return the entry of the same block with all of its rows live."""
        return replace(self, deleted=()) if self.deleted else self


@dataclass(frozen=True)
class EncoderInfo:
    """Identify the encoder of one side: `spec` as the user names it, and its fingerprint."""

    spec: str
    fingerprint: Fingerprint


@dataclass(frozen=True)
class Manifest:
    """Describe one version of an anchor set, or of a gallery.

    Of `rows_in` rows read, `count` became anchors and `rejected` did not (a row counts once for each anchor it gives).
    `dims` and `encoders` are by side; `parent` is the version that was current before; `created` is ISO 8601 in UTC;
    `asif` is the version of asif that wrote it. `origin` says how the items of a gallery are found.
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
    kind: SetKind = ANCHORS
    origin: Mapping[str, Any] | None = None

    @property
    def sides(self) -> tuple[Side, ...]:
        """Return the sides that the rows have."""
        return tuple(side for side in SIDES if side in self.dims)

    @property
    def modalities(self) -> dict[Side, str]:
        """Return what each side holds: the modality that its encoder's fingerprint names, by default the side itself.

        A set with another is refused by versions that know images and texts alone: it names the feature `modalities`.
        """
        return {side: read_modality(info.fingerprint, side) for side, info in self.encoders.items()}

    @property
    def content_files(self) -> list[tuple[str, FileEntry]]:
        """List the files with the content of the version, each with its kind, which is the name of its folder."""
        found: list[tuple[str, FileEntry]] = []
        for entry in self.files:
            found += [("blocks", FileEntry(entry.sha256, entry.size)), ("pairs", entry.pairs)]
            found += [("thumbnails", entry.thumbnails)] if entry.thumbnails else []
        return found + ([("rejects", self.rejects)] if self.rejects else [])

    @property
    def files(self) -> list[BlockEntry]:
        """Return each block once, with all of its rows live."""
        return [entry.whole for entry in {entry.sha256: entry for entry in self.blocks}.values()]

    def distinct_live_rows(self) -> list[tuple[BlockEntry, LiveRows]]:
        """Return each block once, with the rows of it that are live in any of its pieces [rows]."""
        live: dict[BlockEntry, LiveRows] = {}
        for entry in self.blocks:
            live[entry.whole] = live[entry.whole] | entry.live if entry.whole in live else entry.live
        return list(live.items())

    @property
    def version(self) -> str:
        """Return the version, such as '000001-1f2e3d4c5b6a'."""
        return build_version_name(self.seq, self.digest)

    @property
    def ref(self) -> str:
        """Return the reference that means exactly this version, such as 'coco@3'."""
        return f"{self.name}@{self.seq}"

    def pair_id(self, anchor_id: str) -> str:
        """Return the id of the pair that an anchor comes from: in mode `all` anchors are called `<pair>#<caption>`."""
        return anchor_id.rpartition("#")[0] if self.captions == "all" else anchor_id

    def to_bytes(self) -> bytes:
        """Serialise; `from_bytes` reads it back."""
        encoders = {
            side: {"spec": info.spec, "fingerprint": dict(info.fingerprint.fields)}
            for side, info in self.encoders.items()
        }
        fields = {**asdict(self), "blocks": list(_describe_blocks(self.blocks)), "encoders": encoders}
        fields["kind"] = self.kind.name
        if self.kind is ANCHORS:  # which had neither field before there were galleries
            del fields["kind"], fields["origin"]
        return dump_checksummed({"format": _MANIFEST_FORMAT, "features": _list_features(self), **fields})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """Read a manifest from untrusted bytes; errors name `where`.

        Unknown fields are ignored: what a reader must understand is listed in `features`.
        Raises UnknownFormat for a newer format or feature, IntegrityError for any other change.
        """
        fields = parse_json_object(data, where)
        _check_format(JsonFields(fields, where))
        check_checksum(fields, data, where)
        manifest = _read_manifest(JsonFields(fields, where))
        if fields["features"] != _list_features(manifest):
            raise IntegrityError(f"{where} names other features than it uses", "those it uses", RESTORE_ADVICE)
        _check_counts(manifest, where)
        return manifest


def build_version_name(seq: int, digest: str) -> str:
    """Return the version with this sequence number and set digest."""
    return f"{seq:06d}-{digest[:12]}"


def _check_format(fields: JsonFields) -> None:
    """Refuse the manifest of a newer asif before anything else is interpreted."""
    version = fields.integer("format")
    came = f"format {version}"
    if version == _MANIFEST_FORMAT:
        features = fields.items("features")
        unknown = [feature for feature in features if feature not in _KNOWN_FEATURES]
        if not unknown:
            return
        came = f"the features {ascii(unknown)[:80]}"
    raise UnknownFormat(
        f"a set with {came}",
        f"format {_MANIFEST_FORMAT} and no features but {', '.join(_KNOWN_FEATURES)}",
        "upgrade asif: pip install -U asif",
    )


def _list_features(manifest: Manifest) -> list[str]:
    """List what a reader must understand, so that an older one refuses the version instead of misreading it."""
    blocks = manifest.blocks
    deletions = ["deletions"] if any(block.deleted for block in blocks) else []
    pieces = ["pieces"] if len({block.sha256 for block in blocks}) < len(blocks) else []
    others = any(modality != side for side, modality in manifest.modalities.items())
    return deletions + pieces + ["gallery"] * (manifest.kind is GALLERY) + ["modalities"] * others


_OPTIONAL_FIELDS = ("deleted", "thumbnails")  # of a block


def _describe_blocks(blocks: Sequence[BlockEntry]) -> Iterator[dict[str, Any]]:
    """Yield blocks for JSON; a further piece of a block names the position of the first and the rows it leaves out."""
    first: dict[str, int] = {}
    for at, block in enumerate(blocks):
        known = first.setdefault(block.sha256, at)
        if known < at:
            yield {"of": known, "deleted": block.deleted}
        else:
            yield {name: value for name, value in asdict(block).items() if name not in _OPTIONAL_FIELDS or value}


def _read_manifest(fields: JsonFields) -> Manifest:
    dims, encoders = fields.nested("dims"), fields.nested("encoders")
    kind = ANCHORS if fields.missing("kind") else KINDS[_read_choice(fields, "kind", (GALLERY.name,))]
    sides = SIDES if kind is ANCHORS else tuple(side for side in SIDES if not dims.missing(side))
    if not kind.allows(sides):
        raise fields.mismatch({"dims": sides}, "dims: one side, for a gallery")
    return Manifest(
        name=_read_name(fields),
        seq=fields.integer("seq", 1, _MAX_SEQ),
        digest=fields.sha256("digest"),
        count=fields.integer("count", 1),
        rows_in=fields.integer("rows_in", 1),
        rejected=fields.integer("rejected"),
        dims={side: dims.integer(side, 1) for side in sides},
        dtype=_read_choice(fields, "dtype", tuple(SAFETENSORS_DTYPES)),
        captions=_read_choice(fields, "captions", CAPTIONS_MODES if kind is ANCHORS else (NO_CAPTIONS_MODE,)),
        encoders={side: _read_encoder(encoders.nested(side), side) for side in sides},
        blocks=_read_blocks(fields.nested_each("blocks")),
        rejects=None if fields.missing("rejects") else _read_file_entry(fields.nested("rejects")),
        parent=None if fields.missing("parent") else _read_parent(fields),
        operation=fields.mapping("operation"),
        created=fields.text("created"),
        profiles=fields.mapping("profiles"),
        asif=fields.text("asif"),
        kind=kind,
        origin=None if kind is ANCHORS else fields.mapping("origin"),
    )


def _read_name(fields: JsonFields) -> str:
    name = fields.text("name")
    try:
        return check_set_name(name)
    except UsageError as error:
        raise fields.mismatch({"name": name}, error.expected) from error


def _read_parent(fields: JsonFields) -> str:
    parent = fields.text("parent")
    if not is_version(parent):
        raise fields.mismatch({"parent": parent}, "parent: a version")
    return parent


def _read_choice(fields: JsonFields, name: str, known: tuple[str, ...]) -> str:
    value = fields.text(name)
    if value not in known:
        raise fields.mismatch({name: value}, f"{name}: one of {', '.join(known)}")
    return value


def _read_encoder(fields: JsonFields, side: Side) -> EncoderInfo:
    info = EncoderInfo(fields.text("spec"), Fingerprint(fields.mapping("fingerprint")))
    modality = read_modality(info.fingerprint, side)
    if not is_modality(modality):
        raise fields.mismatch({FIELD: modality}, f"{FIELD}: a word such as audio")
    return info


def _read_file_entry(fields: JsonFields) -> FileEntry:
    return FileEntry(fields.sha256("sha256"), fields.integer("size", 0, MAX_FILE_BYTES))


def _read_blocks(each: Iterable[JsonFields]) -> tuple[BlockEntry, ...]:
    """Read blocks and pieces; pieces of one block have rows that follow one another and do not overlap."""
    blocks: list[BlockEntry] = []
    ends: dict[str, int] = {}
    for fields in each:
        block = _read_block(fields) if fields.missing("of") else _read_piece(fields, blocks)
        first, last = find_live_range(block.deleted, block.rows)
        if first < ends.get(block.sha256, 0):
            raise fields.mismatch({"deleted": block.deleted}, "deleted: rows that follow those of the piece before")
        ends[block.sha256] = last
        blocks.append(block)
    return tuple(blocks)


def _read_piece(fields: JsonFields, before: Sequence[BlockEntry]) -> BlockEntry:
    place = fields.integer("of")
    if place >= len(before):
        raise fields.mismatch({"of": place}, "of: the place of a block before it")
    return replace(before[place], deleted=_read_deletions(fields, before[place].rows))


def _read_block(fields: JsonFields) -> BlockEntry:
    rows = fields.integer("rows", 1, MAX_BLOCK_ROWS)
    deleted = () if fields.missing("deleted") else _read_deletions(fields, rows)
    return BlockEntry(
        fields.sha256("sha256"),
        fields.integer("size", 0, MAX_FILE_BYTES),
        rows,
        _read_file_entry(fields.nested("pairs")),
        deleted,
        None if fields.missing("thumbnails") else _read_file_entry(fields.nested("thumbnails")),
    )


def _read_deletions(fields: JsonFields, rows: int) -> DeletionList:
    deleted = tuple(fields.items("deleted"))
    if not is_deletion_list(deleted, rows):
        raise fields.mismatch({"deleted": deleted}, f"deleted: run lengths that leave some of {rows} rows")
    return deleted


def _check_counts(manifest: Manifest, where: str) -> None:
    rows = sum(block.count for block in manifest.blocks)
    counted = manifest.count + manifest.rejected
    if rows != manifest.count or counted != manifest.rows_in or (manifest.rejects is None) != (not manifest.rejected):
        raise IntegrityError(
            f"{where} counts {rows} rows in blocks, {manifest.count} kept, {manifest.rejected} rejected",
            f"counts that add up to {manifest.rows_in} rows read",
            RESTORE_ADVICE,
        )
