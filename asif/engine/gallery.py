"""Build and update galleries: the encoder vectors of one side of a collection of images or texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from asif.anchorset import AnchorSet, EncodedSet, Store, default_home
from asif.anchorset.edit.purge import PurgePlan
from asif.anchorset.edit.whole_set import DeletedSet
from asif.anchorset.format.blocks import SAFETENSORS_DTYPES
from asif.anchorset.format.kinds import GALLERY
from asif.anchorset.format.references import check_set_name
from asif.building import Tolerance
from asif.building.clock import EncoderClock
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
from asif.building.gallery.update import RowEncoder, encode_here
from asif.encoders import (
    DEFAULT_ENCODERS,
    Backend,
    Device,
    ImageEncoder,
    Precision,
    TextEncoder,
    load_audio_encoder,
    load_image_encoder,
    load_text_encoder,
)
from asif.encoders.precision import check_precision
from asif.encoders.precomputed import PrecomputedEncoder
from asif.engine.build import choose_pool
from asif.engine.default_sets import open_anchors
from asif.engine.encoder_pool import EncoderPool
from asif.errors import UsageError
from asif.modality import find_modality
from asif.pairs import PairSource
from asif.vectors import Side

if TYPE_CHECKING:
    from asif.building.sharded.work import ShardingOptions

GalleryKind = Literal["image", "text", "audio"]
Items: TypeAlias = str | Path | Sequence[str | Path] | PairSource | GallerySource
"""What a gallery is made from: a path, URL or glob, several of them, or an open source; see `open_items`."""


def build_gallery(
    items: Items,
    name: str,
    *,
    kind: GalleryKind = "image",
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
    backend: Backend = "auto",
    precision: Precision | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    sharding: ShardingOptions | None = None,
) -> GalleryResult:
    """Encode a collection of images, sounds or texts, and make it the current version of the gallery `name`.

    The encoder is that of the anchor set `anchors` where one is named, with its precision, else `encoder`, else the
    default one of images or texts, which compute in `precision`, by default float32. The keywords from `dtype` to
    `resume` are those of `GalleryOptions`, and win over `options`. An interrupted build is resumed, and content that
    the gallery has is not encoded again, unless `resume` is False. With `sharding` workers on Ray encode the items, see
    docs/scaling.md. Raises what `build_gallery_version` raises, EncoderMismatch for an encoder that did not make
    `anchors`, UsageError for options that do not exist.
    """
    check_set_name(name)
    check_one_encoder(encoder, precision, anchors)
    chosen = choose_gallery_options(
        options,
        dtype=dtype,
        thumbnails=thumbnails,
        limit=limit,
        where=where,
        max_bad_rows=max_bad_rows,
        resume=resume,
    )
    side = find_side(kind)
    source = _take_items(items, side, columns, split, kind if kind == "audio" else None)
    check_kind(source.pairs, kind)
    store = Store(home or default_home(), GALLERY)
    store.check_writable()
    load = _choose_loader(source.pairs, kind, encoder, anchors, home, device, backend, store.root / "cache", precision)
    origin = source.describe_origin(chosen.limit, chosen.where, chosen.thumbnails)
    if sharding is not None:
        from asif.building.sharded.gallery import build_sharded_gallery

        spec = "precomputed" if source.pairs.dims else choose_encoder(kind, encoder, anchors, home, device)
        open_pool = choose_pool(device, source.pairs)
        how = chosen, origin, sharding, open_pool, progress
        return build_sharded_gallery(source.pairs, store, name, side, spec, load, *how)
    loaded = load()
    built = build_gallery_version(source.pairs, store, name, side, loaded, chosen, origin, progress)
    _save_rate(store.root, loaded.spec, built.clock)
    return built


def _choose_loader(
    source: PairSource,
    kind: GalleryKind,
    encoder: str | None,
    anchors: str | None,
    home: Path | None,
    device: Device,
    backend: Backend,
    cache: Path,
    precision: Precision | None,
) -> Callable[[], ImageEncoder | TextEncoder]:
    """Return what loads the encoder of an anchor set, the named one, or the default."""
    if anchors is not None:
        return partial(_load_like_anchors, source, find_side(kind), anchors, home, device, backend, cache)
    spec = encoder or choose_default_encoder(kind)
    return partial(_load_encoder, source, kind, spec, device, backend, cache, precision or "float32")


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
    backend: Backend = "auto",
    on_plan: Callable[[PurgePlan], None] = lambda plan: None,
    progress: Callable[[int], None] = lambda rows: None,
    sharding: ShardingOptions | None = None,
) -> GalleryChanges:
    """Publish the next version of a gallery, with the items that its source has now; only new content is encoded.

    `items`, and how they are read, are by default what the current version was made from, see `plan_update`, unless
    `options` says so. The precision is that of the gallery. Raises EncoderMismatch if the encoder has changed, or if
    `backend` gives other vectors, and what `update_gallery_version` raises.
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
        encoder = _defer_encoder(current, source.pairs, EncoderPool(store.root / "cache", device, backend))
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
            encode=encode_here
            if sharding is None
            else _shard_update(store, current, source, device, backend, sharding),
        )
    _save_rate(store.root, encoder.spec, changes.clock)
    return changes


