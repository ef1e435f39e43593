"""The store: all anchor sets of one user, by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asif.anchorset.edit.compact import compact
from asif.anchorset.edit.gc import DeletedFiles, collect_garbage
from asif.anchorset.edit.purge import PurgePlan, purge
from asif.anchorset.edit.remove import remove_rows
from asif.anchorset.edit.upsert import UpsertKind, upsert_pairs
from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.folder import CURRENT, SetFolder, Stamp
from asif.anchorset.format.manifest import Manifest
from asif.anchorset.format.references import check_name, parse_reference
from asif.anchorset.format.verify import Report, verify_folder
from asif.anchorset.format.versions import LogEntry, check_current, drop_alias, log, move_alias, roll_back
from asif.anchorset.receipts.check import ReceiptCheck, check_receipts
from asif.anchorset.receipts.create import build_receipt_between
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.receipt_file import check_receipt_path
from asif.anchorset.select.diff import Difference, difference
from asif.anchorset.select.find import Choice, find_rows
from asif.anchorset.sharing.bundle import Bundle, pack_bundle
from asif.anchorset.sharing.importer import BundleSource, ImportResult, import_bundle
from asif.anchorset.sharing.verified_copy import ByteProgress
from asif.anchorset.write.journal import Journal
from asif.anchorset.write.profile import publish_profile
from asif.errors import AsifError, IntegrityError, NotFound, UsageError
from asif.vectors import Side


def default_home() -> Path:
    """Return where anchor sets live: ASIF_HOME, or the user's data folder."""
    home = os.environ.get("ASIF_HOME")
    if home:
        return Path(home).expanduser()
    from platformdirs import user_data_path

    return user_data_path("asif")


@dataclass(frozen=True)
class SetEntry:
    """Describe an anchor set in a list: its current version, or in `error` why it cannot be opened.

    `size` is bytes on disk, of all versions; `encoders` the specs by side; `aliases` {alias: version}.
    """

    name: str
    size: int
    aliases: Mapping[str, str]
    version: str | None = None
    count: int | None = None
    dims: Mapping[Side, int] | None = None
    encoders: Mapping[Side, str] | None = None
    created: str | None = None
    error: str | None = None


