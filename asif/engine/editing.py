"""Make anchor sets of others: some pairs of one, or the pairs of two."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from asif.anchorset import AnchorSet, Store, default_home, find_rows
from asif.anchorset.names import check_name
from asif.building.chosen import publish_rows
from asif.building.merged import OnConflict, merge
from asif.errors import InputRefused


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
    check_name(name)
    with store.open(ref) as anchors:
        rows = find_rows(anchors, ids, where, missing_ok)
        if not len(rows):
            raise InputRefused(
                f"no pair of {anchors.ref} was chosen", "one, at least", "look at what there is, and choose otherwise"
            )
        operation = {"kind": "subset", "from": anchors.ref, "digest": anchors.digest, "pairs": len(rows)}
        return publish_rows(anchors, rows, store, name, operation)


def merge_anchors(
    a: str, b: str, name: str, *, on_conflict: OnConflict = "refuse", home: Path | None = None
) -> AnchorSet:
    """Make the pairs of two sets of the same encoders the current version of the set `name`; see `merged.merge`."""
    store = Store(home or default_home())
    check_name(name)
    with store.open(a) as first, store.open(b) as second:
        return merge((first, second), store, name, on_conflict)
