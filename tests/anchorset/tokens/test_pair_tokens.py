"""Tokens of pairs on disk: what was encoded comes back, for the right pairs, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.build_fakes import (
    ListSource,
    TokenImages,
    TokenTexts,
    build_set,
    draw_rows,
    draw_vector,
    list_source,
    some_rows,
)

from asif.anchorset.format.atomic_io import atomic_write_bytes
from asif.anchorset.format.checksummed_json import dump_checksummed
from asif.anchorset.tokens.pair_tokens import TOKEN_FILES, TOKENS_HEADER, PairTokens, open_tokens, read_tokens_header
from asif.anchorset.tokens.token_journal import TokenJournal
from asif.anchorset.tokens.token_rows import TokenRows
from asif.encoders.precomputed import PrecomputedEncoder
from asif.errors import (
    Busy,
    EncoderMismatch,
    InputRefused,
    IntegrityError,
    Interrupted,
    NotFound,
    OutOfSpace,
    UnknownFormat,
    UsageError,
)
from asif.pairs import Pair, PairRecord, open_pairs
from asif.rivals import token_encoding as building
from asif.rivals.token_encoding import estimate_token_bytes, tokens_from_pairs
from asif.vectors import Fingerprint, Float32, Side


def round_to_half(values: Float32) -> Float32:
    return values.astype(np.float16).astype(np.float32)


def assert_tokens_match(found: PairTokens, source: ListSource, rows: Sequence[int]) -> None:
    """Compare with what each pair and each caption gives by itself."""
    pairs = [pair for row, pair in enumerate(source.items) if row in rows]
    assert [record.captions for record in found.records] == [pair.captions for pair in pairs]  # type: ignore[union-attr]
    images = found.image.read(range(len(pairs)))
    texts = found.text.read(range(len(found.text)))
    assert images.mask.all() and images.values.shape == (len(pairs), 4, 5)
    captions = [(at, caption) for at, pair in enumerate(pairs) for caption in pair.captions]  # type: ignore[union-attr]
    assert found.owners.tolist() == [at for at, _ in captions]
    for at, pair in enumerate(pairs):
        content: Any = pair.image  # type: ignore[union-attr]
        assert np.array_equal(images.values[at], round_to_half(draw_rows(content, 4, 5)))
        assert np.array_equal(images.pooled[at], draw_vector(content, "image"))
    for at, (_, caption) in enumerate(captions):
        words = len(caption.split())
        assert texts.mask[at].tolist() == [True] * words + [False] * (texts.mask.shape[1] - words)
        assert np.array_equal(texts.values[at][:words], round_to_half(draw_rows(caption.encode(), words, 3)))
        assert not texts.values[at][words:].any()
        assert np.array_equal(texts.pooled[at], draw_vector(caption.encode(), "text"))


def write_pair_tokens(source: Any, path: Path, **options: Any) -> PairTokens:
    image, text = options.pop("image", None) or TokenImages(), options.pop("text", None) or TokenTexts()
    return tokens_from_pairs(source, image, text, path, **options)


def fingerprints() -> dict[Side, Fingerprint]:
    return {"image": TokenImages().fingerprint, "text": TokenTexts().fingerprint}


def read_folder(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "TOKEN_SEGMENT_ROWS", 8)
    monkeypatch.setattr(building, "_TEXT_BATCH", 3)


# rows without padding


@given(st.lists(st.integers(0, 5), max_size=8), st.data())
def test_rows_come_back_as_they_went_in(counts: list[int], data: st.DataObject) -> None:
    rows = [draw_rows(bytes([at, count]), count, 3) for at, count in enumerate(counts)]
    pooled = draw_rows(b"pooled", len(counts), 2)
    packed = TokenRows.concatenate(
        TokenRows.of(rows[at : at + 2], pooled[at : at + 2]) for at in range(0, len(rows), 2)
    )
    assert len(packed) == len(rows) and packed.lengths.tolist() == counts
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6)) if rows else []
    found = packed.read(wanted)
    assert found.mask.sum(axis=1).tolist() == [counts[row] for row in wanted]
    assert found.pooled.tolist() == pooled[np.array(wanted, int)].tolist()
    for at, row in enumerate(wanted):
        assert np.array_equal(found.values[at][found.mask[at]].reshape(-1, 3), round_to_half(rows[row]))
    again = TokenRows.from_padded(found)
    assert np.array_equal(again.offsets, packed.take(wanted).offsets)
    assert np.array_equal(again.values.ravel(), packed.take(wanted).values.ravel())


@pytest.mark.parametrize("rows", [[-1], [0, 2], [5]])
def test_rows_that_are_not_there(rows: list[int]) -> None:
    packed = TokenRows.of([np.ones((1, 2))] * 2, np.ones((2, 1), np.float32))
    for look in (packed.read, packed.take):
        with pytest.raises(IndexError, match="of 2"):
            look(rows)


def test_rows_that_cannot_be_used() -> None:
    values = [np.array([[1.0]]), np.array([[1.0], [70000.0]]), np.array([[np.nan]]), np.array([[65504.0]])]
    packed = TokenRows.of(values, np.array([[1], [1], [1], [0]], np.float32))
    assert packed.problems() == {
        1: "tokens are not finite in float16",
        2: "tokens are not finite in float16",
        3: "embedding is zero",
    }


# pairs


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
    monkeypatch.setattr(building, "TOKEN_SEGMENT_ROWS", 128)
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


# what is there already


def test_tokens_are_written_once(tmp_path: Path) -> None:
    write_pair_tokens(list_source(*some_rows(5)), tmp_path / "tokens")
    image = TokenImages()
    found = write_pair_tokens(list_source(*some_rows(5)), tmp_path / "tokens", image=image)
    assert_tokens_match(found, list_source(*some_rows(5)), range(5))
    assert image.seen == []


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


@pytest.mark.parametrize("name", ["tokens", "tokens.partial"])
def test_nothing_of_somebody_else_is_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match=f"{name} is there already"):
        write_pair_tokens(list_source(*some_rows(5)), tmp_path / "tokens")
    assert (tmp_path / name / "letter.txt").read_text() == "dear"


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


# killed midway


class Killed(BaseException):
    """Stop a run where nothing catches it."""


def stop_at_row(source: ListSource, row: int, error: type[BaseException]) -> ListSource:
    def before(at: int) -> None:
        if at == row:
            raise error

    return replace(source, before=before)


MANY = list_source(*some_rows(120))


@pytest.fixture
def partial(tmp_path: Path, small_segments: None) -> Path:
    """Kill a run at row 100, of which 64 had been read ahead: four segments of 8 rows are kept."""
    with pytest.raises(Killed):
        write_pair_tokens(stop_at_row(MANY, 100, Killed), tmp_path / "tokens")
    return tmp_path / "tokens.partial"


def test_half_written_tokens_are_not_taken_for_whole_ones(tmp_path: Path, partial: Path) -> None:
    assert not (tmp_path / "tokens").exists()
    with pytest.raises(NotFound):
        open_tokens(tmp_path / "tokens", fingerprints())
    os.rename(partial, tmp_path / "tokens")  # whatever it is called
    with pytest.raises(IntegrityError, match="stops at row 32 of 120"):
        open_tokens(tmp_path / "tokens", fingerprints())


@pytest.mark.parametrize("torn", [(), TOKEN_FILES[:1], TOKEN_FILES])
def test_a_killed_run_is_taken_up(tmp_path: Path, partial: Path, torn: Sequence[str]) -> None:
    """What was written after the last segment, or while it was written, does not count."""
    for name in torn:
        with open(partial / name, "ab") as file:
            file.write(b"torn")
    done: list[int] = []
    image = TokenImages()
    found = write_pair_tokens(MANY, tmp_path / "tokens", image=image, progress=done.append)
    assert done[:2] == [32, 40]
    assert len(image.seen) == 1 + 120 - 32
    assert_tokens_match(found, MANY, range(120))
    write_pair_tokens(MANY, tmp_path / "at once")
    assert read_folder(tmp_path / "tokens") == read_folder(tmp_path / "at once")


@pytest.mark.parametrize("damage", ["shorter", "other encoder", "header"])
def test_a_run_that_cannot_be_taken_up_is_begun_anew(tmp_path: Path, partial: Path, damage: str) -> None:
    image = TokenImages(model="new" if damage == "other encoder" else "fake")
    if damage == "shorter":
        os.truncate(partial / "text.values", 10)
    if damage == "header":
        (partial / TOKENS_HEADER).write_bytes(b"{")
    done: list[int] = []
    found = write_pair_tokens(MANY, tmp_path / "tokens", image=image, progress=done.append)
    assert done[0] == 0
    assert_tokens_match(found, MANY, range(120))


@pytest.mark.usefixtures("small_segments")
def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="stopped at row 32 of 120; the tokens up to there are saved"):
        write_pair_tokens(stop_at_row(MANY, 100, KeyboardInterrupt), tmp_path / "tokens")
    assert_tokens_match(write_pair_tokens(MANY, tmp_path / "tokens"), MANY, range(120))


def test_a_source_that_ends_early(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="ended after 5 rows"):
        write_pair_tokens(replace(list_source(*some_rows(5)), rows=9), tmp_path / "tokens")


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    plan = {"encoders": {}, "source": {"rows": 5}}
    with TokenJournal(tmp_path / "tokens", plan), pytest.raises(Busy, match="another process is writing the tokens"):
        TokenJournal(tmp_path / "tokens", plan)
    TokenJournal(tmp_path / "tokens", plan).close()


def test_a_journal_is_held_to_its_plan(tmp_path: Path) -> None:
    plan = {"encoders": {}, "source": {"rows": 1}}
    record = PairRecord("a", ("one", "two"), "0" * 64)
    one, two = (TokenRows.of([np.ones((1, 2))] * count, np.ones((count, 2), np.float32)) for count in (1, 2))
    with TokenJournal(tmp_path / "tokens", plan) as journal:
        with pytest.raises(ValueError, match="1 images and 1 texts for 1 records"):
            journal.append(one, one, [record], [], 1)
        with pytest.raises(ValueError, match="tokens of 0 of 1 rows"):
            journal.publish()
        journal.append(one, two, [record], [], 1)
        wider = TokenRows.of([np.ones((1, 3))], np.ones((1, 2), np.float32))
        with pytest.raises(ValueError, match="among those of"):
            journal.append(wider, two, [record], [], 1)


# sizes


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
    monkeypatch.setattr(building, "_TEXT_BATCH", 4)
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
