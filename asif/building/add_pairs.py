"""New pairs for a set that is there: encoded as its own were, first into a set of their own, then put into it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable

from asif.anchorset import AnchorSet, Store
from asif.anchorset.edit.upsert import UpsertKind
from asif.building.build import BuildOptions, Source, Tolerance, build
from asif.encoders import ImageEncoder, TextEncoder
from asif.errors import IntegrityError, NotFound

SCRATCH = "adding"
"""The folder beside `anchors` for pairs that are encoded, but not put into their set yet."""


def put_pairs(
    source: Source,
    store: Store,
    ref: str,
    kind: UpsertKind,
    image: ImageEncoder,
    text: TextEncoder,
    max_bad_rows: Tolerance,
    progress: Callable[[int], None],
) -> AnchorSet:
    """Encode pairs with these encoders, which made the set, and publish its next version with them.

    Only the new pairs are encoded; what was encoded is kept until it is published, so that after a kill, a conflict or
    a full disk the same call goes on. See `building.build` and `anchorset.putting.put` for errors.
    """
    with store.open(ref) as anchors:
        manifest = anchors.manifest
        options = BuildOptions(manifest.captions, manifest.dtype, max_bad_rows=max_bad_rows)  # type: ignore[arg-type]
        made_by = [anchors.fingerprint("image").digest, anchors.fingerprint("text").digest, options, source.identity]
    scratch = Store(store.root / SCRATCH)
    name = hashlib.sha256(repr(made_by).encode()).hexdigest()
    fresh = encoded_before(scratch, name)
    if fresh is None:
        operation = {"kind": "encode", "source": str(source.path)}
        fresh = build(source, scratch, name, image, text, options, operation, progress).anchors
    with fresh:
        published = store.put(ref, fresh, kind, fresh.manifest.rejected)
    shutil.rmtree(scratch.root / "anchors" / name)
    return published


def encoded_before(scratch: Store, name: str) -> AnchorSet | None:
    """Return what an earlier call encoded whole and could not publish; what was damaged since is removed."""
    try:
        found = scratch.open(name)
        scratch.verify(found.ref).raise_if_bad()
        return found
    except NotFound:
        return None
    except IntegrityError:  # a call that was killed while it cleaned up leaves a part, too
        shutil.rmtree(scratch.root / "anchors" / name)
        return None
