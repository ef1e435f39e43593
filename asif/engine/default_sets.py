"""Open anchor sets by reference; a ready-made one is built on first use."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from asif.anchorset import AnchorSet, Store, default_home
from asif.building.recipe import HeadRecipe, PairsRecipe
from asif.building.recipe_file import list_recipes, read_recipe
from asif.defaults import DEFAULT_ANCHORS
from asif.encoders import Backend, Device
from asif.errors import Busy, NotFound

_WAIT_SECONDS = 120

_log = logging.getLogger(__name__)


def open_anchors(
    ref: str = DEFAULT_ANCHORS, *, home: Path | None = None, device: Device = "auto", backend: Backend = "auto"
) -> AnchorSet:
    """Open an anchor set by reference; a ready-made one is built on first use, and rebuilt when its recipe changed.

    Only recipes of classifiers' heads are ready-made: a recipe of pairs needs pairs from the user. Raises NotFound,
    which names the existing sets, IntegrityError for damaged files, UnknownFormat for newer ones.
    """
    store = Store(home or default_home())
    path = list_recipes().get(ref)
    if path is None:
        return store.open(ref)
    recipe = read_recipe(path)
    if isinstance(recipe, PairsRecipe):
        return _open_built_by_user(recipe, store)
    try:
        anchors = store.open(ref)
    except NotFound:
        return _build_once(recipe, store, device, backend)
    built_from = anchors.manifest.operation.get("recipe")
    is_users_own = not isinstance(built_from, str)  # a set of the user's own with the same name
    if is_users_own or built_from == recipe.sha256:
        return anchors
    anchors.close()
    return _build_once(recipe, store, device, backend)


def _open_built_by_user(recipe: PairsRecipe, store: Store) -> AnchorSet:
    """Open the set of a recipe of pairs; raises NotFound, with the command that builds it, if there is none."""
    try:
        return store.open(recipe.name)
    except NotFound:
        raise NotFound(
            f"{recipe.name} has not been built: asif has the recipe, not the pairs",
            f"image-text pairs, to build it from: {recipe.origin}",
            f"asif build-anchors PAIRS --recipe {recipe.name} --name {recipe.name}",
        ) from None


def _build_once(recipe: HeadRecipe, store: Store, device: Device, backend: Backend) -> AnchorSet:
    """Build a ready-made set, or wait until another process has built it."""
    from asif.engine.build import build_from_head

    store.check_writable()
    _log.info("building the anchor set %s, once: %s", recipe.name, recipe.about)
    for _ in range(_WAIT_SECONDS):
        try:
            return build_from_head(recipe, store, device, backend).anchors
        except Busy:
            time.sleep(1)
    return store.open(recipe.name)
