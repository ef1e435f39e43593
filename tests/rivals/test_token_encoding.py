"""Tokens of pairs, encoded: every image and caption, bad rows told, sizes known before, real pairs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.build_fakes import ListSource, TokenImages, TokenTexts, list_source, some_rows
from support.pair_tokens import assert_tokens_match, read_folder, round_to_half, shrink_segments, write_pair_tokens
from support.short_texts import ShortTexts

from asif.anchorset.tokens.pair_tokens import TOKEN_FILES, TOKENS_HEADER
from asif.encoders.precomputed import PrecomputedEncoder
from asif.errors import InputRefused, OutOfSpace, UsageError
from asif.pairs import Pair, open_pairs
from asif.rivals import token_encoding
from asif.rivals.token_encoding import estimate_token_bytes, tokens_from_pairs
from asif.vectors import Tokens


class ShortTokens(ShortTexts):
    """Give every text the tokens of another encoder, which do not matter here."""

    def tokens(self, texts: Sequence[str]) -> Tokens:
        return TokenTexts().tokens(texts)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_segments(monkeypatch)


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("count", [1, 7, 8, 9, 30])
def test_every_image_and_every_caption(tmp_path: Path, count: int) -> None:
    source, done = list_source(*some_rows(count)), [0]
    image = TokenImages()
    found = write_pair_tokens(source, tmp_path / "tokens", image=image, progress=done.append)
    assert_tokens_match(found, source, range(count))
    assert found.ids == [f"id-{row:03}" for row in range(count)] and found.rejects == ()
    assert done[-1] == count and done == sorted(done)
    assert sorted(image.seen[1:]) == sorted({content for _, content, _ in some_rows(count)})  # [0]: to know the size
    assert sorted(read_folder(tmp_path / "tokens")) == sorted([TOKENS_HEADER, *TOKEN_FILES])
    assert [file.name for file in tmp_path.iterdir()] == ["tokens"]


@pytest.mark.usefixtures("small_segments")
def test_segments_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pair_tokens(list_source(*some_rows(30)), tmp_path / "a")
    monkeypatch.setattr(token_encoding, "TOKEN_SEGMENT_ROWS", 128)
    write_pair_tokens(list_source(*some_rows(30)), tmp_path / "b")
    assert read_folder(tmp_path / "a") == read_folder(tmp_path / "b")


def test_the_first_caption_alone(tmp_path: Path) -> None:
    found = write_pair_tokens(list_source(*some_rows(4)), tmp_path / "tokens", captions="first")
    assert [record.captions for record in found.records] == [(f"caption {row}",) for row in range(4)]
    assert found.owners.tolist() == [0, 1, 2, 3]
    with pytest.raises(InputRefused, match="tokens of another input"):
        write_pair_tokens(list_source(*some_rows(4)), tmp_path / "tokens", captions="all")


@pytest.mark.usefixtures("small_segments")
def test_bad_rows_are_left_out_and_told(tmp_path: Path) -> None:
    rows = some_rows(12)
    rows[2], rows[9] = ("two", b"bad image", ("a",)), (None, b"odd", ("b",))
    rows[5], rows[6] = ("five", b"huge", ("c", "d")), ("six", b"six", ("e", "lost"))
    source = list_source(*rows)
    image = TokenImages(odd={b"odd": [0.0] * 6}, huge=[b"huge"])
    found = write_pair_tokens(source, tmp_path / "tokens", image=image, text=TokenTexts(odd={"lost": [np.nan] * 4}))
    assert_tokens_match(found, source, [0, 1, 3, 4, 7, 8, 10, 11])
    assert [(reject.row, reject.id, reject.reason) for reject in found.rejects] == [
        (2, "two", "bad image bytes"),
        (5, "five", "image tokens are not finite in float16"),
        (6, "six", "text embedding is not finite"),
        (9, None, "image embedding is zero"),
    ]


def test_no_pair_left(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="none of 2 rows can be used: row 0: bad a bytes"):
        write_pair_tokens(list_source((None, b"bad a", ("a",)), (None, b"bad b", ("b",))), tmp_path / "tokens")
    assert list(tmp_path.iterdir()) == []


def test_tokens_are_written_once(tmp_path: Path) -> None:
    write_pair_tokens(list_source(*some_rows(5)), tmp_path / "tokens")
    image = TokenImages()
    found = write_pair_tokens(list_source(*some_rows(5)), tmp_path / "tokens", image=image)
    assert_tokens_match(found, list_source(*some_rows(5)), range(5))
    assert image.seen == []


def test_a_source_that_ends_early(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="ended after 5 rows"):
        write_pair_tokens(replace(list_source(*some_rows(5)), rows=9), tmp_path / "tokens")


def test_the_size_is_known_before(tmp_path: Path) -> None:
    """Where all pairs are alike it is exact: every image has four tokens, every caption two."""
    source = list_source(*[(None, b"image %d" % row, (f"caption {row}", f"word {row}")) for row in range(50)])
    expected = 50 * (4 * 5 * 2 + 6 * 4 + 4) + 100 * (2 * 3 * 2 + 4 * 4 + 4)
    assert estimate_token_bytes(source, TokenImages(), TokenTexts()) == expected
    assert estimate_token_bytes(source, TokenImages(), TokenTexts(), "first") == expected - 50 * (2 * 3 * 2 + 4 * 4 + 4)
    write_pair_tokens(source, tmp_path / "tokens")
    arrays = [name for name in TOKEN_FILES if not name.endswith(".jsonl")]
    assert sum((tmp_path / "tokens" / name).stat().st_size for name in arrays) == expected
    assert estimate_token_bytes(list_source((None, b"bad", ("a",))), TokenImages(), TokenTexts()) == 0


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=999))
    image = TokenImages()
    with pytest.raises(OutOfSpace, match=r"will take about [0-9,]+ bytes more, and 999 are free"):
        write_pair_tokens(list_source(*some_rows(50)), tmp_path / "tokens", image=image)
    assert len(image.seen) == 1


def test_captions_of_about_one_length_are_encoded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_encoding, "_TEXT_BATCH", 4)
    captions = [" ".join(["word"] * (1 + row % 5)) + f" {row}" for row in range(20)]
    source = list_source(*[(None, b"image %d" % row, (caption,)) for row, caption in enumerate(captions)])
    text = TokenTexts()
    assert_tokens_match(write_pair_tokens(source, tmp_path / "tokens", text=text), source, range(20))
    assert set(text.calls) == {4} and [len(one.split()) for one in text.seen[-20::4]] == [2, 3, 4, 5, 6]


def test_vectors_of_somebody_else_have_no_tokens(tmp_path: Path) -> None:
    vectors = ListSource([Pair(0, "a", None, ("a",), image_embedding=np.ones(6), text_embedding=np.ones(4))])
    with pytest.raises(UsageError, match="a list has vectors that somebody else computed"):
        write_pair_tokens(vectors, tmp_path / "tokens")
    with pytest.raises(UsageError, match="an image to encode, with an anchor set of precomputed vectors"):
        write_pair_tokens(list_source(*some_rows(2)), tmp_path / "tokens", image=PrecomputedEncoder("image", 6))


@pytest.mark.realdata
def test_tokens_of_real_pairs(realdata: Path, tmp_path: Path, image_encoder: Any, text_encoder: Any) -> None:
    source = open_pairs(realdata / "flickr8k/dev.parquet")
    few = ListSource([item for item, _ in zip(source.read(), range(12), strict=False)])
    found = tokens_from_pairs(few, image_encoder, text_encoder, tmp_path / "tokens")
    pairs = [pair for pair in few.items if isinstance(pair, Pair)]
    assert len(found.image) == 12 and found.owners.tolist() == [at for at in range(12) for _ in pairs[at].captions]
    images = image_encoder.tokens([image_encoder.prepare(pair.image) for pair in pairs])
    texts = text_encoder.tokens([caption for pair in pairs for caption in pair.captions])
    for kept, made in ((found.image, images), (found.text, texts)):
        back = kept.read(range(len(made)))
        assert np.array_equal(back.values, round_to_half(made.values))
        assert np.array_equal(back.mask, made.mask) and np.array_equal(back.pooled, made.pooled)


@pytest.mark.usefixtures("small_segments")
def test_captions_that_are_cut_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = "a very long story about one dog and its tail"
    rows: list[Any] = [(str(row), b"image %d" % row, (f"{long} {row}", "short")) for row in range(20)]
    write_pair_tokens(list_source(*rows), tmp_path / "tokens", text=ShortTokens())
    (said,) = caplog.messages
    assert said.startswith("20 of 23 captions are longer than the 8 tokens that sentence-transformers:short reads")
