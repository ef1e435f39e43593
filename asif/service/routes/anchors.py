"""GET /v1/anchors, and the changes: swap, add pairs, take one out."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from asif.anchorset import AnchorSet, Store
from asif.anchorset.format.references import parse_reference, parse_union
from asif.engine import Engine
from asif.engine.edit import add_pairs
from asif.engine.purge import purge_pairs
from asif.errors import BadMedia, EncoderMismatch, IntegrityError
from asif.modality import find_modalities, find_modality
from asif.service.json_response import respond_json, respond_thumbnail
from asif.service.keys import OWNER
from asif.service.problem import Problem, refuse_image
from asif.service.request_body import read_body
from asif.service.schemas import PairsBody, SwapBody
from asif.service.service import Call, Service
from asif.service.slots import AnchorsSlot
from asif.vectors import SIDES

_ID_LENGTH = 16


async def list_anchors(service: Service, call: Call, request: Request) -> Response:
    """List the anchors that the caller may see."""
    slots = [slot for slot in service.anchors.values() if call.grant.may_see_anchors(slot.name)]
    engines = await asyncio.gather(*(service.run(slot.find_engine, call.grant) for slot in slots))
    return respond_json({"anchors": [_describe(slot, engine) for slot, engine in zip(slots, engines, strict=True)]})


def _describe(slot: AnchorsSlot, engine: Engine) -> dict[str, Any]:
    anchors = engine.anchors
    return {
        "name": slot.name,
        "ref": slot.shown_reference,
        "version": anchors.named.version,
        "digest": anchors.named.digest,
        "pairs": anchors.count,
        "encoders": {side: anchors.encoder_spec(side) for side in SIDES},
        "modalities": find_modalities(anchors),
        "aligner": engine.role("classify").choice.aligner.name,
        "up_to_date": slot.error is None,
    }


async def swap(service: Service, call: Call, request: Request) -> Response:
    """Make a name mean another reference, in all workers; the old one serves if it cannot be opened."""
    body = await read_body(request, SwapBody, service.limits)
    slot = service.find_anchors(call.grant, request.path_params["name"])
    _check_reference(service, call, slot, body.ref)
    await service.find_engine(call, slot.name)  # If-Anchors-Match
    try:
        await service.change(slot.swap, body.ref)
    except IntegrityError as error:
        raise Problem.of(error, service.config.home, 422) from error
    except EncoderMismatch as error:
        raise Problem.of(error, service.config.home, 409) from error
    return await _respond_changed(service, call, slot)


def _check_reference(service: Service, call: Call, slot: AnchorsSlot, ref: str) -> None:
    """Refuse paths, and sets that the caller may not see."""
    for part in parse_union(ref):
        name = parse_reference(part).name
        if name is None:
            raise Problem(422, "a path", "the name of a set, with @version or @alias", "put the set into the store")
        known = set(parse_union(slot.name)) | {
            each for seen in service.anchors for each in parse_union(seen) if call.grant.may_see_anchors(seen)
        }
        if name not in known and not service.keys.is_open:
            raise Problem(404, f"there is no anchor set {name!r}", "a set that GET /v1/anchors lists", "check the name")


async def add(service: Service, call: Call, request: Request) -> Response:
    """Add pairs to a set, or replace pairs of the same ids."""
    body = await read_body(request, PairsBody, service.limits)
    slot = _find_editable(service, call, request)
    ref = await _take_reference(service, call, slot)
    engine = await service.run(slot.find_engine, OWNER)
    modality = find_modality(engine.anchors, "image")
    files = await service.read_images([pair.image for pair in body.pairs], engine)
    rows = []
    for number, (pair, image) in enumerate(zip(body.pairs, files, strict=True), 1):
        if isinstance(image, BadMedia):
            raise refuse_image(image, f"the {modality} of pair {number}")
        fields = {"source": pair.source, "licence": pair.licence, "url": pair.url}
        given = {name: value for name, value in fields.items() if value is not None}
        name = pair.id or _make_id(image, pair.captions)
        rows.append({"id": name, modality: image, "captions": list(pair.captions), **given})
    await service.queue.run(lambda: _add_rows(service, slot, ref, rows, body.replace), call.deadline)
    await service.change(slot.follow, slot.follows)
    return await _respond_changed(service, call, slot, ids=[row["id"] for row in rows])


def _make_id(image: bytes, captions: Sequence[str]) -> str:
    """Return an id for a pair without one: the same for the same image and captions."""
    content = b"\0".join([image, *(caption.encode(errors="replace") for caption in captions)])
    return hashlib.sha256(content).hexdigest()[:_ID_LENGTH]


def _add_rows(service: Service, slot: AnchorsSlot, ref: str, rows: list[dict[str, Any]], replace: bool) -> AnchorSet:
    """Encode pairs with the encoders of the service, and publish a version with them."""
    engine = slot.find_engine(OWNER)
    return add_pairs(
        ref,
        rows,
        kind="update" if replace else "add",
        max_bad_rows=0,
        resume=False,
        home=service.config.home,
        encoders=engine.encoders,
    )


async def remove(service: Service, call: Call, request: Request) -> Response:
    """Take a pair out of a set; with `purge`, which needs the role admin, also out of all older versions."""
    slot = _find_editable(service, call, request)
    purge = request.query_params.get("purge", "false") in ("true", "1")
    if purge and not call.grant.may("admin"):
        raise Problem(403, "a purge by a key without the role admin", "the role admin", "remove it without a purge")
    ref = await _take_reference(service, call, slot)
    name = request.path_params.get("id") or request.query_params.get("id", "")
    receipt = await service.change(_remove_pair, service.config.home, ref, name, purge)
    await service.change(slot.follow, slot.follows)
    return await _respond_changed(service, call, slot, receipt=receipt)


def _remove_pair(home: Path, ref: str, name: str, purge: bool) -> str:
    """Publish a version without a pair; return the receipt, as the text of its file."""
    with tempfile.TemporaryDirectory(prefix="asif-receipt-") as folder:
        path = Path(folder) / "receipt.json"
        if purge:
            purge_pairs(ref, [name], receipt=path, home=home)
        else:
            Store(home).remove(ref, [name], receipt=path)
        return path.read_text(encoding="utf-8")


async def show_thumbnail(service: Service, call: Call, request: Request) -> Response:
    """Return the thumbnail of a pair, from the files that the set was built from, if they are on this machine."""
    slot, engine = await service.find_engine(call, request.path_params["name"])
    content = await service.run(slot.read_thumbnail, engine, request.query_params.get("id", ""))
    return respond_thumbnail(content, "files that the set was built from, unchanged, on this machine")


def _find_editable(service: Service, call: Call, request: Request) -> AnchorsSlot:
    """Return the anchors of the path, which the caller may edit."""
    slot = service.find_anchors(call.grant, request.path_params["name"])
    if call.grant.where is not None:
        raise Problem(
            403,
            "an edit by a key that sees some pairs only",
            "a key without where",
            "use one that sees all pairs of the set",
        )
    return slot


async def _take_reference(service: Service, call: Call, slot: AnchorsSlot) -> str:
    """Return the reference to edit: the served version, if the caller expects it, which no other edit may precede."""
    ref = slot.find_editable()
    _, engine = await service.find_engine(call, slot.name)
    return engine.exactly[0] if call.expected_anchors else ref


async def _respond_changed(service: Service, call: Call, slot: AnchorsSlot, **more: Any) -> Response:
    """Answer once all workers serve the change."""
    everywhere = await service.change(slot.wait_for_workers)
    engine = await service.run(slot.find_engine, call.grant)
    content = {"anchors": _describe(slot, engine), "all_workers": everywhere, **more}
    return respond_json(content, engine.anchors.named)
