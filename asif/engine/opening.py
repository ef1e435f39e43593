"""Open anchor sets, and build them: from pairs, from a classifier's head, from a ready-made recipe on first use."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from asif.anchorset import AnchorSet, Store, default_home
from asif.building import BuildOptions, Built, build
from asif.building.estimate import keep_rates
from asif.building.head import HeadSource
from asif.building.recipe import Recipe, recipes
from asif.encoders import DEFAULT, Device, ImageEncoder, TextEncoder, load_head, load_image_encoder, load_text_encoder
from asif.encoders.precomputed import PrecomputedEncoder
from asif.errors import Busy, NotFound
from asif.pairs import PairSource, open_pairs

DEFAULT_ANCHORS = "imagenet-head"
WAIT_SECONDS = 120

_log = logging.getLogger(__name__)


def open_anchors(ref: str = DEFAULT_ANCHORS, *, home: Path | None = None, device: Device = "auto") -> AnchorSet:
    """Open an anchor set by reference; a ready-made one is built on first use, and anew when its recipe changed.

    Raises NotFound, naming the sets that exist, IntegrityError for damaged files, UnknownFormat for newer ones.
    """
    store = Store(home or default_home())
    path = recipes().get(ref)
    if path is None:
        return store.open(ref)
    recipe = Recipe.from_file(path)
    try:
        anchors = store.open(ref)
    except NotFound:
        return _build_once(recipe, store, device)
    made_from = anchors.manifest.operation.get("recipe")
    if made_from in (None, recipe.sha256):  # None: a set of the user's own under this name
        return anchors
    anchors.close()
    return _build_once(recipe, store, device)


def _build_once(recipe: Recipe, store: Store, device: Device) -> AnchorSet:
    """Build a ready-made set, or wait while another process is building it."""
    _log.info("building the anchor set %s, once: %s", recipe.name, recipe.about)
    for _ in range(WAIT_SECONDS):
        try:
            return build_from_head(recipe, store, device).anchors
        except Busy:
            time.sleep(1)
    return store.open(recipe.name)


def build_from_head(recipe: Recipe, store: Store, device: Device = "auto", dtype: str = "float16") -> Built:
    """Build an anchor set from a classifier's head, as a recipe says."""
    image, head = load_head(recipe.head, device)
    text = load_text_encoder(recipe.text_encoder, device)
    source = HeadSource(Path(recipe.head), head, recipe.captions)
    operation = {"kind": "build", "source": recipe.about, "recipe": recipe.sha256}
    options = BuildOptions(dtype=dtype)
    return build(source, store, recipe.name, image, text, options, operation, profiles=recipe.profiles)


def build_anchors(
    pairs: str | Path | PairSource,
    name: str,
    *,
    image_encoder: str = DEFAULT["image"],
    text_encoder: str = DEFAULT["text"],
    options: BuildOptions | None = None,
    home: Path | None = None,
    device: Device = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> Built:
    """Build an anchor set from image-text pairs and make it the current version of `name`.

    `pairs` is whatever `asif.pairs.open_pairs` reads: parquet, a folder with metadata, tars, precomputed vectors (for
    which no encoder is loaded). A build that was stopped goes on where it was. See `asif.building.build` for errors.
    """
    source = pairs if isinstance(pairs, PairSource) else open_pairs(pairs)
    store = Store(home or default_home())
    image: ImageEncoder
    text: TextEncoder
    if source.dims:
        image, text = PrecomputedEncoder("image", source.dims[0]), PrecomputedEncoder("text", source.dims[1])
    else:
        image, text = load_image_encoder(image_encoder, device), load_text_encoder(text_encoder, device)
    operation = {"kind": "build", "source": str(source.path), "input": source.identity}
    built = build(source, store, name, image, text, options or BuildOptions(), operation, progress)
    keep_rates(store.root, image.spec, text.spec, built.clock)
    return built
