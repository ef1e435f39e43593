"""A gallery, opened: the encoder vectors of one side of a collection, and what is known of each item."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.kinds import GALLERY
from asif.anchorset.format.verify import VerificationReport
from asif.anchorset.store import Store
from asif.home import default_home
from asif.modality import name_many
from asif.pairs.filter_expression import list_fields, parse_where
from asif.pairs.item import ITEM_FIELDS, ItemRecord
from asif.pairs.pair import PairRecord, Reject
from asif.vectors import Fingerprint, Int64, Side

_MOST_VERDICTS = 100_000
_COLUMNS = {"caption": "captions", "license": "licence"}
"""The columns of fields with another name."""


class Gallery:
    """Read one version of a gallery by reference; it never changes, even when the gallery is updated.

    Rows are in the order of ids. Opening maps the vectors into memory and copies nothing; `verify` checks every byte.
    Raises NotFound, IntegrityError, UnknownFormat.
    """

    def __init__(self, ref: str, *, home: Path | None = None) -> None:
        self._store = Store(home or default_home(), GALLERY)
        self._opened: AnchorSet = self._store.open(ref)

    @classmethod
    def of(cls, opened: AnchorSet) -> Gallery:
        """Return a gallery whose version is open already; it cannot be verified."""
        gallery = cls.__new__(cls)
        gallery._opened = opened
        return gallery

    @property
    def opened(self) -> AnchorSet:
        """Return the version in the form that edits of sets take."""
        return self._opened

    @property
    def name(self) -> str:
        return self._opened.name

    @property
    def ref(self) -> str:
        """Return the reference to this version within its store, such as 'photos@3'."""
        return self._opened.ref

    @property
    def version(self) -> str:
        return self._opened.version

    @property
    def digest(self) -> str:
        """Return the digest, which depends on the items and the encoder, not on where files are."""
        return self._opened.digest

    @property
    def side(self) -> Side:
        """Return the side of anchors that the items are compared as: the first, called image, or text."""
        return self._opened.manifest.sides[0]

    @property
    def modality(self) -> str:
        """Return what the items are, as people call it: image, text, audio, …."""
        return self._opened.manifest.modalities[self.side]

    @property
    def dim(self) -> int:
        return self._opened.dims[self.side]

    @property
    def dtype(self) -> str:
        """Return the dtype in which the vectors are stored."""
        return self._opened.manifest.dtype

    @property
    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the encoder."""
        return self._opened.fingerprint(self.side)

    @property
    def encoder_spec(self) -> str:
        """Return the encoder, as the user names it."""
        return self._opened.encoder_spec(self.side)

    @property
    def vectors(self) -> list[NDArray[Any]]:
        """Return the unit vectors as stored: blocks [n, d], never empty, mapped and read-only."""
        return self._opened.blocks(self.side)

    def check_vectors(self) -> None:
        """Raise IntegrityError for a block of vectors of which a byte was changed; reads all of them."""
        self._opened.check_blocks()

    @cached_property
    def ids(self) -> list[str]:
        """Return the ids, in order; reads their column of each table."""
        return [name for block in range(self._blocks) for name in self._opened.ids(block)]

    @cached_property
    def uris(self) -> list[str]:
        """Return where each item was found, in the order of ids."""
        return [item.uri for item in self]

    @property
    def _blocks(self) -> int:
        return len(self._opened.manifest.blocks)

    def records(self, rows: Sequence[int] | Int64) -> list[ItemRecord]:
        """Return what is stored of the items at `rows`; reads the tables of their blocks only."""
        return [_check_item(record) for record in self._opened.records(rows)]

    def find_rows(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the rows of items by id; ids that the gallery does not have are left out."""
        found = {}
        for name in set(ids):
            place = bisect_left(self.ids, name)
            if place < len(self.ids) and self.ids[place] == name:
                found[name] = place
        return found

    def thumbnail(self, row: int) -> bytes | None:
        """Return the thumbnail of an item, WebP; None if the gallery was built without."""
        return self._opened.thumbnail(row)

    def where(self, expression: str) -> Int64:
        """Return the rows, ascending, of the items that match an expression over id, uri, label, licence, caption, ….

        Reads the columns of the fields that are compared, and decides once for each combination of their values. Raises
        UsageError for an invalid expression; see `asif.pairs.filter_expression`.
        """
        matches = parse_where(expression, ITEM_FIELDS)
        names = sorted({_COLUMNS.get(name, name) for name in list_fields(expression)})
        verdicts: dict[tuple[Any, ...], bool] = {}
        found: list[bool] = []
        for block in range(self._blocks):
            for values in self._opened.columns(block, names):
                if values not in verdicts:
                    verdicts[values] = matches(_make_item(dict(zip(names, values, strict=True))))
                found.append(verdicts[values])
            if len(verdicts) > _MOST_VERDICTS:
                verdicts.clear()
        return np.flatnonzero(found)

    def select(self, matches: Callable[[PairRecord], bool]) -> Int64:
        """Return the rows, ascending, of the items that match; reads the tables of all blocks."""
        return np.array([row for row, item in enumerate(self) if matches(item)], np.int64)

    def rejects(self) -> list[Reject]:
        """Return the files or rows that could not be read when the gallery was built or updated last, in order."""
        return self._opened.rejects()

    def verify(self) -> VerificationReport:
        """Check every byte of this version."""
        return self._store.verify(self._opened.exactly)

    def close(self) -> None:
        """Release the files; arrays that were returned stay valid until they are dropped."""
        self._opened.close()

    def __len__(self) -> int:
        return self._opened.count

    def __iter__(self) -> Iterator[ItemRecord]:
        """Iterate over the items, in the order of ids; one table is in memory at a time."""
        for block in range(self._blocks):
            yield from map(_check_item, self._opened.pairs(block))

    def __repr__(self) -> str:
        return f"<Gallery {self.name}@{self.version}: {len(self):,} {name_many(self.modality)}>"

    def _repr_html_(self) -> str:
        """Return a small table for notebooks."""
        rows = {
            "gallery": self.ref,
            "digest": self.digest[:12],
            name_many(self.modality): f"{len(self):,}",
            "encoder": f"{self.encoder_spec}, {self.dim} dimensions",
        }
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows.items())
        return f"<table>{cells}</table>"

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _make_item(fields: dict[str, Any]) -> ItemRecord:
    """Make an item of the fields that an expression compares."""
    return ItemRecord(**{"id": "", "captions": (), "image_sha256": "", **fields})


def _check_item(record: PairRecord) -> ItemRecord:
    assert isinstance(record, ItemRecord)
    return record
