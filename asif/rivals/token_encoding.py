"""Encode pairs to tokens on disk: every image once, every caption as a separate text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from asif.anchorset.format.atomic_io import check_free_space
from asif.anchorset.tokens.pair_tokens import PairTokens, has_tokens, open_tokens
from asif.anchorset.tokens.token_journal import TokenJournal
from asif.anchorset.tokens.token_rows import TokenRows
from asif.building.batch import PairBatch, PreparedPair, prepare_pair
from asif.building.build import PairReader
from asif.building.clock import EncoderClock
from asif.building.pair_records import derive_pair_id
from asif.encoders import ImageEncoder, TextEncoder
from asif.encoders.prefetch import prefetch
from asif.encoders.text_limits import count_cut_texts, describe_cut
from asif.errors import InputRefused, Interrupted, UsageError
from asif.pairs import Pair, PairRecord, Reject
from asif.vectors import Fingerprint, Side

_log = logging.getLogger(__name__)

TOKEN_SEGMENT_ROWS = 128
"""Rows in one journal segment: these are in memory at a time, and are computed again after a kill."""
_TEXT_BATCH = 512
"""Captions encoded at a time, sorted by length so that there is little padding."""
_SAMPLE_PAIRS = 32
"""Pairs from which the size on disk is extrapolated."""

TokenCaptions = Literal["first", "all"]


def estimate_token_bytes(
    source: PairReader, image: ImageEncoder, text: TextEncoder, captions: TokenCaptions = "all"
) -> int:
    """Estimate the bytes that `tokens_from_pairs` writes, from one image and the captions of the first pairs."""
    batch = _TokenBatch(image, text, captions)
    with closing(_prepare_rows(source, image, 0, _SAMPLE_PAIRS)) as items:
        some = [item for item in items if isinstance(item, PreparedPair)]
    if not some:
        return 0
    images = TokenRows.from_padded(image.tokens([some[0].image]))
    texts = batch.encode_texts(sorted({caption for item in some for caption in batch.used_captions(item.pair)}))
    count = sum(len(batch.used_captions(item.pair)) for item in some)
    return int(source.rows * (images.bytes + texts.bytes / len(texts) * count / len(some)))


def tokens_from_pairs(
    source: PairReader,
    image: ImageEncoder,
    text: TextEncoder,
    path: Path,
    captions: TokenCaptions = "all",
    progress: Callable[[int], None] = lambda rows: None,
) -> PairTokens:
    """Write the tokens of pairs to the folder `path`, and open them; existing tokens are only opened.

    `progress` is called with the number of rows done. Unusable rows are left out and listed in `rejects`. Captions that
    are longer than the text encoder reads are reported. Memory: one segment of 128 rows. Raises UsageError for encoders
    without tokens, OutOfSpace, before the first row, if the disk is too small, InputRefused if no pair is left,
    EncoderMismatch or InputRefused if `path` holds other tokens, Interrupted on Ctrl-C; the same call then resumes.
    """
    encoders: dict[Side, Fingerprint] = {"image": image.fingerprint, "text": text.fingerprint}
    origin = {"identity": source.identity, "captions": captions, "rows": source.rows}
    if not has_tokens(path):
        plan = {"source": origin, "encoders": {side: dict(each.fields) for side, each in encoders.items()}}
        with TokenJournal(path, plan) as journal:
            check_free_space(
                path,
                estimate_token_bytes(source, image, text, captions) - journal.bytes,
                f"the tokens in {path}",
                "free some space, choose another disk, or take fewer pairs or an encoder with fewer tokens",
            )
            batch = _TokenBatch(image, text, captions)
            try:
                _encode_rows(journal, source, batch, progress)
            except KeyboardInterrupt:
                raise Interrupted(
                    f"stopped at row {journal.next_row:,} of {source.rows:,}; the tokens up to there are saved",
                    "the rest of the rows",
                    "run the same command again to resume",
                ) from None
            journal.publish()
            if batch.clock.cut_texts:
                cut, texts = batch.clock.cut_texts, batch.clock.texts
                _log.warning(describe_cut(cut, texts, "captions", text.spec, text.fingerprint))
    return open_tokens(path, encoders, origin)


def _encode_rows(
    journal: TokenJournal, source: PairReader, batch: _TokenBatch, progress: Callable[[int], None]
) -> None:
    """Encode the rows that are not in the journal yet, segment by segment."""
    done = journal.next_row
    progress(done)
    with closing(_prepare_rows(source, batch.image, done, source.rows)) as items:
        for item in items:
            batch.add(item)
            done += 1
            if len(batch) == TOKEN_SEGMENT_ROWS or done == source.rows:
                journal.append(*batch.finish(), done)
                batch = _TokenBatch(batch.image, batch.text, batch.captions, batch.clock)
                progress(done)
    if done < source.rows:
        raise InputRefused(
            f"{source.path} ended after {done:,} rows",
            f"{source.rows:,} rows, as it had when it was opened",
            "start again when it is complete",
        )


def _prepare_rows(
    source: PairReader, encoder: ImageEncoder, start: int, stop: int
) -> Generator[PreparedPair | Reject, None, None]:
    """Yield the source rows from `start` up to `stop` with decoded images, prefetched by threads."""

    def work(item: Pair | Reject) -> PreparedPair | Reject:
        if isinstance(item, Pair) and item.image_embedding is not None:
            raise UsageError(
                f"{source.path} has vectors that somebody else computed",
                "images and captions: precomputed vectors have no tokens",
                "give the pairs themselves, or do without tokens",
            )
        return prepare_pair(item, encoder)

    return prefetch(work, islice(source.read(start), max(0, stop - start)))


@dataclass
class _TokenBatch(PairBatch):
    """Turn prepared pairs into tokens: image, text, records, rejects; `clock` counts texts and those that are cut."""

    clock: EncoderClock = field(default_factory=EncoderClock)
    _images: list[TokenRows] = field(default_factory=list)

    def run(self, images: list[Any]) -> None:
        """Compute the tokens of images."""
        self._images.append(TokenRows.from_padded(self.image.tokens(images)))

    def finish(self) -> tuple[TokenRows, TokenRows, list[PairRecord], list[Reject]]:
        """Run the pending images and return all tokens; pairs with unusable features join the rejects."""
        self.flush()
        images = TokenRows.concatenate(self._images)
        distinct = sorted({caption for pair, _ in self.pairs for caption in self.used_captions(pair)})
        self.clock.texts += len(distinct)
        self.clock.cut_texts += count_cut_texts(self.text, distinct)
        texts, place = self.encode_texts(distinct), {caption: row for row, caption in enumerate(distinct)}
        bad_images, bad_texts = images.problems(), texts.problems()
        good: list[int] = []
        for at, (pair, _) in enumerate(self.pairs):
            reasons = [f"image {bad_images[at]}"] if at in bad_images else []
            reasons += [
                f"text {bad_texts[row]}" for row in map(place.get, self.used_captions(pair)) if row in bad_texts
            ]
            if reasons:
                self.rejects.append(Reject(pair.row, pair.id, reasons[0]))
            else:
                good.append(at)
        records = [self._record(*self.pairs[at]) for at in good]
        rows = [place[caption] for record in records for caption in record.captions]
        return images.take(good), texts.take(rows), records, sorted(self.rejects, key=lambda reject: reject.row)

    def used_captions(self, pair: Pair) -> tuple[str, ...]:
        """Return the captions of a pair that the mode uses."""
        return pair.captions[:1] if self.captions == "first" else pair.captions

    def _record(self, pair: Pair, image_sha256: str) -> PairRecord:
        captions = self.used_captions(pair)
        name = pair.id or derive_pair_id(image_sha256, captions)
        return PairRecord(name, captions, image_sha256, pair.source, pair.licence, pair.url)

    def encode_texts(self, texts: Sequence[str]) -> TokenRows:
        """Encode texts, in batches of similar length; the result is in the order of `texts`."""
        by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        parts = [by_length[start : start + _TEXT_BATCH] for start in range(0, len(texts), _TEXT_BATCH)]
        rows = TokenRows.concatenate(
            TokenRows.from_padded(self.text.tokens([texts[row] for row in part])) for part in parts
        )
        return rows.take(sorted(range(len(texts)), key=by_length.__getitem__))
