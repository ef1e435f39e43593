"""Add pairs to an existing set: encode them into a scratch set first, then insert them into the set."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace

from asif.anchorset import AnchorSet, Store
from asif.anchorset.edit.upsert import UpsertKind
from asif.building.build import BuildOptions, BuildResult, PairReader, build_anchor_set
from asif.encoders import ImageEncoder, TextEncoder
from asif.errors import IntegrityError, NotFound

SCRATCH_FOLDER = "adding"
"""The folder next to `anchors` that holds pairs which are encoded but not inserted yet."""


def encode_and_add(
    source: PairReader,
    store: Store,
    ref: str,
    kind: UpsertKind,
    image: ImageEncoder,
    text: TextEncoder,
    options: BuildOptions,
    progress: Callable[[int], None],
    report: Callable[[BuildResult], None] = lambda built: None,
) -> AnchorSet:
    """Encode pairs with the encoders that made the set, and publish its next version with them.

    Only the new pairs are encoded. Their embeddings stay on disk until they are published, so that the same call
    resumes after a kill, a conflict or a full disk, unless `options.resume` is False. The captions mode and dtype are
    the set's. `report` is called with the result of encoding, if anything was left to encode. Raises what
    `build_anchor_set` and `Store.put` raise.
    """
    with store.open(ref) as anchors:
        manifest = anchors.manifest
        how = replace(options, captions=manifest.captions, dtype=manifest.dtype, resume=True)  # type: ignore[arg-type]
        inputs = [anchors.fingerprint("image").digest, anchors.fingerprint("text").digest, how, source.identity]
    scratch = Store(store.root / SCRATCH_FOLDER)
    name = hashlib.sha256(repr(inputs).encode()).hexdigest()
    if not options.resume:
        shutil.rmtree(scratch.root / "anchors" / name, ignore_errors=True)
    encoded = _open_encoded(scratch, name)
    if encoded is None:
        operation = {"kind": "encode", "source": str(source.path)}
        built = build_anchor_set(source, scratch, name, image, text, how, operation, progress)
        report(built)
        encoded = built.anchors
    with encoded:
        published = store.put(ref, encoded, kind, encoded.manifest.rejected)
    shutil.rmtree(scratch.root / "anchors" / name)
    return published


def _open_encoded(scratch: Store, name: str) -> AnchorSet | None:
    """Return the scratch set that an earlier call completed but did not publish; a damaged one is deleted."""
    try:
        encoded = scratch.open(name)
        scratch.verify(encoded.ref).raise_if_bad()
        return encoded
    except NotFound:
        return None
    except IntegrityError:  # also what a call leaves that was killed during clean-up
        shutil.rmtree(scratch.root / "anchors" / name)
        return None
