"""Group the members of a tar into records by their names, holding the headers of one record at a time."""

from __future__ import annotations

import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from typing import IO

from asif.errors import InputRefused
from asif.pairs.image_files import AUDIO_SUFFIXES, IMAGE_SUFFIXES, classify_file
from asif.pairs.location import Place

_MAX_RECORD_MEMBERS = 1000
_LOOKAHEAD = 64  # members of one key from which is decided whether keys contain dots
_MAX_NAME = 120
_Named = tuple[str, str, tarfile.TarInfo]


@dataclass(frozen=True)
class TarRecord:
    """Hold the headers of one record's members, by suffix; `continues` if other records lie between its parts."""

    tar: tarfile.TarFile
    key: str
    members: tuple[tuple[str, tarfile.TarInfo], ...]
    continues: bool


@dataclass
class TarRecords:
    """Read the records of one tar; `hidden` counts the members whose names are hidden, by kind.

    A record is a run of members with the same key: the name up to its first dot. With `dotted_keys`, a run whose names
    all have further dots is split at the last dot, if that makes images with other members.
    """

    path: Place
    dotted_keys: bool
    hidden: Counter[str] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[TarRecord]:
        """Yield the records; raises InputRefused, naming the place, for damage and for records without end."""
        seen: set[int] = set()
        try:
            with self.path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for key, members in self._group(self._read_members(tar, file)):
                    token = hash(key)  # a fraction of the memory of the key
                    yield TarRecord(tar, key, members, token in seen)
                    seen.add(token)
        except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:  # the last two for odd sizes
            raise _damaged_tar(self.path, str(error)) from error

    def _read_members(self, tar: tarfile.TarFile, file: IO[bytes]) -> Iterator[_Named]:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # or every header stays in memory
            if member.size < 0:
                raise _damaged_tar(self.path, f"{show_name(member.name)} has {member.size} bytes")
            folder, _, name = member.name.rpartition("/")
            if member.isdir():
                continue
            if not name or name.startswith(".") or "__MACOSX" in folder.split("/"):
                self.hidden[classify_file(name) or "__MACOSX"] += 1
                continue
            stem, _, suffix = name.partition(".")
            yield f"{folder}/{stem}" if folder else stem, suffix.lower(), member
        _check_end(tar, file, self.path)

    def _group(self, members: Iterator[_Named]) -> Iterator[tuple[str, tuple[tuple[str, tarfile.TarInfo], ...]]]:
        for _, run in groupby(members, lambda member: member[0]):
            for key, group in groupby(self._divide(run), lambda member: member[0]):
                record = tuple((suffix, member) for _, suffix, member in islice(group, _MAX_RECORD_MEMBERS + 1))
                if len(record) > _MAX_RECORD_MEMBERS:
                    raise _endless_record(self.path, key, record[-1][1].name)
                yield key, record

    def _divide(self, run: Iterator[_Named]) -> Iterator[_Named]:
        head = list(islice(run, _LOOKAHEAD))
        named = chain(head, run)
        return map(_split_at_last_dot, named) if self.dotted_keys and _has_dotted_keys(head) else named


def show_name(name: str) -> str:
    """Return the name of a member for messages: printable and of bounded length.

    >>> show_name("a" * 200 + ".jpg") == "a" * 59 + "…" + "a" * 56 + ".jpg", show_name("\\udcff.jpg")
    (True, '\\\\udcff.jpg')
    """
    shown = name.encode("utf-8", "backslashreplace").decode()
    shown = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in shown)
    return shown if len(shown) <= _MAX_NAME else f"{shown[: _MAX_NAME // 2 - 1]}…{shown[-_MAX_NAME // 2 :]}"


def _has_dotted_keys(members: list[_Named]) -> bool:
    """Tell whether dots belong to keys: no name has a single dot, and the last dot pairs images with others."""
    if not all("." in suffix for _, suffix, _ in members):
        return False
    endings: dict[str, set[bool]] = defaultdict(set)
    for key, suffix, _ in map(_split_at_last_dot, members):
        endings[key].add(suffix in (*IMAGE_SUFFIXES, *AUDIO_SUFFIXES))
    return any(len(kinds) == 2 for kinds in endings.values())


def _split_at_last_dot(named: _Named) -> _Named:
    member = named[2]
    key, _, suffix = member.name.rpartition(".")
    return key, suffix.lower(), member


def _check_end(tar: tarfile.TarFile, file: IO[bytes], path: Place) -> None:
    """Raise InputRefused unless the archive has an end mark with nothing but padding after it."""
    # tarfile takes a damaged header, or the end of a file cut between members, for the end of the archive
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise _damaged_tar(path, f"no member and no end mark at byte {tar.offset:,}")
    while block := file.read(1 << 16):
        if block.count(0) == len(block):
            continue
        start = file.tell() - len(block.lstrip(b"\0"))
        start -= start % tarfile.BLOCKSIZE
        file.seek(start)
        raise InputRefused(
            f"{path} has {_name_block(file.read(tarfile.BLOCKSIZE))} at byte {start:,}, after its end mark",
            "an archive that ends at its end mark",
            "extract it with tar --ignore-zeros and write it again, or give concatenated tars as separate files",
        )


def _name_block(block: bytes) -> str:
    try:
        return f"the member {show_name(tarfile.TarInfo.frombuf(block, 'utf-8', 'surrogateescape').name)}"
    except tarfile.HeaderError:
        return "data"


def _endless_record(path: Place, key: str, name: str) -> InputRefused:
    return InputRefused(
        f"{path}: record {show_name(key)!r} has more than {_MAX_RECORD_MEMBERS:,} members, such as {show_name(name)}",
        "names like 000001.jpg and 000001.txt, next to each other: what is before the first dot names the record",
        "rename the members, with no dots but that of the suffix",
    )


def _damaged_tar(path: Place, why: str) -> InputRefused:
    return InputRefused(
        f"{path} cannot be read as a tar archive: {why}", "an intact, uncompressed tar", "copy or download it again"
    )
