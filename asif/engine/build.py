"""Open anchor sets, and build them: from pairs, from a classifier's head, from a ready-made recipe on first use."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from asif.anchorset import AnchorSet, Store, default_home
from asif.building import BuildOptions, BuildResult, build_anchor_set
from asif.building.estimate import update_encoder_rates
from asif.building.head import HeadSource
from asif.building.recipe import HeadRecipe, PairsRecipe
from asif.building.recipe_file import list_recipes, read_recipe
from asif.encoders import (
    DEFAULT_ENCODERS,
    Device,
    ImageEncoder,
    TextEncoder,
    load_head,
    load_image_encoder,
    load_text_encoder,
)
from asif.encoders.precomputed import PrecomputedEncoder
from asif.errors import Busy, InputRefused, NotFound
from asif.pairs import PairSource, open_pairs
from asif.vectors import Side

DEFAULT_ANCHORS = "imagenet-head"
WAIT_SECONDS = 120

_log = logging.getLogger(__name__)


def open_anchors(ref: str = DEFAULT_ANCHORS, *, home: Path | None = None, device: Device = "auto") -> AnchorSet:
    """Open an anchor set by reference; a ready-made one is built on first use, and anew when its recipe changed.

    Ready-made are the recipes of classifiers' heads: one of pairs has nothing to be built from. Raises NotFound,
    naming the sets that exist, IntegrityError for damaged files, UnknownFormat for newer ones.
    """
    store = Store(home or default_home())
    path = list_recipes().get(ref)
    if path is None:
        return store.open(ref)
    recipe = read_recipe(path)
    if isinstance(recipe, PairsRecipe):
        return _open_brought(recipe, store)
    try:
        anchors = store.open(ref)
    except NotFound:
        return _build_once(recipe, store, device)
    made_from = anchors.manifest.operation.get("recipe")
    if made_from == recipe.sha256 or not isinstance(made_from, str):  # the latter: a set of the user's own by this name
        return anchors
    anchors.close()
    return _build_once(recipe, store, device)


def _open_brought(recipe: PairsRecipe, store: Store) -> AnchorSet:
    """Open a set whose pairs the user has to bring; raises NotFound, saying how it is built, where there is none."""
    try:
        return store.open(recipe.name)
    except NotFound:
        raise NotFound(
            f"{recipe.name} has not been built: asif has the recipe, not the pairs",
            f"image-text pairs, to build it from: {recipe.origin}",
            f"asif build-anchors PAIRS --recipe {recipe.name} --name {recipe.name}",
        ) from None


def _build_once(recipe: HeadRecipe, store: Store, device: Device) -> AnchorSet:
    """Build a ready-made set, or wait while another process is building it."""
    _log.info("building the anchor set %s, once: %s", recipe.name, recipe.about)
    for _ in range(WAIT_SECONDS):
        try:
            return build_from_head(recipe, store, device).anchors
        except Busy:
            time.sleep(1)
    return store.open(recipe.name)


def build_from_head(recipe: HeadRecipe, store: Store, device: Device = "auto", dtype: str = "float16") -> BuildResult:
    """Build an anchor set from a classifier's head, as a recipe says."""
    image, head = load_head(recipe.encoders["image"], device)
    text = load_text_encoder(recipe.encoders["text"], device)
    source = HeadSource(Path(recipe.encoders["image"]), head, recipe.captions)
    operation = {"kind": "build", "source": recipe.about, "recipe": recipe.sha256}
    options = BuildOptions(dtype=dtype)
    return build_anchor_set(source, store, recipe.name, image, text, options, operation, profiles=recipe.profiles)


def build_anchors(
    pairs: str | Path | PairSource,
    name: str,
    *,
    image_encoder: str = DEFAULT_ENCODERS["image"],
    text_encoder: str = DEFAULT_ENCODERS["text"],
    options: BuildOptions | None = None,
    home: Path | None = None,
    device: Device = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> BuildResult:
    """Build an anchor set from image-text pairs and make it the current version of `name`.

    `pairs` is whatever `asif.pairs.open_pairs` reads: parquet, a folder with metadata, tars, precomputed vectors (for
    which no encoder is loaded). A build that was stopped goes on where it was. See `asif.building.build` for errors.
    """
    source = pairs if isinstance(pairs, PairSource) else open_pairs(pairs)
    specs: dict[Side, str] = {"image": image_encoder, "text": text_encoder}
    return _build_pairs(source, name, specs, options or BuildOptions(), {}, home, device, progress)


def build_from_recipe(
    recipe: PairsRecipe,
    pairs: str | Path | PairSource,
    name: str,
    *,
    options: BuildOptions | None = None,
    home: Path | None = None,
    device: Device = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> BuildResult:
    """Build an anchor set from image-text pairs as a recipe says, which is recorded: its name and its sha256.

    Encoders, columns, captions and limit are the recipe's, whatever `options` has for them; a source that is open
    already must have been opened with `recipe.columns`. Raises InputRefused for precomputed vectors, which no encoder
    of the recipe made, and what `build_anchors` raises.
    """
    source = pairs if isinstance(pairs, PairSource) else open_pairs(pairs, columns=recipe.columns)
    if source.dims:
        raise InputRefused(
            f"{source.path} has precomputed vectors",
            f"images and captions, for the encoders of the recipe {recipe.name}",
            "give the images, or build without the recipe",
        )
    chosen = replace(options or BuildOptions(), captions=recipe.captions, limit=recipe.limit)
    made_from = {"recipe": {"name": recipe.name, "sha256": recipe.sha256}}
    return _build_pairs(source, name, recipe.encoders, chosen, made_from, home, device, progress)


def _build_pairs(
    source: PairSource,
    name: str,
    encoders: Mapping[Side, str],
    options: BuildOptions,
    made_from: Mapping[str, Any],
    home: Path | None,
    device: Device,
    progress: Callable[[int], None],
) -> BuildResult:
    store = Store(home or default_home())
    image: ImageEncoder
    text: TextEncoder
    if source.dims:
        image, text = PrecomputedEncoder("image", source.dims[0]), PrecomputedEncoder("text", source.dims[1])
    else:
        image, text = load_image_encoder(encoders["image"], device), load_text_encoder(encoders["text"], device)
    operation = {"kind": "build", "source": str(source.path), "input": source.identity, **made_from}
    built = build_anchor_set(source, store, name, image, text, options, operation, progress)
    update_encoder_rates(store.root, image.spec, text.spec, built.clock)
    return built
