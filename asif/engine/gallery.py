"""Build and update galleries: the encoder vectors of one side of a collection of images or texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from asif.anchorset import AnchorSet, Store, default_home
from asif.anchorset.edit.purge import PurgePlan
from asif.anchorset.edit.whole_set import DeletedSet
from asif.anchorset.format.blocks import SAFETENSORS_DTYPES
from asif.anchorset.format.kinds import GALLERY
from asif.anchorset.format.references import check_set_name
from asif.building import Tolerance
from asif.building.batch import EncoderClock
from asif.building.estimate import update_encoder_rates
from asif.building.gallery import (
    DeferredEncoder,
    GalleryChanges,
    GalleryOptions,
    GalleryResult,
    GallerySource,
    build_gallery_version,
    delete_with_updates,
    name_source,
    update_gallery_version,
)
from asif.encoders import (
    DEFAULT_ENCODERS,
    Device,
    ImageEncoder,
    TextEncoder,
    load_image_encoder,
    load_text_encoder,
)
from asif.encoders.precomputed import PrecomputedEncoder
from asif.engine.default_sets import open_anchors
from asif.errors import EncoderMismatch, UsageError
from asif.pairs import PairSource
from asif.vectors import Fingerprint, Side

Items: TypeAlias = str | Path | Sequence[str | Path] | PairSource | GallerySource
"""What a gallery is made from: a path, URL or glob, several of them, or an open source; see `open_items`."""


def build_gallery(
    items: Items,
    name: str,
    *,
    kind: Side = "image",
    encoder: str | None = None,
    anchors: str | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    options: GalleryOptions | None = None,
    dtype: str | None = None,
    thumbnails: bool | None = None,
    limit: int | None = None,
    where: str | None = None,
    max_bad_rows: Tolerance | str | int | None = None,
    resume: bool | None = None,
    home: Path | None = None,
    device: Device = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> GalleryResult:
    """Encode a collection of images or texts, and make it the current version of the gallery `name`.

    The encoder is that of the anchor set `anchors` where one is named, else `encoder`, else the default one. The
    keywords from `dtype` to `resume` are those of `GalleryOptions`, and win over `options`. An interrupted build is
    resumed, and content that the gallery has is not encoded again, unless `resume` is False. Raises what
    `build_gallery_version` raises, UsageError for options that do not exist.
    """
    check_set_name(name)
    chosen = choose_gallery_options(
        options,
        dtype=dtype,
        thumbnails=thumbnails,
        limit=limit,
        where=where,
        max_bad_rows=max_bad_rows,
        resume=resume,
    )
    source = _take_items(items, kind, columns, split)
    store = Store(home or default_home(), GALLERY)
    store.check_writable()
    loaded = _load_encoder(source.pairs, choose_encoder(kind, encoder, anchors, home, device), kind, device)
    if anchors is not None:
        with open_anchors(anchors, home=home, device=device) as opened:
            _check_same_encoder(
                loaded,
                opened.fingerprint(kind),
                anchors,
                f"build the anchor set again: asif build-anchors PAIRS --name {anchors}",
            )
    origin = source.describe_origin(chosen.limit, chosen.where, chosen.thumbnails)
    built = build_gallery_version(source.pairs, store, name, kind, loaded, chosen, origin, progress)
    _save_rate(store.root, loaded.spec, built.clock)
    return built


def update_gallery(
    ref: str,
    items: Items | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    where: str | None = None,
    thumbnails: bool | None = None,
    max_bad_rows: Tolerance | str | int | None = None,
    resume: bool | None = None,
    options: GalleryOptions | None = None,
    receipt: Path | None = None,
    purge: bool = False,
    home: Path | None = None,
    device: Device = "auto",
    on_plan: Callable[[PurgePlan], None] = lambda plan: None,
    progress: Callable[[int], None] = lambda rows: None,
) -> GalleryChanges:
    """Publish the next version of a gallery, with the items that its source has now; only new content is encoded.

    `items`, and how they are read, are by default what the current version was made from, see `plan_update`, unless
    `options` says so. Raises EncoderMismatch if the encoder has changed, and what `update_gallery_version` raises.
    """
    store = Store(home or default_home(), GALLERY)
    store.check_current(ref)
    with store.open(ref) as current:
        source, chosen = plan_update(
            current,
            items,
            columns=columns,
            split=split,
            options=options,
            thumbnails=thumbnails,
            limit=limit,
            where=where,
            max_bad_rows=max_bad_rows,
            resume=resume,
        )
        encoder = _defer_encoder(current, source.pairs, device)
    changes = update_gallery_version(
        source.pairs,
        store,
        ref,
        encoder,
        chosen,
        source.describe_origin(chosen.limit, chosen.where, chosen.thumbnails),
        receipt=receipt,
        purge=purge,
        on_plan=on_plan,
        progress=progress,
    )
    _save_rate(store.root, encoder.spec, changes.clock)
    return changes


def delete_gallery(name: str, *, home: Path | None = None) -> DeletedSet:
    """Delete a gallery with all of its versions, and what interrupted updates of it have encoded."""
    return delete_with_updates(Store(home or default_home(), GALLERY), check_set_name(name))


def plan_update(
    current: AnchorSet,
    items: Items | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    options: GalleryOptions | None = None,
    **given: Any,
) -> tuple[GallerySource, GalleryOptions]:
    """Open the source of an update of a gallery, and choose its options.

    Without `items`, or with those that the gallery was made from, what is not given is as it was then: columns, split,
    limit, expression. The dtype is that of the gallery.
    """
    origin, (side,) = current.manifest.origin or {}, current.manifest.sides
    known: list[str] = origin.get("sources", [])
    paths = known if items is None else _list_paths(items)
    again: Mapping[str, Any] = origin if paths is not None and [name_source(each) for each in paths] == known else {}
    source = _take_items(
        known if items is None else items, side, columns or again.get("columns"), split or again.get("split")
    )
    if options is not None:
        return source, replace(options, dtype=current.manifest.dtype)
    for name in ("limit", "where"):
        given[name] = again.get(name) if given.get(name) is None else given[name]
    if given.get("thumbnails") is None:
        given["thumbnails"] = origin.get("thumbnails")
    return source, choose_gallery_options(None, dtype=current.manifest.dtype, **given)


def _list_paths(items: Items) -> list[str | Path] | None:
    """Return the paths of items; None for an open source."""
    if isinstance(items, PairSource | GallerySource):
        return None
    return [items] if isinstance(items, str | Path) else list(items)


def _take_items(items: Items, side: Side, columns: Mapping[str, str] | None, split: str | None) -> GallerySource:
    """Open items; an open source stays as it is."""
    if isinstance(items, GallerySource):
        return items
    if isinstance(items, PairSource):
        return GallerySource.of(items)
    return GallerySource.open([items] if isinstance(items, str | Path) else list(items), side, columns, split)


def _defer_encoder(current: AnchorSet, source: PairSource, device: Device) -> DeferredEncoder:
    """Return the encoder of a gallery, to be loaded when it is needed; raises EncoderMismatch for vectors of another.

    Loading it raises EncoderMismatch if its fingerprint is another now.
    """
    (side,) = current.manifest.sides
    spec, expected = current.encoder_spec(side), current.fingerprint(side)

    def load() -> ImageEncoder | TextEncoder:
        loaded = _load_encoder(source, spec, side, device)
        _check_same_encoder(
            loaded, expected, current.ref, f"encode all items: asif gallery build SRC --name {current.name}"
        )
        return loaded

    deferred = DeferredEncoder(spec, expected, current.dims[side], load)
    if source.dims is not None:
        deferred.open()
    return deferred


def _check_same_encoder(loaded: ImageEncoder | TextEncoder, expected: Fingerprint, made: str, otherwise: str) -> None:
    """Raise EncoderMismatch unless an encoder has the fingerprint of the one that made a set."""
    if loaded.fingerprint != expected:
        fields = ", ".join(expected.differences(loaded.fingerprint))
        raise EncoderMismatch(
            f"{loaded.spec} has the fingerprint {loaded.fingerprint.digest[:12]}, {made} was made with "
            f"{expected.digest[:12]}: they differ in {fields}",
            f"the encoder that made {made}",
            f"install its version again, or {otherwise}",
        )


def choose_gallery_options(options: GalleryOptions | None, **given: Any) -> GalleryOptions:
    """Return the options with those replaced that were given; raises UsageError for a value that does not exist."""
    if given["dtype"] not in (None, *SAFETENSORS_DTYPES):
        known = ", ".join(SAFETENSORS_DTYPES)
        raise UsageError(f"dtype is {given['dtype']!r}", f"one of {known}", "pass dtype='float16'")
    if given["limit"] is not None and given["limit"] < 1:
        raise UsageError(f"limit is {given['limit']!r}", "a number of rows from 1", "leave it out to read all")
    if isinstance(given["max_bad_rows"], str | int):
        given["max_bad_rows"] = Tolerance.parse(str(given["max_bad_rows"]))
    chosen = replace(options or GalleryOptions(), **{name: value for name, value in given.items() if value is not None})
    chosen.leaves_out()  # refuses an invalid expression before anything is read
    return chosen


def choose_encoder(kind: Side, encoder: str | None, anchors: str | None, home: Path | None, device: Device) -> str:
    """Return the spec of the encoder of an anchor set, the named one, or the default; raises UsageError for two."""
    if anchors is None:
        return encoder or DEFAULT_ENCODERS[kind]
    if encoder is not None:
        raise UsageError(
            f"the encoder {encoder} and the anchor set {anchors}", "one of the two", "leave the encoder out"
        )
    with open_anchors(anchors, home=home, device=device) as opened:
        return opened.encoder_spec(kind)


def _load_encoder(source: PairSource, spec: str, side: Side, device: Device) -> ImageEncoder | TextEncoder:
    """Load an encoder; for a source with vectors, none is needed."""
    if source.dims is not None and side == "image":
        return PrecomputedEncoder(side, source.dims[0])
    if spec == "precomputed":
        raise UsageError(
            f"{source.path} has no vectors",
            "vectors, for a gallery of precomputed ones",
            "bring an image_embedding column",
        )
    return load_image_encoder(spec, device) if side == "image" else load_text_encoder(spec, device)


def _save_rate(root: Path, spec: str, clock: EncoderClock) -> None:
    """Save the speed of the encoder, for estimates."""
    if clock.images or clock.texts:
        update_encoder_rates(root, spec, spec, clock)
