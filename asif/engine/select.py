"""Select some anchors of a set, and make a set of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from asif import selection
from asif.aligners import make_aligner
from asif.anchorset import AnchorSet, Store, default_home
from asif.anchorset.format.references import check_set_name
from asif.building.copy_rows import publish_rows
from asif.building.recipe import SELECTION_METHODS
from asif.classify import Labels
from asif.defaults import DEFAULT_ANCHORS
from asif.encoders import Backend, Device
from asif.engine.engine import Engine
from asif.errors import UsageError
from asif.prompts import find_templates, make_readable
from asif.vectors import Float32, Int64, Side, canonical_json

SelectionMethod = Literal["concepts", "concept-lists", "kmeans", "kdpp", "random"]
_METHOD_PARAMETERS: Mapping[SelectionMethod, frozenset[str]] = {
    "concepts": frozenset({"concepts"}),
    "concept-lists": frozenset({"concepts"}),
    "kmeans": frozenset({"side", "seed"}),
    "kdpp": frozenset({"side"}),
    "random": frozenset({"seed"}),
}
"""The methods, and the parameters that each takes."""


def select_anchors(
    ref: str = DEFAULT_ANCHORS,
    *,
    method: SelectionMethod,
    size: int,
    name: str,
    concepts: Sequence[str] | None = None,
    side: Side | None = None,
    seed: int | None = None,
    home: Path | None = None,
    device: Device = "auto",
    backend: Backend = "auto",
) -> AnchorSet:
    """Select `size` anchors of a set, with `concept-lists` at most as many, and make them the set `name`.

    `side` ("image" by default) is whose embeddings `kmeans` and `kdpp` use, `seed` (0) starts `kmeans` and `random`.
    `concepts` are words, which the set's text encoder encodes; by default they are the set's own texts, if these
    repeat. Raises UsageError for a size larger than the set, and for parameters that the method does not take.
    """
    _check_parameters(method, {"concepts": concepts, "side": side, "seed": seed})
    check_set_name(name)
    engine = Engine(
        ref, home=home, device=device, backend=backend, aligner=make_aligner("asif")
    )  # not that of the profile: nothing is fitted
    anchors = engine.anchor_set
    if not 1 <= size <= anchors.count:
        raise UsageError(
            f"{size:,} anchors are to be chosen of {anchors.ref}", f"1 to {anchors.count:,}", "pass another --size"
        )
    rows, details = _select_rows(engine, method, size, concepts, side or "image", seed or 0)
    origin = {"kind": "select", "from": anchors.ref, "digest": anchors.digest}
    operation = {**origin, "method": method, "size": size, **details}
    return publish_rows([(anchors, rows)], Store(home or default_home()), name, operation)


def _check_parameters(method: str, parameters: Mapping[str, Any]) -> None:
    """Refuse an unknown method, and parameters that it does not take."""
    accepted = next((names for known, names in _METHOD_PARAMETERS.items() if known == method), None)
    if accepted is None:
        raise UsageError(f"the method is {method!r}", f"one of {', '.join(SELECTION_METHODS)}", "pass --method kmeans")
    unused = [name for name, value in parameters.items() if value is not None and name not in accepted]
    if unused:
        raise UsageError(
            f"{method} was given {', '.join(unused)}",
            f"no more than {', '.join(sorted(accepted))}",
            f"leave {unused[0]} out",
        )


def _select_rows(
    engine: Engine, method: SelectionMethod, size: int, words: Sequence[str] | None, side: Side, seed: int
) -> tuple[Int64, dict[str, Any]]:
    """Return the rows that a method selects, ascending, and the parameters to record in the set."""
    anchors = engine.anchor_set
    if method == "random":
        return selection.choose_at_random(anchors.count, size, seed), {"seed": seed}
    if method == "kmeans":
        return selection.choose_by_kmeans(anchors.blocks(side), size, seed), {"side": side, "seed": seed}
    if method == "kdpp":
        return selection.choose_by_kdpp(anchors.blocks(side), size), {"side": side}
    prompts, details = _embed_concepts(engine, words)
    choose = selection.choose_by_concepts if method == "concepts" else selection.choose_by_concept_lists
    return choose(anchors.blocks("text"), prompts, size), {"concepts": details}


def _embed_concepts(engine: Engine, words: Sequence[str] | None) -> tuple[Float32, dict[str, Any]]:
    """Embed concepts [c, dt], and return details to record in the set; raises UsageError if there are no concepts."""
    if words is not None:
        labels = Labels(tuple(map(make_readable, words)), find_templates("photo"))
        labels.check_words()
        digest = hashlib.sha256(canonical_json(list(words))).hexdigest()
        details = {"count": len(words), "sha256": digest, "templates": list(labels.templates)}
        return engine.encode_texts(labels.prompts()).values, details
    own = selection.find_repeated_rows(engine.anchor_set.blocks("text"))
    if own is None:
        raise UsageError(
            f"no concepts, and the texts of {engine.anchor_set.ref} do not repeat, so they are none themselves",
            "a list of concepts",
            "pass --concepts FILE, one per line",
        )
    return own, {"count": len(own), "source": "texts"}
