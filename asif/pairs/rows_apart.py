"""Join rows of one id and image that do not follow each other: of shuffled files, or with all first captions first."""

from __future__ import annotations

import base64
import json
import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from asif.errors import OutOfSpace
from asif.pairs.pair import ID_CONFLICT, SAME_PAIR, Pair, Reject
from asif.pairs.repeated_ids import MAX_JOINED_CHARACTERS, MAX_JOINED_ROWS, join_captions
from asif.pairs.source import PairSource
from asif.vectors import Int64

_REPEATED, _LAST = -1, -1
_ARRAYS, _CAPTIONS = ("first", "_next", "_places"), "captions"


@dataclass(frozen=True)
class JoinedRow:
    """Hold the place of a row whose captions are those of the pair at the row `first`, too."""

    row: int
    id: str | None
    first: int


@dataclass
class _Group:
    """Count the rows of one pair, and what may not grow without end."""

    first: int
    last: int
    rows: int = 1
    characters: int = 0


@dataclass
class RowsApart:
    """Tell for each row of a source the pair that its captions go to; the captions are in a temporary file.

    `first` [rows] is the first row of the pair, which may be the row itself, or -1 for a row that repeats its pair.
    Memory: 24 bytes for each row, and about 500 for each pair of several rows.
    """

    first: Int64
    file: IO[bytes]
    _next: Int64
    _places: Int64
    _groups: dict[bytes, _Group] = field(default_factory=dict)
    _texts: set[int] = field(default_factory=set)
    _images: dict[int, int] = field(default_factory=dict)
    _contents: set[int] = field(default_factory=set)

    @classmethod
    def allocate(cls, rows: int, folder: Path | None) -> RowsApart:
        """Make an index in which every row is a pair of its own."""
        file = TemporaryFile(dir=folder, prefix="captions-")  # noqa: SIM115 - it is closed with the index
        index = cls(np.arange(rows), file, np.full(rows, _LAST), np.zeros(rows, np.int64))
        weakref.finalize(index, file.close)
        return index

    def add(self, pair: Pair) -> bool:
        """Add the next row of a repeated id; tell whether the id names an earlier row with another image."""
        image = _hash_fields(pair.id, _image_content(pair))
        key = _hash_fields(image, pair.source, pair.licence, pair.url)
        group = self._groups.get(key)
        if group is None or group.rows >= MAX_JOINED_ROWS or group.characters > MAX_JOINED_CHARACTERS:
            group = self._groups[key] = _Group(pair.row, pair.row)
            self._texts.add(_hash_text(group, pair))
            group.characters = sum(map(len, pair.captions))
            return self._is_conflict(pair, image)
        group.rows += 1
        text = _hash_text(group, pair)
        if text in self._texts:
            self.first[pair.row] = _REPEATED
            return False
        self._texts.add(text)
        group.characters += sum(map(len, pair.captions))
        self.first[pair.row], self._next[group.last], group.last = group.first, pair.row, pair.row
        self._places[pair.row] = self._write(_pack_text(pair))
        return False

    def _is_conflict(self, pair: Pair, image: bytes) -> bool:
        """Tell whether the id of a group's first row names an earlier row with another image.

        Equal captions with the path of another file do not count: the files may be equal.
        """
        first = self._images.setdefault(hash(pair.id), hash(image))
        is_path = pair.image_embedding is None and not isinstance(pair.image, bytes)
        content = hash((pair.id, pair.captions, None if is_path else image))
        is_known = content in self._contents
        self._contents.add(content)
        return first != hash(image) and not is_known

    def _write(self, line: bytes) -> int:
        """Append a line to the file, and return its place."""
        place = self.file.tell()
        with _translate_write_errors():
            self.file.write(line)
        return place

    def finish(self) -> None:
        """Drop what only `add` needs."""
        self._groups, self._texts, self._images, self._contents = {}, set(), {}, set()
        with _translate_write_errors():
            self.file.flush()

    def save(self, folder: Path) -> None:
        """Write a finished index to a new folder, for `load` in other processes."""
        with _translate_write_errors():
            folder.mkdir(mode=0o700)
            for name in _ARRAYS:
                np.save(folder / f"{name}.npy", getattr(self, name))
            self.file.seek(0)
            with open(folder / _CAPTIONS, "xb") as copy:
                shutil.copyfileobj(self.file, copy)

    @classmethod
    def load(cls, folder: Path) -> RowsApart:
        """Open what `save` wrote; its arrays are mapped."""
        first, following, places = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS)
        file = open(folder / _CAPTIONS, "rb")  # noqa: SIM115 - it is closed with the index
        index = cls(first, file, following, places)
        weakref.finalize(index, file.close)
        return index

    def list_later_rows(self, row: int) -> list[int]:
        """Return the later rows whose captions go to this row's pair, in order."""
        rows = []
        while (row := int(self._next[row])) != _LAST:
            rows.append(row)
        return rows

    @property
    def joins_rows(self) -> bool:
        """Tell whether any row goes to the pair of an earlier one."""
        return bool(np.any(self._next != _LAST))

    def has_more_rows(self, row: int) -> bool:
        """Tell whether captions of later rows go to this row's pair."""
        return bool(self._next[row] != _LAST)

    def join(self, items: Iterable[Pair | Reject]) -> Iterator[Pair | Reject | JoinedRow]:
        """Yield each pair with the captions of all its rows at its first row, and a JoinedRow for each later one.

        A row that repeats its pair is a Reject.
        """
        for item in items:
            first = item.row if isinstance(item, Reject) else int(self.first[item.row])
            if isinstance(item, Reject):
                yield item
            elif first == _REPEATED:
                yield Reject(item.row, item.id, SAME_PAIR)
            elif first != item.row:
                yield JoinedRow(item.row, item.id, first)
            else:
                yield join_captions([item, *self._read_others(item)])

    def _read_others(self, pair: Pair) -> Iterator[Pair]:
        """Yield the further rows of a pair."""
        row = int(self._next[pair.row])
        while row != _LAST:
            self.file.seek(self._places[row])
            captions, vector = _unpack_text(self.file.readline())
            yield replace(pair, row=row, captions=captions, text_embedding=vector)
            row = int(self._next[row])


