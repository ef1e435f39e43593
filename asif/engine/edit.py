"""Add pairs to a set; make a set from some pairs of another, or from the pairs of two."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from asif.aligners import make_aligner
from asif.anchorset import AnchorSet, Store, default_home, find_rows
from asif.anchorset.edit.upsert import UpsertKind
from asif.anchorset.format.references import check_set_name
from asif.building import BuildOptions, BuildResult, Tolerance
from asif.building.add_pairs import encode_and_add
from asif.building.copy_rows import publish_rows
from asif.building.merge import OnConflict, merge_sets
from asif.encoders import Backend, Device
from asif.engine.build import Pairs, choose_options, take_pairs
from asif.engine.encoder_pool import EncoderPool
from asif.engine.engine import Engine
from asif.errors import InputRefused, NotFound
from asif.modality import find_modality, name_many
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
    """Copy the pairs of these ids, or those that match `where`, into a new current version of the set `name`.

    Nothing is encoded, and `ref` does not change. Raises what `find_rows` and `publish_rows` do, and InputRefused if no
    pair is selected.
    """
    store = Store(home or default_home())
    check_set_name(name)
    with store.open(ref) as anchors:
        rows = find_rows(anchors, ids, where, missing_ok)
        if not len(rows):
            raise InputRefused(
                f"no pair of {anchors.ref} was chosen", "at least one pair", "change the ids or the expression"
            )
        operation = {"kind": "subset", "from": anchors.ref, "digest": anchors.digest, "pairs": len(rows)}
        return publish_rows([(anchors, rows)], store, name, operation)


def merge_anchors(
    a: str, b: str, name: str, *, on_conflict: OnConflict = "refuse", home: Path | None = None
) -> AnchorSet:
    """Copy the pairs of two sets of the same encoders into a new current version of `name`; see `merge_sets`."""
    store = Store(home or default_home())
    check_set_name(name)
    with store.open(a) as first, store.open(b) as second:
        return merge_sets((first, second), store, name, on_conflict)


def add_pairs(
    ref: str,
    pairs: Pairs,
    *,
    kind: UpsertKind = "add",
    split: str | None = None,
    options: BuildOptions | None = None,
    dedup: str | None = None,
    limit: int | None = None,
    max_bad_rows: Tolerance | str | int | None = None,
    resume: bool | None = None,
    home: Path | None = None,
    device: Device = "auto",
    backend: Backend = "auto",
    encoders: EncoderPool | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    report: Callable[[BuildResult], None] = lambda built: None,
) -> AnchorSet:
    """Encode pairs with the set's own encoders, and make a version with them current.

    `split` chooses one of several splits at a path. With `kind` "update" they replace the pairs with the same ids. Only
    the new pairs are encoded; encoders, those of an engine if given, are checked against the set's fingerprints. The
    keywords from `dedup` to
    `resume` are those of `BuildOptions`, and win over `options`; captions mode and dtype are the set's. `report` is
    called with the result of encoding, unless an earlier call encoded the pairs and did not get to publish them. Raises
    EncoderMismatch, InputRefused for vectors if the set has encoders or the other way round, and what `encode_and_add`
    raises.
    """
    options = choose_options(
        options, captions=None, dtype=None, dedup=dedup, limit=limit, max_bad_rows=max_bad_rows, resume=resume
    )
    source = take_pairs(pairs, limit=options.limit, home=home, split=split, modality=_find_modality(ref, home))
    engine = Engine(
        ref, home=home, device=device, backend=backend, encoders=encoders, aligner=make_aligner("asif")
    )  # not that of the profile: nothing is fitted
    anchors = engine.anchor_set
    set_dims = tuple(anchors.dims[side] if anchors.encoder_spec(side) == "precomputed" else 0 for side in SIDES)
    if (source.dims or (0, 0)) != set_dims:
        came, made = (f"{name_many(each)} and captions" for each in (source.modality, find_modality(anchors, "image")))
        raise InputRefused(
            f"{source.path} has {f'vectors of {source.dims} dimensions' if source.dims else came}",
            f"what {anchors.ref} was made of: {f'vectors of {set_dims}' if any(set_dims) else made}",
            "bring the pairs in the same form",
        )
    store = Store(home or default_home())
    store.check_current(ref)  # before anything is encoded
    pair = engine.image_encoder(anchors), engine.text_encoder(anchors)
    return encode_and_add(source, store, ref, kind, *pair, options, progress, report)


def _find_modality(ref: str, home: Path | None) -> str | None:
    """Return the modality in which pairs for a set are read; None for images, which may be vectors."""
    try:
        with Store(home or default_home()).open(ref) as anchors:
            modality = find_modality(anchors, "image")
    except NotFound:  # a ready-made set is built on first use
        return None
    return None if modality == "image" else modality
