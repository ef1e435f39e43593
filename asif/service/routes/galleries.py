"""GET /v1/galleries, and thumbnails of items."""

from __future__ import annotations

import asyncio
import hashlib

from starlette.requests import Request
from starlette.responses import Response

from asif.anchorset import Gallery
from asif.encoders.images import make_webp_thumbnail, read_image_bytes
from asif.errors import BadMedia
from asif.pairs.filter_expression import parse_where
from asif.pairs.item import ITEM_FIELDS, ItemRecord
from asif.service.json_response import respond_json, respond_thumbnail
from asif.service.keys import Grant
from asif.service.service import Call, Service


async def list_galleries(service: Service, call: Call, request: Request) -> Response:
    """List the galleries that the caller may see."""
    slots = [slot for slot in service.galleries.values() if call.grant.may_see_gallery(slot.name)]
    opened = await asyncio.gather(*(service.run(slot.open) for slot in slots))
    counts = await asyncio.gather(*(service.run(_count_items, gallery, call.grant) for gallery in opened))
    listed = [
        {
            "name": slot.name,
            "version": gallery.version,
            "digest": gallery.digest,
            "kind": gallery.modality,
            "items": count,
            "encoder": gallery.encoder_spec,
        }
        for slot, gallery, count in zip(slots, opened, counts, strict=True)
    ]
    return respond_json({"galleries": listed})


def _count_items(gallery: Gallery, grant: Grant) -> int:
    return len(gallery) if grant.items_where is None else len(gallery.where(grant.items_where))


async def show_thumbnail(service: Service, call: Call, request: Request) -> Response:
    """Return the thumbnail of an item, from the gallery or, on this machine, from its file."""
    gallery = await service.open_gallery(call, request.path_params["name"])
    content = await service.run(_read_thumbnail, gallery, call.grant, request.query_params.get("id", ""))
    return respond_thumbnail(content, "an item of a gallery that was built with --thumbnails")


def _read_thumbnail(gallery: Gallery, grant: Grant, name: str) -> bytes | None:
    row = gallery.find_rows([name]).get(name)
    if row is None:
        return None
    (item,) = gallery.records([row])
    if grant.items_where is not None and not parse_where(grant.items_where, ITEM_FIELDS)(item):
        return None
    return gallery.thumbnail(row) or _shrink_file(item)


def _shrink_file(item: ItemRecord) -> bytes | None:
    """Make a thumbnail of an item's file, if it is still the one that the gallery was built from."""
    try:
        content = read_image_bytes(item.uri)
        return make_webp_thumbnail(content) if hashlib.sha256(content).hexdigest() == item.sha256 else None
    except BadMedia:
        return None