def index_rows_apart(
    source: PairSource,
    rows: int,
    folder: Path | None = None,
    report: Callable[[Reject], None] = lambda conflict: None,
) -> RowsApart | None:
    """Index the first `rows` rows of a source if rows of one pair are apart; None if none are, or ids are not at hand.

    Whether ids repeat is found from the ids alone. If some are apart, the source is read once in addition, with its
    images, of which nothing is kept but hashes; captions of later rows are written to a temporary file in `folder`.
    Rows are joined as `join_repeated_ids` does. `report` is called for each row whose id names an earlier row with
    another image.
    """
    repeated = _find_rows_apart(source.hash_ids(rows))
    if repeated is None:
        return None
    index = RowsApart.allocate(rows, folder)
    for item in islice(source.read(), rows):
        if isinstance(item, Pair) and repeated[item.row] and index.add(item):
            report(Reject(item.row, item.id, ID_CONFLICT))
    index.finish()
    return index if index.joins_rows else None


@contextmanager
def _translate_write_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutOfSpace(
            f"captions of rows that are apart cannot be kept: {error}", "room for them", "free some space"
        ) from error


def _find_rows_apart(hashes: Int64 | None) -> NDArray[np.bool_] | None:
    """Return which rows [n] have an id that repeats, if the rows of some id do not follow each other."""
    if hashes is None or not len(hashes):
        return None
    distinct, ids, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    runs = np.count_nonzero(np.diff(hashes)) + 1
    return None if runs == len(distinct) else np.asarray(counts[ids] > 1)


def _image_content(pair: Pair) -> bytes | str:
    if pair.image_embedding is not None:
        return pair.image_embedding.tobytes()
    return pair.image if isinstance(pair.image, bytes) else str(pair.image)


def _hash_fields(*fields: bytes | str | None) -> bytes:
    """Hash fields of any content; None differs from all texts."""
    digest = blake2b(digest_size=16)
    for each in fields:
        content = each.encode() if isinstance(each, str) else each or b""
        digest.update(f"{type(each).__name__} {len(content)} ".encode())
        digest.update(content)
    return digest.digest()


def _hash_text(group: _Group, pair: Pair) -> int:
    return hash((group.first, pair.captions, None if pair.text_embedding is None else pair.text_embedding.tobytes()))


def _pack_text(pair: Pair) -> bytes:
    """Serialise captions and text vector as a line of JSON."""
    vector = pair.text_embedding
    packed = None if vector is None else [vector.dtype.str, base64.b64encode(vector.tobytes()).decode()]
    return json.dumps([pair.captions, packed]).encode() + b"\n"


def _unpack_text(line: bytes) -> tuple[tuple[str, ...], NDArray[Any] | None]:
    captions, packed = json.loads(line)
    vector = None if packed is None else np.frombuffer(base64.b64decode(packed[1]), packed[0])
    return tuple(captions), vector
