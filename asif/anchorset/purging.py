"""Remove pairs for good: from the current version, from hidden rows, and with the older versions that hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asif.anchorset.deletions import Mask
from asif.anchorset.edits import begun, joined, published
from asif.anchorset.finding import Choice
from asif.anchorset.folder import CURRENT, SetFolder
from asif.anchorset.manifest import BlockEntry, Manifest
from asif.anchorset.opened import AnchorSet, load_pairs
from asif.anchorset.sweeping import Swept, sweep
from asif.errors import UsageError


@dataclass(frozen=True)
class _Found:
    """Hold the rows that are chosen, [rows] of each block of any version, hidden ones too, and their ids."""

    masks: dict[BlockEntry, Mask]
    ids: set[str]

    def of(self, entry: BlockEntry) -> Mask:
        return self.masks[replace(entry, deleted=())]

    def holds(self, manifest: Manifest) -> bool:
        return any(self.of(entry).any() for entry in manifest.blocks)


def purge(
    folder: SetFolder, version: str, choice: Choice, missing_ok: bool, saying: Callable[[Sequence[str]], None]
) -> tuple[AnchorSet, Swept]:
    """Publish a version of the current one without the chosen pairs; then delete every file that has them.

    Blocks that have them, hidden or not, are written anew, and every older version that holds them is deleted, after
    `saying` was told which. Rejects and builds in progress are left alone. Killed midway, the same call finishes.
    Raises NotFound for ids that no version has, Conflict, and UsageError where no pair would be left, or another alias
    points at a version that would be deleted.
    """
    with begun(folder, version) as current:
        sweep(folder, ())  # what a killed purge left is in no version any more, so that nothing below would find it
        manifests = [folder.manifest(one) for one in folder.versions()]
        found = _find(folder, manifests, choice)
        choice.check(f"{current.name}, in all of its versions,", found.ids, missing_ok)
        doomed = [manifest.version for manifest in manifests if found.holds(manifest)]
        if sum(int((entry.live & ~found.of(entry)).sum()) for entry in current.blocks) == 0:
            raise UsageError(
                f"all {current.count:,} pairs of {current.name}@{current.seq} would be removed",
                "one that stays, at least",
                "choose fewer, or delete the set itself",
            )
        _check_aliases(folder, doomed)
        saying(doomed)
        opened = _without(folder, current, found) if version in doomed else AnchorSet(folder, version)
        return opened, sweep(folder, doomed)


def _find(folder: SetFolder, manifests: Iterable[Manifest], choice: Choice) -> _Found:
    found = _Found({}, set())
    for entry in {replace(entry, deleted=()) for manifest in manifests for entry in manifest.blocks}:
        pairs = load_pairs(folder, entry)
        found.masks[entry] = np.array([choice.holds(pair) for pair in pairs], bool)
        found.ids.update(pairs[row].id for row in np.flatnonzero(found.masks[entry]))
    return found


def _check_aliases(folder: SetFolder, doomed: Sequence[str]) -> None:
    held = {alias: target for alias, target in folder.aliases().items() if target in doomed and alias != CURRENT}
    if held:
        alias, target = min(held.items())
        raise UsageError(
            f"the alias {alias!r} points at {target}, which holds pairs that are to be purged",
            "no alias but current on a version that is to be deleted",
            "remove them without --purge, compact the set, move the alias to the version that is current then, purge",
        )


def _without(folder: SetFolder, current: Manifest, found: _Found) -> AnchorSet:
    blocks: list[BlockEntry] = []
    removed = 0
    for entry in current.blocks:
        gone = found.of(entry)
        left = entry.live & ~gone
        removed += entry.count - int(left.sum())
        if not gone.any():
            blocks.append(entry)
        elif left.any():
            blocks.append(joined(folder, current, [(entry, left)]))
    return published(folder, current, blocks, {"kind": "purge", "pairs": removed})
