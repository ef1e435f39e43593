"""A build as a plain loop, one thing after another: the definition with which builds in threads are compared."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from asif.anchorset import Journal
from asif.building import BadRowCounter, BuildOptions
from asif.building.batch import EmbeddingBatch, PreparedPair, prepare_pair
from asif.building.clock import EncoderClock
from asif.errors import InputRefused
from asif.pairs import JoinedRow, Pair, Reject, RowsApart, join_repeated_ids
from asif.pairs.pair import ID_CONFLICT


def encode_rows_in_turn(
    journal: Journal,
    source: Any,
    rows: int,
    apart: RowsApart | None,
    encoders: tuple[Any, Any],
    options: BuildOptions,
    clock: EncoderClock,
    progress: Callable[[int], None],
    segment_rows: int,
) -> None:
    """Read, decode, encode and write the rows that are not in the journal yet, as `build.encode_rows` does."""
    bad = BadRowCounter(options.max_bad_rows.allowed(rows), rows, "; what is done is kept")
    rejected: dict[int, str] = {}
    for reject in journal.rejects():
        bad.count(reject)
        rejected[reject.row] = reject.reason
    done, end, known = journal.next_row, 0, {}
    batch = EmbeddingBatch(*encoders, options.captions, clock, lambda forward: forward())
    read = islice(source.read(done), rows - done)
    for item in join_repeated_ids(read) if apart is None else apart.join(read):
        prepared = item if isinstance(item, JoinedRow) else prepare_pair(item, encoders[0])
        batch.add(prepared)
        covered = [item.row, *getattr(item, "joined", ())]
        done, end = done + len(covered), max(end, *(row + 1 for row in covered))
        if isinstance(prepared, Reject):
            bad.count(prepared)
        elif isinstance(prepared, PreparedPair) and prepared.pair.id is not None:
            content = (prepared.image_sha256, prepared.pair.captions)
            if content not in known.setdefault(prepared.pair.id, [content]):
                known[prepared.pair.id].append(content)
                bad.count(Reject(item.row, item.id, ID_CONFLICT))
        if (len(batch) >= segment_rows and done == end) or done == rows:
            batch.flush()
            before = len(batch.rejects)
            encoded = encode_captions(batch, encoders[1])
            clock.texts += len(encoded)
            records, rows_of, image, text = batch.finish(encoded, rejected)
            for reject in batch.rejects[before:]:
                bad.count(reject)
            journal.append(records, image, text, batch.rejects, done, rows_of, batch.joined)
            rejected |= {reject.row: reject.reason for reject in batch.rejects}
            batch = EmbeddingBatch(*encoders, options.captions, clock, lambda forward: forward())
            progress(done)
    if done < rows:
        raise InputRefused(f"{source.path} ended after {done:,} rows", "", "")


def encode_captions(batch: EmbeddingBatch, encoder: Any) -> dict[str, Any]:
    """Encode every caption that the mode uses alone."""
    pairs: list[Pair] = [pair for pair, _ in batch.pairs if pair.text_embedding is None]
    last = 1 if batch.captions == "first" else None
    return {text: encoder.forward([text])[0] for pair in pairs for text in pair.captions[:last]}