def _shard_update(
    store: Store, current: AnchorSet, source: GallerySource, device: Device, backend: Backend, sharding: ShardingOptions
) -> RowEncoder:
    """Return what encodes the rows of an update on workers."""
    from asif.building.sharded.gallery import ShardedUpdate

    load = partial(_open_deferred, store, current.exactly, source.pairs, device, backend)
    return ShardedUpdate(load, sharding, choose_pool(device, source.pairs))


def _open_deferred(store: Store, ref: str, source: PairSource, device: Device, backend: Backend) -> DeferredEncoder:
    """Open a gallery, and return its encoder, to be loaded when it is needed."""
    return _defer_encoder(store.open(ref), source, EncoderPool(store.root / "cache", device, backend))


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
    modality = current.manifest.modalities[side]
    known: list[str] = origin.get("sources", [])
    paths = known if items is None else _list_paths(items)
    again: Mapping[str, Any] = origin if paths is not None and [name_source(each) for each in paths] == known else {}
    source = _take_items(
        known if items is None else items,
        side,
        columns or again.get("columns"),
        split or again.get("split"),
        modality if modality == "audio" else None,
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


def _take_items(
    items: Items, side: Side, columns: Mapping[str, str] | None, split: str | None, modality: str | None
) -> GallerySource:
    """Open items; an open source stays as it is."""
    if isinstance(items, GallerySource):
        return items
    if isinstance(items, PairSource):
        return GallerySource.of(items)
    return GallerySource.open([items] if isinstance(items, str | Path) else list(items), side, columns, split, modality)


def _defer_encoder(current: AnchorSet, source: PairSource, pool: EncoderPool) -> DeferredEncoder:
    """Return the encoder of a gallery, to be loaded when it is needed; raises EncoderMismatch for vectors of another.

    Loading it raises EncoderMismatch if it gives other vectors now. The gallery stays open until then.
    """
    (side,) = current.manifest.sides
    spec, fingerprint, dim = current.encoder_spec(side), current.fingerprint(side), current.dims[side]
    deferred = DeferredEncoder(spec, fingerprint, dim, lambda: _load_as_stored(source, side, current, pool))
    if source.dims is not None:
        deferred.open()
    return deferred


def _load_like_anchors(
    source: PairSource, side: Side, anchors: str, home: Path | None, device: Device, backend: Backend, cache: Path
) -> ImageEncoder | TextEncoder:
    """Load the encoder of one side of an anchor set, given by reference."""
    with open_anchors(anchors, home=home, device=device, backend=backend) as opened:
        return _load_as_stored(source, side, opened, EncoderPool(cache, device, backend))


def _load_as_stored(
    source: PairSource, side: Side, stored: EncodedSet, pool: EncoderPool
) -> ImageEncoder | TextEncoder:
    """Load the encoder of one side of a set, checked; for a source with vectors none, if the set is one of vectors."""
    if source.dims is not None and side == "image":
        vectors = PrecomputedEncoder(side, source.dims[0], modality=source.modality)
        pool.check(stored, side, vectors)
        return vectors
    if stored.encoder_spec(side) == "precomputed":
        raise UsageError(
            f"{source.path} has no vectors",
            f"vectors, as those that {stored.ref} was made from",
            f"bring a column {find_modality(stored, side)}_embedding"
            if side == "image"
            else "name an encoder of texts",
        )
    return pool.load_image_encoder(stored) if side == "image" else pool.load_text_encoder(stored)


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


def find_side(kind: GalleryKind) -> Side:
    """Return the side of anchors that items of a kind are compared as."""
    return "text" if kind == "text" else "image"


def check_kind(source: PairSource, kind: GalleryKind) -> None:
    """Raise UsageError for sounds in place of images."""
    if kind == "image" and source.modality == "audio":
        raise UsageError(
            f"{source.path} holds sounds", "images, for a gallery of images", "make a gallery of sounds: --kind audio"
        )


def choose_default_encoder(kind: GalleryKind) -> str:
    """Return the default encoder of images or of texts; raises UsageError for sounds, which have none."""
    if kind == "audio":
        raise UsageError(
            "a gallery of sounds without an encoder",
            "an encoder of sounds, or anchors of sounds, whose encoder is taken",
            "pass --audio-encoder clap:laion/clap-htsat-unfused, or --anchors REF",
        )
    return DEFAULT_ENCODERS[kind]


def choose_encoder(
    kind: GalleryKind, encoder: str | None, anchors: str | None, home: Path | None, device: Device
) -> str:
    """Return the spec of the encoder of an anchor set, the named one, or the default."""
    if anchors is None:
        return encoder or choose_default_encoder(kind)
    with open_anchors(anchors, home=home, device=device) as opened:
        return opened.encoder_spec(find_side(kind))


def check_one_encoder(encoder: str | None, precision: Precision | None, anchors: str | None) -> None:
    """Raise UsageError for an encoder, or a precision, and an anchor set, which has both."""
    if anchors is not None and encoder is not None:
        raise UsageError(
            f"the encoder {encoder} and the anchor set {anchors}", "one of the two", "leave the encoder out"
        )
    if anchors is not None and precision is not None:
        raise UsageError(
            f"the precision {precision} and the anchor set {anchors}",
            "one of the two: the encoder computes as it did for the anchors",
            "leave the precision out",
        )


def _load_encoder(
    source: PairSource,
    kind: GalleryKind,
    spec: str,
    device: Device,
    backend: Backend,
    cache: Path,
    precision: Precision,
) -> ImageEncoder | TextEncoder:
    """Load an encoder by name; for a source with vectors, none is needed."""
    check_precision(precision)
    if source.dims is None or kind == "text":
        how = spec, device, backend, cache, precision
        if kind == "text":
            return load_text_encoder(*how)
        return load_image_encoder(*how) if kind == "image" else load_audio_encoder(*how)
    if precision != "float32":
        raise UsageError(
            f"the precision {precision} with precomputed vectors",
            "images: no encoder computes anything here",
            "leave the precision out; the dtype is the type in which vectors are stored",
        )
    return PrecomputedEncoder("image", source.dims[0], modality=source.modality)


def _save_rate(root: Path, spec: str, clock: EncoderClock) -> None:
    """Save the speed of the encoder, for estimates."""
    if clock.images or clock.texts:
        update_encoder_rates(root, spec, spec, clock)
