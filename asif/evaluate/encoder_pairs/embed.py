"""Embed the same pairs with several encoders, each row once with each encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np

from asif.aligners.sampling import choose_evenly_spaced
from asif.encoders import Backend, Device, ImageEncoder, Precision, TextEncoder, load_image_encoder, load_text_encoder
from asif.encoders.images import read_image_bytes
from asif.encoders.precomputed import PrecomputedEncoder
from asif.encoders.prefetch import prefetch
from asif.encoders.spec import split_spec, unify_spec
from asif.errors import BadImage, InputRefused
from asif.evaluate.encoder_pairs.embeddings import EncodedPairs, EncodedSide, join_sides
from asif.pairs import Pair, PairSource, Reject
from asif.vectors import Float32, Side, find_vector_problems, mean_direction, normalise_rows

CaptionPooling = Literal["mean", "first"]
_Progress = Callable[[int], None]
_VectorsByRow = dict[int, Float32]
"""Raw vectors by row of the source."""

_CAPTION_ROWS = 512  # rows whose captions are embedded at a time


def encode_pairs(
    source: PairSource,
    images: Sequence[str],
    texts: Sequence[str],
    limit: int,
    captions: CaptionPooling = "mean",
    device: Device = "auto",
    backend: Backend = "auto",
    progress: _Progress = lambda done: None,
    precision: Precision = "float32",
    cache: Path | None = None,
) -> EncodedPairs:
    """Embed at most `limit` rows, spread evenly over a source, with every encoder named by `images` and `texts`.

    Joined encoders are joined from the vectors of their parts: each part embeds a row once, whatever joins name it.
    Vectors that come with the pairs are the one encoder of their side, and none is loaded. A row that one encoder
    cannot use is left out for all. `progress` is called with the number of rows done, by each encoder. Exported models
    are kept in `cache`, by default that of the user. Raises InputRefused if no row is left.
    """
    captions_of: dict[int, tuple[str, ...]] = {}
    rejects: dict[int, Reject] = {}
    found: list[tuple[str, Side, ImageEncoder | TextEncoder, _VectorsByRow]] = []
    if source.dims:
        image, text = PrecomputedEncoder("image", source.dims[0]), PrecomputedEncoder("text", source.dims[1])
        images, texts = (image.spec,), (text.spec,)
        found = [(image.spec, "image", image, {}), (text.spec, "text", text, {})]
        for item in _read_sampled_pairs(source, limit, rejects):
            found[0][3][item.row] = np.asarray(item.image_embedding, np.float32)
            found[1][3][item.row] = np.asarray(item.text_embedding, np.float32)
            progress(2)
    else:
        how = device, backend, cache, precision
        image_encoders = {spec: load_image_encoder(spec, *how) for spec in list_parts(images)}
        text_encoders = {spec: load_text_encoder(spec, *how) for spec in list_parts(texts)}
        for spec, encoder in image_encoders.items():
            vectors = _embed_images(encoder, _read_sampled_pairs(source, limit, rejects), rejects, progress)
            found.append((spec, "image", encoder, vectors))
        for item in _read_sampled_pairs(source, limit, rejects):
            captions_of[item.row] = item.captions[:1] if captions == "first" else item.captions
        for spec, other in text_encoders.items():
            found.append((spec, "text", other, _embed_captions(other, captions_of, progress)))
    for *_, vectors in found:
        _reject_degenerate(vectors, rejects)
    rows = sorted(set.intersection(*(set(vectors) for *_, vectors in found)) - rejects.keys())
    left_out = tuple(rejects[row] for row in sorted(rejects))
    if not rows:
        why = f": row {left_out[0].row}: {left_out[0].reason}" if left_out else ""
        raise InputRefused(f"{source.path} has no pair that can be used{why}", "at least 4", "mend the input")
    encoded: dict[Side, dict[str, EncodedSide]] = {"image": {}, "text": {}}
    for spec, side, each, vectors in found:
        values = normalise_rows(np.stack([vectors[row] for row in rows]))
        encoded[side][spec] = EncodedSide(side, each.spec, each.fingerprint, values)
    return EncodedPairs(_join_named(images, encoded["image"]), _join_named(texts, encoded["text"]), left_out)


def list_parts(specs: Sequence[str]) -> list[str]:
    """Return the encoders that are named, alone or as parts of joins, each once.

    >>> list_parts(["timm:a", "timm:b+timm:a"])
    ['timm:a', 'timm:b']
    """
    return list(dict.fromkeys(part for spec in specs for part in split_spec(spec)))


def _join_named(specs: Sequence[str], by_part: Mapping[str, EncodedSide]) -> tuple[EncodedSide, ...]:
    """Return what each distinct encoder gave, joins from their parts."""
    named = [[by_part[part] for part in split_spec(spec)] for spec in dict.fromkeys(map(unify_spec, specs))]
    return tuple(parts[0] if len(parts) == 1 else join_sides(parts) for parts in named)


def _read_sampled_pairs(source: PairSource, limit: int, rejects: dict[int, Reject]) -> Iterator[Pair]:
    """Yield the pairs of rows spread evenly over a source; rejected rows among them are added to `rejects`."""
    sampled = set(choose_evenly_spaced(source.rows, limit).tolist())
    for item in source.read():
        if item.row in sampled and isinstance(item, Reject):
            rejects.setdefault(item.row, item)
        elif item.row in sampled and isinstance(item, Pair) and item.row not in rejects:
            yield item


def _embed_images(
    encoder: ImageEncoder, pairs: Iterator[Pair], rejects: dict[int, Reject], progress: _Progress
) -> _VectorsByRow:
    """Embed images, decoding ahead of the model; those that cannot be decoded are added to `rejects`."""

    def prepare(pair: Pair) -> tuple[Pair, Any]:
        try:
            assert pair.image is not None  # no vectors were precomputed
            return pair, encoder.prepare(read_image_bytes(pair.image))
        except BadImage as error:
            return pair, error

    vectors: _VectorsByRow = {}
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


def _embed_captions(
    encoder: TextEncoder, captions_of: Mapping[int, tuple[str, ...]], progress: _Progress
) -> _VectorsByRow:
    """Embed captions, each distinct one once in a block of rows, and average those of one pair."""
    vectors: _VectorsByRow = {}
    rows = list(captions_of)
    for start in range(0, len(rows), _CAPTION_ROWS):
        some = rows[start : start + _CAPTION_ROWS]
        distinct = sorted({text for row in some for text in captions_of[row]})
        encoded = dict(zip(distinct, encoder.forward(distinct), strict=True))
        vectors.update({row: mean_direction([encoded[text] for text in captions_of[row]]) for row in some})
        progress(len(some))
    return vectors


def _reject_degenerate(vectors: _VectorsByRow, rejects: dict[int, Reject]) -> None:
    """Add rows whose vector has no direction to the rejects."""
    rows = list(vectors)
    for at, reason in (find_vector_problems(np.stack(list(vectors.values()))) if rows else {}).items():
        rejects.setdefault(rows[at], Reject(rows[at], None, reason))
