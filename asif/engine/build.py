"""Build anchor sets: from pairs, from pairs by a recipe, from a classifier's head."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from asif.anchorset import Store, default_home
from asif.anchorset.format.atomic_io import make_folder
from asif.anchorset.format.blocks import SAFETENSORS_DTYPES
from asif.building import CAPTION_MODES, BuildOptions, BuildResult, CaptionMode, Tolerance, build_anchor_set
from asif.building.clock import EncoderClock
from asif.building.estimate import update_encoder_rates
from asif.building.head import HeadSource
from asif.building.recipe import HeadRecipe, PairsRecipe
from asif.encoders import (
    DEFAULT_ENCODERS,
    Backend,
    Device,
    ImageEncoder,
    Precision,
    TextEncoder,
    load_audio_encoder,
    load_head,
    load_image_encoder,
    load_text_encoder,
)
from asif.encoders.image_input import take_image_file
from asif.encoders.precision import check_precision
from asif.encoders.precomputed import PrecomputedEncoder
from asif.encoders.spec import split_spec, unify_spec
from asif.errors import InputRefused, UsageError
from asif.modality import name_many
from asif.pairs import PairSource, open_pairs
from asif.pairs.in_memory import open_in_memory
from asif.vectors import SIDES, Side, canonical_json
from asif.version import VERSION

if TYPE_CHECKING:
    from asif.building.sharded.work import PoolOpener, ShardingOptions

_ENCODER_LIBRARIES = ("torch", "timm", "sentence-transformers", "transformers", "open-clip-torch", "pillow")
_SOUND_LIBRARIES = ("soundfile", "soxr")

Pairs: TypeAlias = Any
"""A path or URL of pairs, an open source, or pairs in memory: see `asif.pairs.in_memory.open_in_memory`."""


def build_from_head(
    recipe: HeadRecipe,
    store: Store,
    device: Device = "auto",
    backend: Backend = "auto",
    dtype: str = "float16",
    precision: Precision = "float32",
) -> BuildResult:
    """Build an anchor set from the last layer of a classifier, by a recipe."""
    cache = store.root / "cache"
    image, head = load_head(recipe.encoders["image"], device, backend, cache, precision)
    text = load_text_encoder(recipe.encoders["text"], device, backend, cache, precision)
    source = HeadSource(Path(recipe.encoders["image"]), head, recipe.captions)
    operation = {"kind": "build", "source": recipe.about, "recipe": recipe.sha256}
    options = BuildOptions(dtype=dtype)
    return build_anchor_set(source, store, recipe.name, image, text, options, operation, profiles=recipe.profiles)


def build_anchors(
    pairs: Pairs,
    name: str,
    *,
    image_encoder: str = DEFAULT_ENCODERS["image"],
    text_encoder: str = DEFAULT_ENCODERS["text"],
    audio_encoder: str | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    captions: CaptionMode | None = None,
    dtype: str | None = None,
    dedup: str | None = None,
    limit: int | None = None,
    max_bad_rows: Tolerance | str | int | None = None,
    resume: bool | None = None,
    options: BuildOptions | None = None,
    home: Path | None = None,
    device: Device = "auto",
    backend: Backend = "auto",
    precision: Precision = "float32",
    progress: Callable[[int], None] = lambda rows: None,
    sharding: ShardingOptions | None = None,
) -> BuildResult:
    """Build an anchor set from image-text pairs, or sound-text pairs, and make it the current version of `name`.

    `pairs` is anything that `asif.pairs.open_pairs` reads: parquet, a folder with metadata, tars, or precomputed
    vectors, for which no encoder is loaded; or anything that `asif.pairs.in_memory.open_in_memory` reads: tables, and
    iterables of (image, captions). `columns` {role: column} names columns, `split` one of several splits. The keywords
    from `captions` to `resume` are those of `BuildOptions`, and win over `options`; `max_bad_rows` is a share such as
    "1%", or a number. The encoders compute in `precision`, which the set records: whatever uses it later computes in
    the same one. An interrupted build is resumed. If the current version was built from the same input, by the same
    encoders and options, it is returned as it is, unless `resume` is False. With `sharding` workers on Ray encode the
    pairs, see docs/scaling.md: the set is the same. Raises what `asif.building.build_anchor_set` raises, UsageError for
    options that do not exist.
    """
    chosen = choose_options(
        options,
        captions=captions,
        dtype=dtype,
        dedup=dedup,
        limit=limit,
        max_bad_rows=max_bad_rows,
        resume=resume,
    )
    source = take_pairs(pairs, columns, chosen.limit, home, split, modality=audio_encoder and "audio")
    first = choose_first_encoder(source, image_encoder, audio_encoder)
    specs: dict[Side, str] = {"image": first, "text": text_encoder}
    return _build_pairs(source, name, specs, chosen, {}, home, device, backend, precision, progress, sharding)


def take_pairs(
    pairs: Pairs,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    home: Path | None = None,
    split: str | None = None,
    modality: str | None = None,
) -> PairSource:
    """Open pairs at a path, or in memory; an open source stays as it is. An iterable is consumed up to `limit` rows."""
    if isinstance(pairs, PairSource):
        if columns or split is not None:
            raise UsageError(
                "columns or a split of a source that is open", "a path or a table", "name them when you open it"
            )
        return pairs
    if isinstance(pairs, str | Path):
        return open_pairs(pairs, columns=columns, split=split, modality=modality)
    if split is not None:
        raise UsageError(f"the split {split!r} of pairs in memory", "a path", "pass the rows of that split alone")
    folder = home or default_home()
    make_folder(folder)
    return open_in_memory(pairs, take_image_file, columns or {}, folder, limit, modality)


def choose_first_encoder(source: PairSource, image: str, audio: str | None) -> str:
    """Return the encoder of the first half of pairs, by its modality; any for vectors, which need none.

    Raises UsageError for sounds without an encoder of sounds, for which there is no default, and for images with one.
    """
    if source.modality == "audio":
        if audio is None and not source.dims:
            raise UsageError(
                f"{source.path} holds sounds, and no encoder of sounds was named",
                "clap:<id>, whisper:<id>, hf-audio:<id>, or embedded:log-mel, which is not learned",
                "name one: --audio-encoder clap:laion/clap-htsat-unfused",
            )
        return audio or image
    if audio is not None:
        raise UsageError(
            f"{source.path} holds {name_many(source.modality)}, and an encoder of sounds was named",
            "pairs of sounds and texts",
            "leave the audio encoder out, or say which column holds the sounds: --column audio=NAME",
        )
    return image


def choose_options(options: BuildOptions | None, **given: Any) -> BuildOptions:
    """Return the options with those replaced that were given; raises UsageError for a value that does not exist."""
    known = {"captions": CAPTION_MODES, "dtype": tuple(SAFETENSORS_DTYPES), "dedup": ("exact", "keep")}
    for name, values in known.items():
        if given[name] not in (None, *values):
            raise UsageError(f"{name} is {given[name]!r}", f"one of {', '.join(values)}", f"pass {name}={values[0]!r}")
    if given["limit"] is not None and given["limit"] < 1:
        raise UsageError(f"limit is {given['limit']!r}", "a number of rows from 1", "leave it out to read all")
    if isinstance(given["max_bad_rows"], str | int):
        given["max_bad_rows"] = Tolerance.parse(str(given["max_bad_rows"]))
    return replace(options or BuildOptions(), **{name: value for name, value in given.items() if value is not None})


def build_from_recipe(
    recipe: PairsRecipe,
    pairs: str | Path | PairSource,
    name: str,
    *,
    options: BuildOptions | None = None,
    home: Path | None = None,
    device: Device = "auto",
    backend: Backend = "auto",
    precision: Precision = "float32",
    progress: Callable[[int], None] = lambda rows: None,
    sharding: ShardingOptions | None = None,
) -> BuildResult:
    """Build an anchor set from image-text pairs by a recipe; the set records the recipe's name and sha256.

    Encoders, columns, captions and limit are the recipe's and override `options`; a source that is already open must
    have been opened with `recipe.columns`. Raises InputRefused for precomputed vectors, which the recipe's encoders
    did not make, and what `build_anchors` raises.
    """
    source = pairs if isinstance(pairs, PairSource) else open_pairs(pairs, columns=recipe.columns)
    if source.dims:
        raise InputRefused(
            f"{source.path} has precomputed vectors",
            f"images and captions, for the encoders of the recipe {recipe.name}",
            "give the images, or build without the recipe",
        )
    by_recipe = replace(options or BuildOptions(), captions=recipe.captions, limit=recipe.limit)
    origin = {"recipe": {"name": recipe.name, "sha256": recipe.sha256}}
    how = home, device, backend, precision, progress, sharding
    return _build_pairs(source, name, recipe.encoders, by_recipe, origin, *how)


def _build_pairs(
    source: PairSource,
    name: str,
    encoders: Mapping[Side, str],
    options: BuildOptions,
    origin: Mapping[str, Any],
    home: Path | None,
    device: Device,
    backend: Backend,
    precision: Precision,
    progress: Callable[[int], None],
    sharding: ShardingOptions | None = None,
) -> BuildResult:
    check_precision(precision)
    if source.dims and precision != "float32":
        raise UsageError(
            f"the precision {precision} with precomputed vectors",
            "images and captions: no encoder computes anything here",
            "leave the precision out; --dtype is the type in which anchors are stored",
        )
    store = Store(home or default_home())
    store.check_writable()
    plan = _hash_plan(source, encoders, options, origin, precision)
    if options.resume and (known := store.find_build(name, plan)) is not None:
        return BuildResult(known, 0, 0, 0.0, EncoderClock(), already_built=True)
    load = partial(
        _load_encoders,
        source.dims,
        (source.columns.modality, source.columns.text_modality) if source.dims else (source.modality, "text"),
        dict(encoders),
        device,
        backend,
        store.root / "cache",
        precision,
    )
    operation = {"kind": "build", "source": str(source.path), "input": source.identity, "plan": plan, **origin}
    if sharding is not None:
        from asif.building.sharded.build import build_sharded_anchor_set

        open_pool = choose_pool(device, source)
        specs = dict.fromkeys(SIDES, "precomputed") if source.dims else encoders
        return build_sharded_anchor_set(
            source, store, name, specs, load, options, operation, sharding, open_pool, progress
        )
    image, text = load()
    built = build_anchor_set(source, store, name, image, text, options, operation, progress)
    update_encoder_rates(store.root, image.spec, text.spec, built.clock)
    return built


def _load_encoders(
    dims: tuple[int, int] | None,
    modalities: tuple[str, str],
    specs: Mapping[Side, str],
    device: Device,
    backend: Backend,
    cache: Path,
    precision: Precision,
) -> tuple[ImageEncoder, TextEncoder]:
    """Load both encoders; for precomputed vectors of `dims` none is needed."""
    if dims:
        first, second = modalities
        return (
            PrecomputedEncoder("image", dims[0], modality=first),
            PrecomputedEncoder("text", dims[1], modality=second),
        )
    load_first = load_audio_encoder if modalities[0] == "audio" else load_image_encoder
    return (
        load_first(specs["image"], device, backend, cache, precision),
        load_text_encoder(specs["text"], device, backend, cache, precision),
    )


def choose_pool(device: Device, source: PairSource) -> PoolOpener:
    """Return what opens workers on Ray: each with a GPU if there are any, or if the device says so."""
    from asif.cluster.ray_ import RayPool

    gpus = False if source.dims else {"auto": None, "cpu": False, "cuda": True}[device]
    return partial(RayPool, gpus=gpus)


def _hash_plan(
    source: PairSource,
    encoders: Mapping[Side, str],
    options: BuildOptions,
    origin: Mapping[str, Any],
    precision: Precision,
) -> str:
    """Hash what decides the outcome of a build, as far as it is known before an encoder is loaded.

    Files in the folder of the source count by size and time. Encoders count by name, by their precision unless it is
    float32, by the versions of their libraries and, where the name is a path, by its files. Images elsewhere, which a
    table names by path, do not count.
    """
    images = _stamp_files(source.path) if isinstance(source.path, Path) else []
    specs = {} if source.dims else {side: [unify_spec(spec), *_stamp_weights(spec)] for side, spec in encoders.items()}
    wanted = [options.captions, options.dtype, options.dedup, options.limit, asdict(options.max_bad_rows)]
    libraries = {} if source.dims else _library_versions(source)
    plan = [source.identity, images, specs, wanted, dict(origin), VERSION, libraries]
    smaller = [] if precision == "float32" else [precision]
    return hashlib.sha256(canonical_json(plan + smaller)).hexdigest()


def _stamp_weights(spec: str) -> list[Any]:
    """Return what `_stamp_files` does for each part of an encoder that is named by a path."""
    paths = [Path(part.partition(":")[2]) for part in split_spec(spec)]
    return [stamp for path in paths if path.name and path.exists() for stamp in _stamp_files(path)]


def _stamp_files(path: Path) -> list[Any]:
    """Return name, size and time of a file, or of each file in a folder, since a table of images may not change."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return [[str(file.absolute()), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def _library_versions(source: PairSource) -> dict[str, str]:
    found = {}
    for library in (*_ENCODER_LIBRARIES, *(_SOUND_LIBRARIES if source.modality == "audio" else ())):
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found
