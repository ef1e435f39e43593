"""Pairs become tokens on disk: every image once, every caption as a text of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from asif.anchorset.tokens.pair_tokens import PairTokens, has_tokens, open_tokens
from asif.anchorset.tokens.token_journal import TokenJournal
from asif.anchorset.tokens.token_rows import TokenRows
from asif.building.batch import Collected, Prepared, prepare
from asif.building.build import Source
from asif.building.pair_records import derived_id
from asif.encoders import ImageEncoder, TextEncoder
from asif.encoders.prefetch import ahead
from asif.errors import InputRefused, Interrupted, OutOfSpace, UsageError
from asif.pairs import Pair, PairRecord, Reject
from asif.vectors import Fingerprint, Side

SEGMENT_ROWS = 128
"""Rows whose tokens are in memory at a time, and that a killed run computes anew."""
TEXTS = 512
"""Captions encoded at a time, of about one length, so that little of it is padding."""
SAMPLE = 32
"""Pairs from which the size is extrapolated."""

Captions = Literal["first", "all"]


def token_bytes(source: Source, image: ImageEncoder, text: TextEncoder, captions: Captions = "all") -> int:
    """Estimate the bytes that `from_pairs` writes, from one image and the captions of the first pairs."""
    segment = Segment(image, text, captions)
    with closing(prepared(source, image, 0, SAMPLE)) as items:
        some = [item for item in items if isinstance(item, Prepared)]
    if not some:
        return 0
    images = TokenRows.from_padded(image.tokens([some[0].image]))
    texts = segment.encoded(sorted({caption for item in some for caption in segment.chosen(item.pair)}))
    count = sum(len(segment.chosen(item.pair)) for item in some)
    return int(source.rows * (images.bytes + texts.bytes / len(texts) * count / len(some)))


def from_pairs(
    source: Source,
    image: ImageEncoder,
    text: TextEncoder,
    path: Path,
    captions: Captions = "all",
    progress: Callable[[int], None] = lambda rows: None,
) -> PairTokens:
    """Write the tokens of pairs to the folder `path`; where it has them already, open them.

    `progress` is called with the number of rows done. Rows that cannot be used are left out and told in `rejects`.
    Memory: one segment of 128 rows. Raises UsageError for encoders without tokens, OutOfSpace where the disk is too
    small, before the first row, InputRefused where no pair is left, EncoderMismatch or InputRefused where `path` holds
    other tokens, Interrupted on Ctrl-C; the same call then goes on where it stopped.
    """
    encoders: dict[Side, Fingerprint] = {"image": image.fingerprint, "text": text.fingerprint}
    origin = {"identity": source.identity, "captions": captions, "rows": source.rows}
    if not has_tokens(path):
        plan = {"source": origin, "encoders": {side: dict(each.fields) for side, each in encoders.items()}}
        with TokenJournal(path, plan) as journal:
            check_room(path, token_bytes(source, image, text, captions) - journal.bytes)
            try:
                fill(journal, source, Segment(image, text, captions), progress)
            except KeyboardInterrupt:
                raise Interrupted(
                    f"stopped at row {journal.next_row:,} of {source.rows:,}; the tokens up to there are kept",
                    "the rest of the rows",
                    "run the same again: it goes on from there",
                ) from None
            journal.publish()
    return open_tokens(path, encoders, origin)


def check_room(path: Path, needed: int) -> None:
    """Raise OutOfSpace unless so many bytes are free where `path` is to be."""
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise OutOfSpace(
            f"the tokens in {path} will take about {needed:,} bytes more, and {free:,} are free",
            "room for all of them",
            "free some space, choose another disk, or take fewer pairs or an encoder with fewer tokens",
        )


def fill(journal: TokenJournal, source: Source, segment: Segment, progress: Callable[[int], None]) -> None:
    """Encode the rows that the journal does not have yet, segment by segment."""
    done = journal.next_row
    progress(done)
    with closing(prepared(source, segment.image, done, source.rows)) as items:  # a stop cancels what waits
        for item in items:
            segment.add(item)
            done += 1
            if len(segment) == SEGMENT_ROWS or done == source.rows:
                journal.append(*segment.finish(), done)
                segment = Segment(segment.image, segment.text, segment.captions)
                progress(done)
    if done < source.rows:
        raise InputRefused(
            f"{source.path} ended after {done:,} rows",
            f"{source.rows:,} rows, as it had when it was opened",
            "start again when it is complete",
        )


def prepared(source: Source, encoder: ImageEncoder, start: int, stop: int) -> Generator[Prepared | Reject, None, None]:
    """Yield the source rows from `start` up to `stop` with their images decoded, ahead of the model."""

    def work(item: Pair | Reject) -> Prepared | Reject:
        if isinstance(item, Pair) and item.image_embedding is not None:
            raise UsageError(
                f"{source.path} has vectors that somebody else computed",
                "images and captions: precomputed vectors have no tokens",
                "give the pairs themselves, or do without tokens",
            )
        return prepare(item, encoder)

    return ahead(work, islice(source.read(start), max(0, stop - start)))


@dataclass
class Segment(Collected):
    """Collect prepared pairs, run the encoders, and give their tokens: image, text, records, rejects."""

    _images: list[TokenRows] = field(default_factory=list)

    def run(self, images: list[Any]) -> None:
        """Take the tokens of images."""
        self._images.append(TokenRows.from_padded(self.image.tokens(images)))

    def finish(self) -> tuple[TokenRows, TokenRows, list[PairRecord], list[Reject]]:
        """Run what is waiting; pairs of which a side has unusable features join the rejects."""
        self.flush()
        images = TokenRows.concatenate(self._images)
        distinct = sorted({caption for pair, _ in self.pairs for caption in self.chosen(pair)})
        texts, place = self.encoded(distinct), {caption: row for row, caption in enumerate(distinct)}
        bad_images, bad_texts = images.problems(), texts.problems()
        good: list[int] = []
        for at, (pair, _) in enumerate(self.pairs):
            reasons = [f"image {bad_images[at]}"] if at in bad_images else []
            reasons += [f"text {bad_texts[row]}" for row in map(place.get, self.chosen(pair)) if row in bad_texts]
            if reasons:
                self.rejects.append(Reject(pair.row, pair.id, reasons[0]))
            else:
                good.append(at)
        records = [self._record(*self.pairs[at]) for at in good]
        rows = [place[caption] for record in records for caption in record.captions]
        return images.take(good), texts.take(rows), records, sorted(self.rejects, key=lambda reject: reject.row)

    def chosen(self, pair: Pair) -> tuple[str, ...]:
        """Return the captions of a pair that are used."""
        return pair.captions[:1] if self.captions == "first" else pair.captions

    def _record(self, pair: Pair, image_sha256: str) -> PairRecord:
        captions = self.chosen(pair)
        name = pair.id or derived_id(image_sha256, captions)
        return PairRecord(name, captions, image_sha256, pair.source, pair.licence, pair.url)

    def encoded(self, texts: Sequence[str]) -> TokenRows:
        """Encode texts, in order."""
        by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        parts = [by_length[start : start + TEXTS] for start in range(0, len(texts), TEXTS)]
        rows = TokenRows.concatenate(
            TokenRows.from_padded(self.text.tokens([texts[row] for row in part])) for part in parts
        )
        return rows.take(sorted(range(len(texts)), key=by_length.__getitem__))
