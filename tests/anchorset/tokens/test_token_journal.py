"""The journal of tokens: taken up after a kill, held to its plan, one writer, nothing of somebody else touched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.build_fakes import ListSource, TokenImages, list_source, some_rows
from support.pair_tokens import assert_tokens_match, fingerprints, read_folder, shrink_segments, write_pair_tokens

from asif.anchorset.tokens.pair_tokens import TOKEN_FILES, TOKENS_HEADER, open_tokens
from asif.anchorset.tokens.token_journal import TokenJournal
from asif.anchorset.tokens.token_rows import TokenRows
from asif.errors import Busy, IntegrityError, Interrupted, NotFound, UsageError
from asif.pairs import PairRecord


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_segments(monkeypatch)


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


@pytest.mark.parametrize("name", ["tokens", "tokens.partial"])
def test_nothing_of_somebody_else_is_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match=f"{name} is there already"):
        write_pair_tokens(list_source(*some_rows(5)), tmp_path / "tokens")
    assert (tmp_path / name / "letter.txt").read_text() == "dear"
