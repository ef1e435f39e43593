"""Tokens of pairs on disk: found for the right pairs; those of others, and damaged ones, are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.build_fakes import TokenImages, TokenTexts, build_set, draw_vector, list_source, some_rows
from support.pair_tokens import fingerprints, write_pair_tokens

from asif.anchorset.format.atomic_io import atomic_write_bytes
from asif.anchorset.tokens.pair_tokens import TOKEN_FILES, TOKENS_HEADER, open_tokens, read_tokens_header
from asif.errors import EncoderMismatch, InputRefused, IntegrityError, NotFound, UnknownFormat
from asif.pairs import PairRecord
from asif.vectors import dump_checksummed


@pytest.mark.parametrize("captions", ["mean", "first", "all"])
def test_anchors_find_their_tokens(tmp_path: Path, captions: str) -> None:
    """Sets keep pairs in the order of ids, without duplicates, and name those that have no id."""
    rows = [*some_rows(9)[::-1], (None, b"nameless", ("x y", "z")), ("again", b"image 3", ("caption 3", "ein Bär"))]
    source = list_source(*rows)
    found = write_pair_tokens(source, tmp_path / "tokens")
    anchors = build_set(source, tmp_path / "home", captions=captions).anchors
    records = anchors.records(range(anchors.count))
    assert len(records) > 9
    for record in records:
        texts = found.find_text_rows(record)
        for row, caption in zip(texts, record.captions, strict=True):
            assert np.array_equal(found.text.pooled[row], draw_vector(caption.encode(), "text"))
            owner = found.records[found.owners[row]]
            assert (owner.image_sha256, caption in owner.captions) == (record.image_sha256, True)
    with pytest.raises(InputRefused, match="'new' is not among the 11 whose tokens were kept"):
        found.find_text_rows(PairRecord("new", ("caption 1",), records[0].image_sha256))


def test_tokens_of_other_encoders_are_refused(tmp_path: Path) -> None:
    write_pair_tokens(list_source(*some_rows(5)), tmp_path / "tokens")
    for options in ({"image": TokenImages(model="new")}, {"text": TokenTexts(model="new")}):
        with pytest.raises(EncoderMismatch, match=r"model 'new.*', not 'fake"):
            write_pair_tokens(list_source(*some_rows(5)), tmp_path / "tokens", **options)
    assert len(open_tokens(tmp_path / "tokens", fingerprints()).image) == 5


def test_tokens_of_other_pairs_are_refused(tmp_path: Path) -> None:
    write_pair_tokens(list_source(*some_rows(5)), tmp_path / "tokens")
    other = replace(list_source(*some_rows(5)), identity="another list")
    with pytest.raises(InputRefused, match="the tokens of another input, or of an earlier state of it"):
        write_pair_tokens(other, tmp_path / "tokens")


def test_no_tokens_at_all(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there are no tokens in"):
        open_tokens(tmp_path / "nowhere", fingerprints())


@pytest.mark.parametrize("name", TOKEN_FILES)
def test_a_file_of_another_size_is_refused(tmp_path: Path, name: str) -> None:
    write_pair_tokens(list_source(*some_rows(5), (None, b"bad", ("a",))), tmp_path / "tokens")
    file = tmp_path / "tokens" / name
    whole = file.read_bytes()
    for changed in (whole[:-1], whole + b"\0"):
        file.write_bytes(changed)
        with pytest.raises(IntegrityError, match=f"{len(changed):,} bytes"):
            open_tokens(tmp_path / "tokens", fingerprints())
    file.unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        open_tokens(tmp_path / "tokens", fingerprints())


def test_lengths_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_pair_tokens(list_source(*some_rows(5)), tmp_path / "tokens")
    file = tmp_path / "tokens" / "text.lengths"
    lengths = np.fromfile(file, "<i4")
    (lengths + 1).tofile(file)
    with pytest.raises(IntegrityError, match=r"text\.values has"):
        open_tokens(tmp_path / "tokens", fingerprints())


def test_a_header_that_was_changed_is_refused(tmp_path: Path) -> None:
    write_pair_tokens(list_source(*some_rows(5)), tmp_path / "tokens")
    place = tmp_path / "tokens" / TOKENS_HEADER
    place.write_bytes(place.read_bytes().replace(b'"rows":5', b'"rows":6'))
    with pytest.raises(IntegrityError, match="its checksum does not fit"):
        open_tokens(tmp_path / "tokens", fingerprints())


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    write_pair_tokens(list_source(*some_rows(5)), tmp_path / "tokens")
    header = read_tokens_header(tmp_path / "tokens")
    del header["checksum"]
    atomic_write_bytes(tmp_path / "tokens" / TOKENS_HEADER, dump_checksummed({**header, "format": 2}))
    with pytest.raises(UnknownFormat, match="is of format 2"):
        open_tokens(tmp_path / "tokens", fingerprints())
