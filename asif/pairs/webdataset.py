"""Read pairs from webdataset tars: members that share a key are one row; extracts nothing to disk."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from operator import itemgetter
from typing import IO, Any

from asif.errors import InputRefused
from asif.pairs.columns import TextRole, find_columns
from asif.pairs.location import Place, map_places
from asif.pairs.metadata_folder import HEAD_ROWS, RowFields, infer_shapes, parse_json_row
from asif.pairs.pair import Pair, Reject
from asif.pairs.row_parser import Flaw, parse_row
from asif.pairs.source import PairSource

MAX_MEMBER_BYTES = 256 << 20
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
_Member = tuple[str, str, tarfile.TarInfo]


@dataclass(frozen=True)
class WebdatasetSource(PairSource):
    """Read pairs from tars in which `000001.jpg` goes with `000001.txt` or `000001.json`.

    `by_line` tells whether each line of the text is a caption.
    """

    by_line: bool = False

    @cached_property
    def _counts(self) -> list[int]:
        return map_places(lambda file: sum(1 for _ in _read_samples(file, skip=None)), self.files)

    @property
    def rows(self) -> int:
        """Count the rows, in one pass over the headers."""
        return sum(self._counts)

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one item for each row from `start` on; of the rows before, headers at most are read."""
        row, names = 0, self.columns.by_role()
        for number, file in enumerate(self.files):
            if row < start and row + self._counts[number] <= start:
                row += self._counts[number]
                continue
            for record in _read_samples(file, skip=start - row):
                if isinstance(record, Flaw):
                    yield Reject(row, None, record.reason)
                elif record is not None:
                    cells = {role: record.get(name) for role, name in names.items()}
                    captions = cells.get("captions")
                    if self.by_line and isinstance(captions, bytes):
                        cells["captions"] = captions.splitlines()
                    yield parse_row(row, cells, file.parent)
                row += 1


def open_webdataset(
    path: Place, files: Sequence[Place], overrides: Mapping[str, str], text_role: TextRole = "captions"
) -> WebdatasetSource:
    """Open tars as one source, reading the first rows of the first."""
    shapes = infer_shapes(islice(_read_samples(files[0], skip=0), HEAD_ROWS))
    columns = find_columns(shapes, overrides, str(files[0]), text_role)
    used = set(columns.by_role().values())
    unused = tuple(name for name in shapes if name not in used and name not in IMAGE_SUFFIXES)
    return WebdatasetSource(path, "webdataset (tar)", columns, unused, tuple(files), None)


def _read_samples(path: Place, skip: int | None) -> Iterator[RowFields | Flaw | None]:
    """Yield one record for each key; None for the first `skip` (for all, when None), whose data stay unread."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for row, (key, members) in enumerate(groupby(_read_members(tar, file, path), itemgetter(0))):
                if skip is None or row < skip:
                    yield None
                else:
                    yield _read_record(tar, key, members)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _damaged_tar(path, str(error)) from error


def _read_members(tar: tarfile.TarFile, file: IO[bytes], path: Place) -> Iterator[_Member]:
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # or every header stays in memory
        folder, _, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        if member.isreg() and stem:
            yield f"{folder}/{stem}" if folder else stem, suffix.lower(), member
    # tarfile takes a damaged header, or the end of a file cut between members, for the end of the archive
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise _damaged_tar(path, f"no member and no end mark at byte {tar.offset:,}")


def _read_record(tar: tarfile.TarFile, key: str, members: Iterator[_Member]) -> RowFields | Flaw:
    record: dict[str, Any] = {"__key__": key}
    flaw = None
    for _, suffix, member in members:
        if member.size > MAX_MEMBER_BYTES:
            flaw = Flaw(f"{member.name} has {member.size:,} bytes, more than {MAX_MEMBER_BYTES:,}")
            continue
        file = tar.extractfile(member)
        data = file.read() if file else b""
        if suffix == "json":
            fields = parse_json_row(data)
            if isinstance(fields, Flaw):
                flaw = Flaw(f"{member.name}: {fields.reason}")
            else:
                record = {**fields, **record}
        else:
            record[suffix] = data
            if suffix in IMAGE_SUFFIXES:
                record["image"] = data
    return flaw or record


def _damaged_tar(path: Place, why: str) -> InputRefused:
    return InputRefused(
        f"{path} cannot be read as a tar archive: {why}", "an intact, uncompressed tar", "copy or download it again"
    )
