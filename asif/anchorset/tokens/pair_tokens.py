"""Tokens of pairs on disk, ragged and in float16: of the image of each pair and of each of its captions.

The folder holds raw arrays (`image.values` [s, d] float16, `image.lengths` [n] int32, `image.pooled` [n, e] float32,
and the same for `text`), `pairs.jsonl` with the record of each image, `rejects.jsonl`, and `header.json`: the encoders
and the input they come from, and how many bytes of each file are valid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asif.anchorset.format.atomic_io import check_file_size, read_small_file
from asif.anchorset.format.checksummed_json import JsonFields, load_checksummed, parse_json_object
from asif.anchorset.format.rejects import parse_reject
from asif.anchorset.format.row_hash import parse_record
from asif.anchorset.tokens.token_rows import TokenRows
from asif.errors import EncoderMismatch, InputRefused, IntegrityError, NotFound, UnknownFormat
from asif.pairs.pair import PairRecord, Reject
from asif.vectors import SIDES, Fingerprint, Int64, Side

TOKENS_FORMAT = 1
TOKENS_HEADER = "header.json"
TOKEN_ARRAYS = {"values": "<f2", "lengths": "<i4", "pooled": "<f4"}
TOKEN_FILES = (*(f"{side}.{kind}" for side in SIDES for kind in TOKEN_ARRAYS), "pairs.jsonl", "rejects.jsonl")
_REWRITE_ADVICE = "remove the folder and write the tokens again"


@dataclass(frozen=True)
class PairTokens:
    """Hold the tokens of pairs: a row of `image` for each of `records`, a row of `text` for each of their captions.

    `owners` [texts] is the row of the image that each text belongs to, ascending. `rejects` are the source rows that
    were left out, and `header` holds the origin: encoders and source.
    """

    image: TokenRows
    text: TokenRows
    records: tuple[PairRecord, ...]
    rejects: tuple[Reject, ...]
    header: Mapping[str, Any]

    @property
    def ids(self) -> list[str]:
        """Return the id of each image's pair."""
        return [record.id for record in self.records]

    @cached_property
    def owners(self) -> Int64:
        return np.repeat(np.arange(len(self.records)), [len(record.captions) for record in self.records])

    def find_text_rows(self, record: PairRecord) -> Int64:
        """Return the rows of the texts of an anchor, in the order of its captions; their `owners` is its image.

        They are found by image and caption, in any captions mode of the anchors. Raises InputRefused.
        """
        try:
            return np.array([self._places[record.image_sha256, caption] for caption in record.captions], np.int64)
        except KeyError:
            raise InputRefused(
                f"the pair {record.id!r} is not among the {len(self.records):,} whose tokens were kept",
                "tokens of the pairs that the anchors were built from",
                "write the tokens from the same pairs",
            ) from None

    @cached_property
    def _places(self) -> dict[tuple[str, str], int]:
        contents = [(record.image_sha256, caption) for record in self.records for caption in record.captions]
        return {content: row for row, content in reversed(list(enumerate(contents)))}  # of equal ones the first


def has_tokens(path: Path) -> bool:
    """Tell whether `path` holds a header of tokens; reads nothing of it."""
    return (path / TOKENS_HEADER).exists()


def open_tokens(
    path: Path, encoders: Mapping[Side, Fingerprint], source: Mapping[str, Any] | None = None
) -> PairTokens:
    """Map the tokens of pairs into memory if they were made by these encoders, and from this source if given.

    `source` are its fields in the header: `identity`, `captions` and `rows`. The size of every file is checked; values
    are not read. Raises NotFound, EncoderMismatch, InputRefused for another source, IntegrityError for damaged or
    unfinished tokens.
    """
    if not has_tokens(path):
        raise NotFound(
            f"there are no tokens in {path}", f"a folder with {TOKENS_HEADER} in it", "write them, or check the path"
        )
    header = read_tokens_header(path)
    _check_origin(path, header, encoders, source)
    if header["next_row"] != header["source"]["rows"]:
        raise IntegrityError(
            f"{path} stops at row {header['next_row']:,} of {header['source']['rows']:,}",
            "tokens that were written to the end",
            "write them again: the run resumes where it stopped",
        )
    for name in TOKEN_FILES:
        check_file_size(path / name, header["files"][name])
    image, text = (_open_token_rows(path, side, header) for side in SIDES)
    records = tuple(parse_record(json.loads(line)) for line in (path / "pairs.jsonl").read_bytes().splitlines())
    tokens = PairTokens(image, text, records, read_token_rejects(path), header)
    if len(records) != len(image) or len(tokens.owners) != len(text):
        raise IntegrityError(
            f"{path} has {len(image)} images and {len(text)} texts for the captions of {len(records)} pairs",
            "an image for each pair, and a text for each caption",
            _REWRITE_ADVICE,
        )
    return tokens


def read_token_rejects(path: Path) -> tuple[Reject, ...]:
    """Read the source rows that were left out; raises IntegrityError."""
    file = path / "rejects.jsonl"
    lines = file.read_bytes().splitlines()
    return tuple(parse_reject(JsonFields(parse_json_object(line, str(file)), str(file))) for line in lines)


def _open_token_rows(path: Path, side: Side, header: Mapping[str, Any]) -> TokenRows:
    """Map the tokens of one side into memory."""
    dim, pooled_dim = header["dims"][side]
    place = {kind: path / f"{side}.{kind}" for kind in TOKEN_ARRAYS}
    lengths = np.fromfile(place["lengths"], TOKEN_ARRAYS["lengths"])
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    check_file_size(place["values"], int(offsets[-1]) * dim * 2)
    check_file_size(place["pooled"], len(lengths) * pooled_dim * 4)
    values = np.memmap(place["values"], TOKEN_ARRAYS["values"], "r", shape=(int(offsets[-1]), dim))
    pooled = np.memmap(place["pooled"], TOKEN_ARRAYS["pooled"], "r", shape=(len(lengths), pooled_dim))
    return TokenRows(np.asarray(values), offsets, np.asarray(pooled))


def read_tokens_header(path: Path) -> dict[str, Any]:
    """Read the header; raises IntegrityError for any changed byte, UnknownFormat for the header of a newer asif."""
    where = path / TOKENS_HEADER
    data = read_small_file(where)
    fields = load_checksummed(data, str(where))
    if fields.integer("format") != TOKENS_FORMAT:
        raise UnknownFormat(
            f"{where} is of format {fields.integer('format')}", f"format {TOKENS_FORMAT}", "install a newer asif"
        )
    return dict(json.loads(data))


def _check_origin(
    path: Path, header: Mapping[str, Any], encoders: Mapping[Side, Fingerprint], source: Mapping[str, Any] | None
) -> None:
    """Raise EncoderMismatch or InputRefused if tokens were made by other encoders or from another input."""
    for side, mine in encoders.items():
        theirs = Fingerprint(header["encoders"][side])
        if theirs != mine:
            details = ", ".join(f"{name} {a!r}, not {b!r}" for name, (a, b) in mine.differences(theirs).items())
            raise EncoderMismatch(
                f"{side} encoder with fingerprint {mine.digest[:12]} ({details[:300]})",
                f"fingerprint {theirs.digest[:12]}, with which the tokens in {path} were made",
                "write the tokens of this encoder to another folder",
            )
    if source is not None and header["source"] != dict(source):
        raise InputRefused(
            f"{path} holds the tokens of another input, or of an earlier state of it",
            "tokens of these pairs",
            "write them to another folder, or remove this one",
        )
