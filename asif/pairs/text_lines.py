"""Read the lines of a text file as items of a gallery of texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from asif.errors import InputRefused
from asif.pairs.columns import Columns
from asif.pairs.location import Place
from asif.pairs.pair import Pair, Reject
from asif.pairs.row_parser import parse_row
from asif.pairs.source import PairSource


@dataclass(frozen=True)
class TextLines(PairSource):
    """Read each line that is not blank as one text; a line that is not UTF-8 is a Reject."""

    @cached_property
    def _count(self) -> int:
        return sum(1 for _ in self._read_lines())

    @property
    def rows(self) -> int:
        """Count the lines that are not blank."""
        return self._count

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one item for each line that is not blank, from `start` on."""
        for row, line in enumerate(islice(self._read_lines(), start, None), start):
            yield parse_row(row, {"captions": line}, self.path)

    def _read_lines(self) -> Iterator[bytes]:
        try:
            with self.files[0].open("rb") as file:
                for number, line in enumerate(file):
                    text = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
                    if text.strip():
                        yield text
        except OSError as error:
            raise InputRefused(f"{self.path} cannot be read: {error}", "a readable file", "check the file") from error


def open_text_lines(path: Place) -> TextLines:
    """Open a file with one text a line."""
    return TextLines(path, "one text a line", Columns(captions="line"), (), (path,), None)
