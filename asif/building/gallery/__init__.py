"""Galleries: read the items of a source, encode those whose content is new, and publish a version."""

from asif.building.gallery.build import GalleryOptions, GalleryResult, build_gallery_version
from asif.building.gallery.deferred import DeferredEncoder
from asif.building.gallery.source import GallerySource, name_source
from asif.building.gallery.stored import count_changes
from asif.building.gallery.update import GalleryChanges, delete_with_updates, update_gallery_version

__all__ = [
    "DeferredEncoder",
    "GalleryChanges",
    "GalleryOptions",
    "GalleryResult",
    "GallerySource",
    "build_gallery_version",
    "count_changes",
    "delete_with_updates",
    "name_source",
    "update_gallery_version",
]
