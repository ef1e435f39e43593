"""Read a folder of class folders as pairs: the caption of an image is made from the name of its folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from asif.errors import UsageError
from asif.pairs.class_folders import ClassFolders
from asif.pairs.columns import Columns
from asif.pairs.pair import Pair, Reject
from asif.pairs.source import PairSource
from asif.prompts import make_readable

DEFAULT_CAPTION = "a photo of a {}."
DEFAULT_SOUND_CAPTION = "the sound of {}."


@dataclass(frozen=True)
class FolderCaptions(PairSource):
    """Read the images of class folders with a caption made from the folder's name by a template."""

    folders: ClassFolders
    template: str

    @property
    def rows(self) -> int:
        """Count the images."""
        return self.folders.rows

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one pair for each image from `start` on."""
        for item in self.folders.read(start):
            yield item if isinstance(item, Reject) else self._caption(item)

    def _caption(self, pair: Pair) -> Pair:
        caption = self.template.replace("{}", make_readable(str(pair.label)))
        return replace(pair, captions=(caption,), label=None)


def caption_folders(folders: ClassFolders, template: str | None) -> FolderCaptions:
    """Return class folders as pairs; raises UsageError for a template without {}."""
    template = template or (DEFAULT_CAPTION if folders.modality == "image" else DEFAULT_SOUND_CAPTION)
    if "{}" not in template:
        raise UsageError(
            f"the template {template[:80]!r} has no {{}}", "a text with {} for the label", f"use {DEFAULT_CAPTION!r}"
        )
    kind = "class folders, whose names are captions"
    return FolderCaptions(
        folders.path,
        kind,
        Columns(captions=template, modality=folders.modality),
        folders.unused,
        folders.files,
        None,
        folders,
        template,
    )
