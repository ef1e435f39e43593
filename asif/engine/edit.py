"""Put pairs into a set, and make sets of others: some pairs of one, or the pairs of two."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from asif.aligners import make_aligner
from asif.anchorset import AnchorSet, Store, default_home, find_rows
from asif.anchorset.edit.upsert import UpsertKind
from asif.anchorset.format.references import check_set_name
from asif.building import Tolerance
from asif.building.add_pairs import encode_and_add
from asif.building.copy_rows import publish_rows
from asif.building.merge import OnConflict, merge_sets
from asif.encoders import Device
from asif.engine.engine import Engine
from asif.errors import InputRefused
from asif.pairs import PairSource, open_pairs
from asif.vectors import SIDES


def subset_anchors(
    ref: str,
    name: str,
    ids: Collection[str] | None = None,
    *,
    where: str | None = None,
    missing_ok: bool = False,
    home: Path | None = None,
) -> AnchorSet:
    """Make the pairs of these ids, or those that `where` is true of, the current version of the set `name`.

    Nothing is encoded, and `ref` stays as it is. Raises what `find_rows` and `publish_rows` do, InputRefused for none.
    """
    store = Store(home or default_home())
    check_set_name(name)
    with store.open(ref) as anchors:
        rows = find_rows(anchors, ids, where, missing_ok)
        if not len(rows):
            raise InputRefused(
                f"no pair of {anchors.ref} was chosen", "one, at least", "look at what there is, and choose otherwise"
            )
        operation = {"kind": "subset", "from": anchors.ref, "digest": anchors.digest, "pairs": len(rows)}
        return publish_rows([(anchors, rows)], store, name, operation)


def merge_anchors(
    a: str, b: str, name: str, *, on_conflict: OnConflict = "refuse", home: Path | None = None
) -> AnchorSet:
    """Make the pairs of two sets of the same encoders the current version of the set `name`; see `merged.merge`."""
    store = Store(home or default_home())
    check_set_name(name)
    with store.open(a) as first, store.open(b) as second:
        return merge_sets((first, second), store, name, on_conflict)


def add_pairs(
    ref: str,
    pairs: str | Path | PairSource,
    *,
    kind: UpsertKind = "add",
    max_bad_rows: Tolerance | None = None,
    home: Path | None = None,
    device: Device = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> AnchorSet:
    """Encode pairs with the set's own encoders, and make a version with them current.

    With `kind` "update" they take the place of the pairs with their ids. Only they are encoded; encoders are checked
    against the set's fingerprints. Raises EncoderMismatch, InputRefused for vectors where the set has encoders or the
    other way round, and what `putting.put` and `building.build` do.
    """
    source = pairs if isinstance(pairs, PairSource) else open_pairs(pairs)
    engine = Engine(ref, home=home, device=device, aligner=make_aligner("asif"))  # whatever profile it may have
    anchors = engine.anchor_set
    ours = tuple(anchors.dims[side] if anchors.encoder_spec(side) == "precomputed" else 0 for side in SIDES)
    if (source.dims or (0, 0)) != ours:
        raise InputRefused(
            f"{source.path} has {f'vectors of {source.dims} dimensions' if source.dims else 'images and captions'}",
            f"what {anchors.ref} was made of: {f'vectors of {ours}' if any(ours) else 'images and captions'}",
            "bring the pairs in the same form",
        )
    store = Store(home or default_home())
    store.check_current(ref)  # rather now than when all is encoded
    encoders = engine.image_encoder(anchors), engine.text_encoder(anchors)
    return encode_and_add(source, store, ref, kind, *encoders, max_bad_rows or Tolerance(), progress)