class Store:
    """Find anchor sets under `root`, as `<root>/anchors/<name>`; reading never writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sets = root / "anchors"

    def open(self, ref: str) -> AnchorSet:
        """Open an anchor set by reference; raises UsageError, NotFound, IntegrityError, UnknownFormat."""
        folder, selector = self._find(ref)
        version = folder.resolve(selector)
        while True:
            try:
                return AnchorSet(folder, version)
            except IntegrityError:
                opened, version = version, folder.resolve(selector)
                if version == opened:
                    raise  # else the alias moved meanwhile, and where it pointed was deleted

    def resolve(self, ref: str) -> str:
        """Return the reference that means the same version for ever, `name@version`; raises as `open` does."""
        folder, selector = self._find(ref)
        return folder.exactly(folder.resolve(selector))

    def stamp(self, ref: str) -> Stamp | None:
        """Return what changes when an alias of a set moves; None where it has no aliases. Costs one look at a file."""
        folder, _ = self._find(ref)
        return folder.stamp()

    def verify(self, ref: str) -> Report:
        """Check every byte of all versions of a set, or of the one that the reference selects."""
        folder, selector = self._find(ref)
        return verify_folder(folder, None if selector is None else folder.resolve(selector))

    def journal(self, name: str, plan: Mapping[str, Any]) -> Journal:
        """Begin a build, or take it up again where the same plan was interrupted.

        `plan` is all that decides the outcome, as JSON; its `dtype` is the one the set is stored in.
        Raises UsageError for a bad name, Busy while the same build is running, IntegrityError for a damaged set.
        """
        return Journal(SetFolder(self._sets / check_name(name), name), plan)

    def keep_profile(self, ref: str, task: str, profile: Mapping[str, Any], asif_version: str) -> AnchorSet:
        """Keep a profile for a task with the version that `ref` means, as the next version; see `publish_profile`."""
        folder, selector = self._find(ref)
        return publish_profile(folder, folder.resolve(selector), task, profile, asif_version)

    def log(self, name: str) -> list[LogEntry]:
        """List the versions of a set, newest first; one that cannot be read is listed with its error."""
        return log(self._whole(name))

    def alias(self, name: str, alias: str, version: str, expect: str | None = None) -> str:
        """Point an alias at a version, if it points at `expect` now; see `versions.move_alias`."""
        return move_alias(self._whole(name), alias, version, expect)

    def drop_alias(self, name: str, alias: str, expect: str | None = None) -> str:
        """Take an alias other than `current` away, if it points at `expect` now; see `versions.drop_alias`."""
        return drop_alias(self._whole(name), alias, expect)

    def check_current(self, ref: str) -> None:
        """Raise Conflict unless `ref` means the current version: what an edit must be begun on."""
        folder, selector = self._find(ref)
        check_current(folder, folder.resolve(selector), "the edit was asked for on")

    def rollback(self, name: str, to: str | None = None) -> str:
        """Make the parent of the current version current, or the version `to`; nothing is deleted."""
        return roll_back(self._whole(name), to)

    def diff(self, a: str, b: str) -> Difference:
        """Tell by which pairs and encoders the version `b` differs from `a`, of one set or of two."""
        with self.open(a) as one, self.open(b) as other:
            return difference(one, other)

    def remove(
        self,
        ref: str,
        ids: Collection[str] | None = None,
        *,
        where: str | None = None,
        missing_ok: bool = False,
        receipt: Path | None = None,
    ) -> AnchorSet:
        """Publish the next version of a set, without the pairs of these ids, or those that `where` is true of.

        Where there is none of them, no version is made. `receipt` is a file that is not there yet, for what proves
        the removal. Raises what `find_rows` does, UsageError where no pair would be left, or the receipt has no place,
        Conflict where `ref` does not mean the current version or another edit came first.
        """
        folder, _ = self._find(ref)
        if receipt is not None:
            check_receipt_path(receipt)
        opened = self.open(ref)
        rows = find_rows(opened, ids, where, missing_ok)
        return remove_rows(folder, opened.version, rows, receipt) if len(rows) else opened

    def receipt(self, ref: str, before: str | None = None) -> Receipt:
        """Make the receipt of a removal that is done: for the version that `ref` means, made of its parent.

        `before` names another version that it was made of, by several removals. Raises NotFound where that is gone,
        UsageError where the version has pairs that the other has not.
        """
        folder, selector = self._find(ref)
        after = folder.manifest(folder.resolve(selector))
        wanted = before or after.parent
        if wanted is None or (before is None and wanted not in folder.versions()):
            raise NotFound(
                f"what {after.version} was made of, {wanted or 'nothing'}, is not there",
                "a version with the pairs that were removed",
                "name one that is there, with --before; a purge writes its receipt before it deletes any",
            )
        return build_receipt_between(folder, folder.manifest(folder.resolve(wanted)), after)

    def check_receipts(
        self,
        ref: str,
        receipts: Sequence[Receipt],
        captions: frozenset[str] = frozenset(),
        images: frozenset[str] = frozenset(),
    ) -> ReceiptCheck:
        """Check receipts against the version that `ref` means; for a purge, against every file of the store.

        Where `ref` is a path, only the files of that set are looked at. See `receipt_check.check_receipts`.
        """
        folder, selector = self._find(ref)
        root = self.root if folder.name is not None else folder.path
        return check_receipts(folder, folder.resolve(selector), receipts, root, captions, images)

    def put(self, ref: str, fresh: AnchorSet, kind: UpsertKind, rejected: int = 0) -> AnchorSet:
        """Publish the next version of a set with the pairs of another in it, which the same encoders made.

        `kind` says whether they are new ("add") or take the place of pairs it has ("update"); see `putting.put`.
        """
        folder, _ = self._find(ref)
        return upsert_pairs(folder, self.open(ref), fresh, kind, rejected)

    def compact(self, name: str) -> AnchorSet:
        """Write the blocks of the current version anew that have deleted rows, or fit into one with others."""
        folder = self._whole(name)
        return compact(folder, folder.resolve(CURRENT))

    def gc(self, name: str, keep: int) -> DeletedFiles:
        """Delete all versions but the newest `keep` and those that aliases point at, and every file they alone need."""
        return collect_garbage(self._whole(name), keep)

    def purge(
        self,
        ref: str,
        ids: Collection[str] | None = None,
        *,
        where: str | None = None,
        missing_ok: bool = False,
        saying: Callable[[PurgePlan], None] = lambda erased: None,
        receipt: Path | None = None,
    ) -> tuple[AnchorSet, DeletedFiles]:
        """Remove pairs so that no file of the set has them any more, hidden rows and older versions included.

        Before anything is deleted `receipt`, a file that is not there yet, is written, and `saying` told what will be.
        See `purging.purge`, and `engine.purge_pairs` for what the store remembers of them outside the set.
        """
        folder, selector = self._find(ref)
        return purge(folder, folder.resolve(selector), Choice.of(ids, where), missing_ok, saying, receipt)

    def packed(self, ref: str, scratch: Path | None = None) -> AbstractContextManager[Bundle]:
        """Pack one version to leave the store, without its deleted rows; see `parcel.packed`."""
        folder, selector = self._find(ref)
        return pack_bundle(folder, folder.resolve(selector), scratch)

    def receive(
        self, source: BundleSource, name: str | None = None, progress: ByteProgress = lambda done: None
    ) -> ImportResult:
        """Verify a version that comes in, and publish it under `name`, by default its own; see `incoming.receive`."""
        return import_bundle(self._sets, source, name, progress)

    def sets(self) -> list[SetEntry]:
        """List the anchor sets; a broken one is listed with its error and never hides the others."""
        if not self._sets.is_dir():
            return []
        found = sorted(path for path in self._sets.iterdir() if path.is_dir() or path.is_symlink())
        return [_entry(path) for path in found if not path.name.startswith(".")]

    def path(self, ref: str) -> Path:
        """Return the folder of the set that a reference means; raises NotFound."""
        return self._find(ref)[0].path

    def size(self, name: str) -> int:
        """Return the bytes on disk of a set, all versions and builds in progress; raises NotFound."""
        return folder_size(self._find(check_name(name))[0].path)

    def _whole(self, name: str) -> SetFolder:
        """Find a set, named without a version: by name, or by path."""
        folder, selector = self._find(name)
        if selector is not None:
            raise UsageError(f"the anchor set {name!r}", "its name alone, without @", f"leave @{selector} out")
        return folder

    def _find(self, ref: str) -> tuple[SetFolder, str | None]:
        reference = parse_reference(ref)
        if reference.path is not None:
            return SetFolder(_existing(reference.path), None), reference.selector
        assert reference.name is not None
        folder = SetFolder(self._sets / reference.name, reference.name)
        folder.check_links()
        if not folder.path.is_dir():
            known = ", ".join(entry.name for entry in sorted(self._sets.glob("[!.]*"))) or "none yet"
            raise NotFound(
                f"there is no anchor set {reference.name!r} in {self._sets}",
                f"one of: {known}",
                f"build it with: asif build-anchors PAIRS --name {reference.name}",
            )
        return folder, reference.selector


def _existing(path: Path) -> Path:
    if not os.path.isdir(path / "versions"):  # unlike Path.is_dir, False also for names the system cannot hold
        raise NotFound(f"{str(path)[:200]} is no anchor set", "a folder with `versions` in it", "check the path")
    return path.resolve()


def _entry(path: Path) -> SetEntry:
    folder, size, aliases = SetFolder(path, path.name), 0, {}
    try:
        check_name(path.name)
        folder.check_links()
        size = folder_size(path)
        aliases = folder.aliases()
        if not aliases and folder.journal.is_dir():
            return SetEntry(path.name, size, {}, error="not built yet: run the interrupted build again to finish it")
        manifest = folder.manifest(folder.resolve(CURRENT))
    except (AsifError, OSError) as error:
        return SetEntry(path.name, size, aliases, error=_reason(error))
    return _described(manifest, size, aliases)


def _described(manifest: Manifest, size: int, aliases: Mapping[str, str]) -> SetEntry:
    encoders: dict[Side, str] = {side: info.spec for side, info in manifest.encoders.items()}
    return SetEntry(
        manifest.name, size, aliases, manifest.version, manifest.count, manifest.dims, encoders, manifest.created
    )


def _reason(error: AsifError | OSError) -> str:
    if isinstance(error, IntegrityError):
        return f"{error.came}; {error.fix}"
    return error.came if isinstance(error, AsifError) else str(error)


def folder_size(path: Path) -> int:
    """Sum the sizes of the files in a folder, but of those that go meanwhile; follows no symlinks."""
    total = 0
    for folder, _, files in os.walk(path):
        for file in files:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, file)).st_size
    return total
