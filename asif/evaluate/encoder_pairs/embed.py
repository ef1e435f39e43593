"""Embed the same pairs with several encoders, each row once with each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal

import numpy as np

from asif.aligners.sampling import choose_evenly_spaced
from asif.encoders import Device, ImageEncoder, TextEncoder, load_image_encoder, load_text_encoder
from asif.encoders.images import read_image_bytes
from asif.encoders.precomputed import PrecomputedEncoder
from asif.encoders.prefetch import prefetch
from asif.errors import BadImage, InputRefused
from asif.evaluate.encoder_pairs.embeddings import Encoded, SeenPairs
from asif.pairs import Pair, PairSource, Reject
from asif.vectors import Float32, Side, find_vector_problems, mean_direction, normalise_rows

Captions = Literal["mean", "first"]
Progress = Callable[[int], None]
Vectors = dict[int, Float32]
"""Raw vectors by row of the source."""

TEXT_ROWS = 512  # whose captions are embedded at a time


def from_pairs(
    source: PairSource,
    images: Sequence[str],
    texts: Sequence[str],
    limit: int,
    captions: Captions = "mean",
    device: Device = "auto",
    progress: Progress = lambda done: None,
) -> SeenPairs:
    """Embed at most `limit` rows, spread evenly over a source, with every encoder named by `images` and `texts`.

    Vectors that come with the pairs are the one encoder of their side, and none is loaded. A row that one encoder
    cannot use is left out for all. `progress` is called with the number of rows done, for each encoder anew. Raises
    InputRefused where no row is left.
    """
    captions_of: dict[int, tuple[str, ...]] = {}
    rejects: dict[int, Reject] = {}
    found: list[tuple[Side, ImageEncoder | TextEncoder, Vectors]] = []
    if source.dims:
        image, text = PrecomputedEncoder("image", source.dims[0]), PrecomputedEncoder("text", source.dims[1])
        found = [("image", image, {}), ("text", text, {})]
        for item in chosen(source, limit, rejects):
            found[0][2][item.row] = np.asarray(item.image_embedding, np.float32)
            found[1][2][item.row] = np.asarray(item.text_embedding, np.float32)
            progress(2)
    else:
        image_encoders = [load_image_encoder(spec, device) for spec in dict.fromkeys(images)]
        text_encoders = [load_text_encoder(spec, device) for spec in dict.fromkeys(texts)]
        for encoder in image_encoders:
            found.append(("image", encoder, embed_images(encoder, chosen(source, limit, rejects), rejects, progress)))
        for item in chosen(source, limit, rejects):
            captions_of[item.row] = item.captions[:1] if captions == "first" else item.captions
        for other in text_encoders:
            found.append(("text", other, embed_texts(other, captions_of, progress)))
    for _, _, vectors in found:
        refuse_odd(vectors, rejects)
    rows = sorted(set.intersection(*(set(vectors) for _, _, vectors in found)) - rejects.keys())
    left_out = tuple(rejects[row] for row in sorted(rejects))
    if not rows:
        why = f": row {left_out[0].row}: {left_out[0].reason}" if left_out else ""
        raise InputRefused(f"{source.path} has no pair that can be used{why}", "at least 4", "mend the input")
    encoded = [
        Encoded(side, encoder.spec, encoder.fingerprint, normalise_rows(np.stack([vectors[row] for row in rows])))
        for side, encoder, vectors in found
    ]
    sides = [tuple(one for one in encoded if one.side == side) for side in ("image", "text")]
    return SeenPairs(sides[0], sides[1], left_out)


def chosen(source: PairSource, limit: int, rejects: dict[int, Reject]) -> Iterator[Pair]:
    """Yield the pairs of the rows that are looked at; the others among them join the rejects."""
    wanted = set(choose_evenly_spaced(source.rows, limit).tolist())
    for item in source.read():
        if item.row in wanted and isinstance(item, Reject):
            rejects.setdefault(item.row, item)
        elif item.row in wanted and isinstance(item, Pair) and item.row not in rejects:
            yield item


def embed_images(
    encoder: ImageEncoder, pairs: Iterator[Pair], rejects: dict[int, Reject], progress: Progress
) -> Vectors:
    """Embed images, decoding ahead of the model; those that cannot be decoded join the rejects."""

    def prepare(pair: Pair) -> tuple[Pair, Any]:
        try:
            assert pair.image is not None  # no vectors were precomputed
            return pair, encoder.prepare(read_image_bytes(pair.image))
        except BadImage as error:
            return pair, error

    vectors: Vectors = {}
    waiting: dict[int, Any] = {}

    def run() -> None:
        if waiting:
            vectors.update(zip(waiting, encoder.forward(list(waiting.values())), strict=True))
            progress(len(waiting))
            waiting.clear()

    with closing(prefetch(prepare, pairs)) as every:  # a stop cancels what waits
        for pair, prepared in every:
            if isinstance(prepared, BadImage):
                rejects[pair.row] = Reject(pair.row, pair.id, prepared.came)
                progress(1)
                continue
            waiting[pair.row] = prepared
            if len(waiting) == encoder.batch:
                run()
    run()
    return vectors


def embed_texts(encoder: TextEncoder, captions_of: Mapping[int, tuple[str, ...]], progress: Progress) -> Vectors:
    """Embed captions, each distinct one once in some hundred rows, and average those of one pair."""
    vectors: Vectors = {}
    rows = list(captions_of)
    for start in range(0, len(rows), TEXT_ROWS):
        some = rows[start : start + TEXT_ROWS]
        distinct = sorted({text for row in some for text in captions_of[row]})
        encoded = dict(zip(distinct, encoder.forward(distinct), strict=True))
        vectors.update({row: mean_direction([encoded[text] for text in captions_of[row]]) for row in some})
        progress(len(some))
    return vectors


def refuse_odd(vectors: Vectors, rejects: dict[int, Reject]) -> None:
    """Put rows whose vector has no direction among the rejects."""
    rows = list(vectors)
    for at, reason in (find_vector_problems(np.stack(list(vectors.values()))) if rows else {}).items():
        rejects.setdefault(rows[at], Reject(rows[at], None, reason))
