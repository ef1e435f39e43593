"""The plan of a sharded build: the input files with their hashes, and the shards, each some rows of some files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from asif.anchorset.format.checksummed_json import JsonFields, load_checksummed
from asif.errors import InputRefused, UsageError
from asif.pairs import PairSource, Place
from asif.pairs.remote import RemotePath
from asif.pairs.source import find_file_size, stamp_file
from asif.vectors import canonical_json, dump_checksummed

DEFAULT_SHARD_ROWS = 50_000
_MOST_SAMPLED = 1000
"""Inputs of up to so many files are also hashed at both ends of each file."""
_SAMPLE_BYTES = 1 << 16
_FORMAT = 1


@dataclass(frozen=True)
class Shard:
    """Name the rows from `start` up to `stop` of a source, which are in its files from `first_file` to `last_file`.

    The name follows from the files' hashes and the rows.
    A worker moves both ends to the next row with another id, see `building.sharded.encode.align_row`.
    """

    name: str
    start: int
    stop: int
    first_file: int
    last_file: int


@dataclass(frozen=True)
class ShardPlan:
    """Hold the plan: `files` [(path, hash)] of the input, and the shards. `digest` is the sha256 of all of it."""

    digest: str
    files: tuple[tuple[str, str], ...]
    shards: tuple[Shard, ...]

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> ShardPlan:
        """Read a plan; raises IntegrityError."""
        fields = load_checksummed(data, where)
        files = tuple((str(path), str(sha256)) for path, sha256 in fields.items("files"))
        shards = tuple(Shard(str(name), *map(int, numbers)) for name, *numbers in fields.items("shards"))
        JsonFields({"format": fields.integer("format")}, where).integer("format", _FORMAT, _FORMAT)
        return cls(fields.text("checksum"), files, shards)

    def check_files(self, source: PairSource, shard: Shard | None = None) -> None:
        """Raise InputRefused, which names the file, unless the files of a source, or of a shard, are as planned."""
        first, stop = (0, len(self.files)) if shard is None else (shard.first_file, shard.last_file + 1)
        found = [str(file) for file in source.files]
        if len(found) != len(self.files):
            changed = sorted(set(found) ^ {path for path, _ in self.files})
            raise _refuse_change(", ".join(changed[:3]), f"{len(self.files):,} files, now {len(found):,}")
        for file, (path, planned) in zip(source.files[first:stop], self.files[first:stop], strict=True):
            if str(file) != path or hash_input(file, len(self.files)) != planned:
                raise _refuse_change(str(file), "the file as it was then")


def _refuse_change(file: str, expected: str) -> InputRefused:
    return InputRefused(
        f"{file} has changed since the plan of this build was made",
        expected,
        "restore it to resume, or begin again with --fresh",
    )


def write_plan(build: str, source: PairSource, rows: int, shard_rows: int) -> bytes:
    """Serialise the plan of the first `rows` rows of a source; `build` is a name for all else that matters.

    Raises UsageError for shards without rows.
    """
    if shard_rows < 1:
        raise UsageError(f"shards of {shard_rows} rows", "a whole number from 1", "pass --shard-rows 50000")
    files = [[str(file), hash_input(file, len(source.files))] for file in source.files]
    numbers = {path: number for number, (path, _) in enumerate(files)}
    shards = []
    for start in range(0, rows, shard_rows):
        stop = min(start + shard_rows, rows)
        first, last = _find_files(source, numbers, start, stop)
        content = hashlib.sha256(canonical_json([files[first : last + 1], start, stop])).hexdigest()
        shards.append([f"{start:012d}-{content[:16]}", start, stop, first, last])
    return dump_checksummed({"format": _FORMAT, "build": build, "rows": rows, "files": files, "shards": shards})


def _find_files(source: PairSource, numbers: Mapping[str, int], start: int, stop: int) -> tuple[int, int]:
    """Return the numbers of the first and the last file of some rows; all files where a source does not tell."""
    ends = [numbers.get(str(source.locate_row(row)[0])) for row in (start, stop - 1)]
    first, last = ends
    return (0, len(numbers) - 1) if first is None or last is None else (first, last)


def hash_input(file: Place, files: int) -> str:
    """Hash what tells whether an input file changes: path, size and time, or the store's tag, and its first and last
    bytes if there are few files.
    """
    file = _read_again(file)
    digest = hashlib.sha256(canonical_json(stamp_file(file)))
    if files <= _MOST_SAMPLED:
        with file.open("rb") as opened:
            digest.update(opened.read(_SAMPLE_BYTES))
            opened.seek(max(0, find_file_size(file) - _SAMPLE_BYTES))
            digest.update(opened.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _read_again(file: Place) -> Place:
    """Return a file without what is known of it: answers of remote stores are kept otherwise."""
    if not isinstance(file, RemotePath):
        return file
    file.fs.invalidate_cache()
    return replace(file, listing=None)
