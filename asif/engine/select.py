"""Choose some anchors of a set, and make a set of them."""

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
from asif.classify import Labels
from asif.encoders import Device
from asif.engine.build import DEFAULT_ANCHORS
from asif.engine.engine import Engine
from asif.errors import UsageError
from asif.prompts import readable, templates
from asif.vectors import Float32, Int64, Side, canonical_json

Method = Literal["concepts", "kmeans", "kdpp", "random"]
TAKES: Mapping[Method, frozenset[str]] = {
    "concepts": frozenset({"concepts"}),
    "kmeans": frozenset({"side", "seed"}),
    "kdpp": frozenset({"side"}),
    "random": frozenset({"seed"}),
}
"""The methods, and which parameters have a meaning for each."""
METHODS = tuple(TAKES)


def select_anchors(
    ref: str = DEFAULT_ANCHORS,
    *,
    method: Method,
    size: int,
    name: str,
    concepts: Sequence[str] | None = None,
    side: Side | None = None,
    seed: int | None = None,
    home: Path | None = None,
    device: Device = "auto",
) -> AnchorSet:
    """Choose `size` anchors of a set, and make them the current version of the set `name`.

    `side` ("image" by default) is whose embeddings `kmeans` and `kdpp` look at, `seed` (0) starts `kmeans` and
    `random`. `concepts` are words, which the set's text encoder encodes; without them the set's own texts, if they
    repeat. Raises UsageError for a size the set does not have, and for what the method makes no use of.
    """
    check(method, {"concepts": concepts, "side": side, "seed": seed})
    check_set_name(name)
    engine = Engine(ref, home=home, device=device, aligner=make_aligner("asif"))  # whatever profile it may have
    anchors = engine.anchor_set
    if not 1 <= size <= anchors.count:
        raise UsageError(
            f"{size:,} anchors are to be chosen of {anchors.ref}", f"1 to {anchors.count:,}", "pass another --size"
        )
    rows, how = choose_rows(engine, method, size, concepts, side or "image", seed or 0)
    origin = {"kind": "select", "from": anchors.ref, "digest": anchors.digest}
    operation = {**origin, "method": method, "size": size, **how}
    return publish_rows([(anchors, rows)], Store(home or default_home()), name, operation)


def check(method: str, given: Mapping[str, Any]) -> None:
    """Refuse a method there is none of, and parameters without effect on it."""
    takes = next((takes for known, takes in TAKES.items() if known == method), None)
    if takes is None:
        raise UsageError(f"the method is {method!r}", f"one of {', '.join(METHODS)}", "pass --method kmeans")
    idle = [name for name, value in given.items() if value is not None and name not in takes]
    if idle:
        raise UsageError(
            f"{method} was given {', '.join(idle)}", f"no more than {', '.join(sorted(takes))}", f"leave {idle[0]} out"
        )


def choose_rows(
    engine: Engine, method: Method, size: int, words: Sequence[str] | None, side: Side, seed: int
) -> tuple[Int64, dict[str, Any]]:
    """Return the rows that a method chooses, ascending, and what to record of how."""
    anchors = engine.anchor_set
    if method == "random":
        return selection.choose_at_random(anchors.count, size, seed), {"seed": seed}
    if method == "kmeans":
        return selection.choose_by_kmeans(anchors.blocks(side), size, seed), {"side": side, "seed": seed}
    if method == "kdpp":
        return selection.choose_by_kdpp(anchors.blocks(side), size), {"side": side}
    prompts, about = concept_prompts(engine, words)
    return selection.choose_by_concepts(anchors.blocks("text"), prompts, size), {"concepts": about}


def concept_prompts(engine: Engine, words: Sequence[str] | None) -> tuple[Float32, dict[str, Any]]:
    """Return the embeddings of the concepts [c, dt], and what to record of them; raises UsageError without any."""
    if words is not None:
        labels = Labels(tuple(map(readable, words)), templates("photo"))
        said = hashlib.sha256(canonical_json(list(words))).hexdigest()
        about = {"count": len(words), "sha256": said, "templates": list(labels.templates)}
        return engine.encode_texts(labels.prompts()).values, about
    own = selection.find_repeated_rows(engine.anchor_set.blocks("text"))
    if own is None:
        raise UsageError(
            f"no concepts, and the texts of {engine.anchor_set.ref} do not repeat, so they are none themselves",
            "a list of concepts",
            "pass --concepts FILE, one per line",
        )
    return own, {"count": len(own), "source": "texts"}
