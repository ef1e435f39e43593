"""The store: the anchor sets of one user, or the galleries, by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from asif.anchorset.edit.compact import compact
from asif.anchorset.edit.gc import DeletedFiles, collect_garbage
from asif.anchorset.edit.insert import insert_rows
from asif.anchorset.edit.purge import PurgePlan, purge
from asif.anchorset.edit.remove import remove_rows
from asif.anchorset.edit.transaction import SourceState
from asif.anchorset.edit.upsert import UpsertKind, upsert_pairs
from asif.anchorset.edit.whole_set import DeletedSet, delete_set, rename_set
from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.atomic_io import check_folder, translate_read_errors
from asif.anchorset.format.folder import CURRENT_ALIAS, AliasStamp, SetFolder
from asif.anchorset.format.kinds import ANCHORS, SetKind
from asif.anchorset.format.locks import check_can_lock
from asif.anchorset.format.manifest import Manifest
from asif.anchorset.format.references import check_set_name, parse_reference
from asif.anchorset.format.set_entry import SetEntry, measure_folder, read_set_entry
from asif.anchorset.format.verify import VerificationReport, verify_set_folder
from asif.anchorset.format.versions import LogEntry, check_current, drop_alias, move_alias, read_version_log, roll_back
from asif.anchorset.receipts.check import ReceiptCheck, check_receipts
from asif.anchorset.receipts.create import build_receipt_between
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.receipt_file import check_receipt_path
from asif.anchorset.select.diff import SetDifference, compute_set_difference
from asif.anchorset.select.find import PairSelection, find_rows, iter_ids
from asif.anchorset.sharing.bundle import Bundle, pack_bundle
from asif.anchorset.sharing.importer import BundleSource, ImportResult, import_bundle
from asif.anchorset.sharing.verified_copy import ByteProgress
from asif.anchorset.write.journal import Journal, list_plans
from asif.anchorset.write.profile import publish_profile
from asif.anchorset.write.shard_journal import ShardJournal
from asif.errors import Conflict, IntegrityError, NotFound, UsageError, suggest_nearest
from asif.vectors import Int64


class Store:
    """Manage the sets of one kind under `root`, as `anchors/<name>` or `galleries/<name>`; reading never writes."""

    def __init__(self, root: Path, kind: SetKind = ANCHORS) -> None:
        self.root = root
        self.kind = kind
        self._sets = root / kind.folder

    def open(self, ref: str) -> AnchorSet:
        """Open an anchor set by reference; raises UsageError, NotFound, IntegrityError, UnknownFormat."""
        folder, selector = self._find(ref)
        version = folder.resolve(selector)
        while True:
            try:
                return AnchorSet(folder, version)
            except (IntegrityError, Conflict):
                failed, version = version, folder.resolve(selector)
                if version == failed:
                    raise  # otherwise the alias moved meanwhile, and its old version was deleted

    def resolve(self, ref: str) -> str:
        """Return the reference that always means the same version, `name@version`; raises as `open` does."""
        folder, selector = self._find(ref)
        return folder.exactly(folder.resolve(selector))

    def stamp(self, ref: str) -> AliasStamp | None:
        """Return a stamp that changes when an alias of a set moves; None without aliases. Reads no file."""
        folder, _ = self._find(ref)
        return folder.stamp()

    def verify(self, ref: str) -> VerificationReport:
        """Check every byte of all versions of a set, or of the one version that the reference selects."""
        folder, selector = self._find(ref)
        return verify_set_folder(folder, None if selector is None else folder.resolve(selector))

    def journal(self, name: str, plan: Mapping[str, Any]) -> Journal:
        """Begin a build, or resume it if a build of the same plan was interrupted.

        `plan` is everything that decides the outcome, as JSON; its `dtype` is the stored dtype of the set.
        Raises UsageError for a bad name, Busy while the same build is running, IntegrityError for a damaged set.
        """
        return Journal(self._folder(name), plan)

    def shard_journal(self, name: str, plan: Mapping[str, Any]) -> ShardJournal:
        """Begin a build by several workers, or resume it; raises what `journal` raises."""
        return ShardJournal(self._folder(name), plan)

    def list_journal_plans(self, name: str) -> list[dict[str, Any]]:
        """List the plans of builds of a set that are running or were interrupted."""
        return list_plans(self._folder(name))

    def find_build(self, name: str, plan: str) -> AnchorSet | None:
        """Open the current version of a set if a build of this plan, the hash in its operation, has the same anchors.

        Profiles that were tuned since do not matter. None for any other set, or one that cannot be read.
        """
        folder = self._folder(name)
        try:
            current = built = folder.current_manifest()
            while built.operation.get("kind") == "tune" and built.parent in folder.versions():
                built = folder.manifest(built.parent)
            same = built.operation.get("plan") == plan and built.digest == current.digest
            return AnchorSet(folder, current.version) if same else None
        except (NotFound, IntegrityError, Conflict):
            return None

    def publish_profile(self, ref: str, task: str, profile: Mapping[str, Any], asif_version: str) -> AnchorSet:
        """Publish a tuned profile for a task, with the anchors of `ref`, as the next version; see `publish_profile`."""
        folder, selector = self._find(ref)
        return publish_profile(folder, folder.resolve(selector), task, profile, asif_version)

    def log(self, name: str) -> list[LogEntry]:
        """List the versions of a set, newest first; one that cannot be read is listed with its error."""
        return read_version_log(self._find_set(name))

    def alias(self, name: str, alias: str, version: str, expect: str | None = None) -> str:
        """Point an alias at a version, if it points at `expect` now; see `versions.move_alias`."""
        return move_alias(self._find_set(name), alias, version, expect)

    def drop_alias(self, name: str, alias: str, expect: str | None = None) -> str:
        """Delete an alias other than `current`, if it points at `expect` now; see `versions.drop_alias`."""
        return drop_alias(self._find_set(name), alias, expect)

    def check_current(self, ref: str) -> None:
        """Raise Conflict unless `ref` means the current version, which every edit starts from."""
        folder, selector = self._find(ref)
        check_current(folder, folder.resolve(selector), "the edit was to start from")

    def rollback(self, name: str, to: str | None = None) -> str:
        """Make the parent of the current version current, or the version `to`; nothing is deleted."""
        return roll_back(self._find_set(name), to)

    def diff(self, a: str, b: str) -> SetDifference:
        """Compare the pairs and encoders of version `b` with those of version `a`, of one set or of two."""
        with self.open(a) as one, self.open(b) as other:
            return compute_set_difference(one, other)

    def remove(
        self,
        ref: str,
        ids: Collection[str] | None = None,
        *,
        where: str | None = None,
        missing_ok: bool = False,
        receipt: Path | None = None,
    ) -> AnchorSet:
        """Publish the next version of a set, without the pairs with these ids, or those that match `where`.

        Where no pair matches, no version is published. `receipt` is a new file for the receipt of the removal. Raises
        what `find_rows` does, UsageError if no pair would be left or the receipt cannot be written there, Conflict
        if `ref` is not the current version or another edit came first.
        """
        folder, _ = self._find(ref)
        if receipt is not None:
            check_receipt_path(receipt)
        anchors = self.open(ref)
        rows = find_rows(anchors, ids, where, missing_ok)
        return remove_rows(folder, anchors.version, rows, receipt) if len(rows) else anchors

    def receipt(self, ref: str, before: str | None = None) -> Receipt:
        """Create the receipt of an earlier removal: from the parent of the version that `ref` means to that version.

        `before` names an older version instead of the parent, for several removals at once. Raises NotFound if that
        version is gone, UsageError if the newer version has pairs that the older one has not.
        """
        folder, selector = self._find(ref)
        version = folder.resolve(selector)
        with folder.reading(version):
            return self._build_receipt(folder, folder.manifest(version), before)

    def _build_receipt(self, folder: SetFolder, after: Manifest, before: str | None) -> Receipt:
        older = before or after.parent
        if older is None or (before is None and older not in folder.versions()):
            raise NotFound(
                f"what {after.version} was made of, {older or 'nothing'}, is not there",
                "a version with the pairs that were removed",
                "name one that is there, with --before; a purge writes its receipt before it deletes any",
            )
        version = folder.resolve(older)
        with folder.reading(version):
            return build_receipt_between(folder, folder.manifest(version), after)

    def check_receipts(
        self,
        ref: str,
        receipts: Sequence[Receipt],
        captions: frozenset[str] = frozenset(),
        images: frozenset[str] = frozenset(),
    ) -> ReceiptCheck:
        """Check receipts against the version that `ref` means; for a purge, against every file of the store.

        Where `ref` is a path, only the files of that set are searched. See `receipts.check.check_receipts`.
        """
        folder, selector = self._find(ref)
        root = self.root if folder.name is not None else folder.path
        version = folder.resolve(selector)
        with folder.reading(version):
            return check_receipts(folder, version, receipts, root, captions, images)

    def put(self, ref: str, fresh: AnchorSet, kind: UpsertKind, rejected: int = 0) -> AnchorSet:
        """Publish the next version of a set, with the pairs of another set of the same encoders added to it.

        `kind` says whether they are new ("add") or replace pairs of the set ("update"); see `edit.upsert`.
        """
        folder, _ = self._find(ref)
        return upsert_pairs(folder, self.open(ref), fresh, kind, rejected)

    def replace_rows(
        self,
        version: AnchorSet,
        removed: Int64,
        fresh: AnchorSet | None,
        rows: Int64,
        operation: Mapping[str, Any],
        state: SourceState,
    ) -> AnchorSet:
        """Publish the next version of a gallery: `version` without the rows `removed`, with `rows` of `fresh`.

        Raises Conflict if `version` is not current. See `edit.insert.insert_rows`.
        """
        ids = list(iter_ids(version))
        return insert_rows(version.folder, version.version, ids, removed, fresh, rows, operation, state)

    def compact(self, name: str) -> AnchorSet:
        """Rewrite the blocks of the current version that have deleted rows, or that fit into one block together."""
        folder = self._find_set(name)
        return compact(folder, folder.resolve(CURRENT_ALIAS))

    def gc(self, name: str, keep: int) -> DeletedFiles:
        """Delete versions other than the newest `keep` and those with an alias, and the files that only they need."""
        return collect_garbage(self._find_set(name), keep)

    def purge(
        self,
        ref: str,
        ids: Collection[str] | None = None,
        *,
        where: str | None = None,
        missing_ok: bool = False,
        saying: Callable[[PurgePlan], None] = lambda erased: None,
        receipt: Path | None = None,
        selection: PairSelection | None = None,
    ) -> tuple[AnchorSet, DeletedFiles]:
        """Remove pairs from every file of the set, hidden rows and older versions included.

        They are named by ids, by an expression, or by a `selection`.
        Before anything is deleted, `receipt`, a new file, is written, and `saying` is called with what will be deleted.
        See `edit.purge.purge`, and `engine.purge_pairs` for the files of the store outside the set.
        """
        folder, selector = self._find(ref)
        chosen = selection or PairSelection.of(ids, where)
        return purge(folder, folder.resolve(selector), chosen, missing_ok, saying, receipt)

    def delete(self, name: str) -> DeletedSet:
        """Delete a set of the store with all of its versions; see `edit.whole_set.delete_set`."""
        return delete_set(self._find(check_set_name(name))[0])

    def rename(self, old: str, new: str) -> None:
        """Give a set of the store another name; see `edit.whole_set.rename_set`."""
        rename_set(self._find(check_set_name(old))[0], self._folder(new))

    def check_writable(self) -> None:
        """Raise AsifError unless sets can be built here: before work begins, and before it is announced."""
        places = (self._sets, *self._sets.absolute().parents)
        check_can_lock(next(place for place in places if os.path.lexists(place)))

    def pack(self, ref: str, scratch: Path | None = None) -> AbstractContextManager[Bundle]:
        """Bundle one version for export, without its deleted rows; see `sharing.bundle.pack_bundle`."""
        folder, selector = self._find(ref)
        return pack_bundle(folder, folder.resolve(selector), scratch)

    def receive(
        self, source: BundleSource, name: str | None = None, progress: ByteProgress = lambda done: None
    ) -> ImportResult:
        """Verify a bundle and publish it under `name`, by default its own name; see `sharing.importer`."""
        return import_bundle(self._sets, source, name, progress)

    def sets(self) -> list[SetEntry]:
        """List the sets; a damaged one is listed with its error and does not hide the others."""
        folders = [path for path in self._list_folders() if path.is_dir() or path.is_symlink()]
        return [read_set_entry(path, self.kind) for path in folders if not path.name.startswith(".")]

    def _list_folders(self) -> list[Path]:
        """List what is in the store, by name; nothing if it does not exist yet. Raises AsifError if it is no folder."""
        if not os.path.lexists(self._sets):
            check_folder(self.root)
            return []
        with translate_read_errors(self._sets):
            return sorted(self._sets.iterdir())

    def path(self, ref: str) -> Path:
        """Return the folder of the set that a reference names; raises NotFound."""
        return self._find(ref)[0].path

    def size(self, name: str) -> int:
        """Return the bytes on disk of a set, with all versions and builds in progress; raises NotFound."""
        return measure_folder(self._find(check_set_name(name))[0].path)

    def _find_set(self, name: str) -> SetFolder:
        """Find a set that is named without a version: by name, or by path."""
        folder, selector = self._find(name)
        if selector is not None:
            raise UsageError(f"the {self.kind.noun} {name!r}", "its name alone, without @", f"leave @{selector} out")
        return folder

    def _folder(self, name: str) -> SetFolder:
        return SetFolder(self._sets / check_set_name(name), name, self.kind)

    def _find(self, ref: str) -> tuple[SetFolder, str | None]:
        reference = parse_reference(ref)
        if reference.path is not None:
            return SetFolder(_check_set_path(reference.path, self.kind), None, self.kind), reference.selector
        assert reference.name is not None
        folder = self._folder(reference.name)
        folder.refuse_symlinks()
        if not folder.path.is_dir():
            known = [path.name for path in self._list_folders() if path.name[0] != "."]
            build = f"build it with: {self.kind.build} --name {reference.name}"
            near = suggest_nearest(reference.name, known, "")
            raise NotFound(
                f"there is no {self.kind.noun} {reference.name!r} in {self._sets}",
                f"one of: {', '.join(known) or 'none yet'}",
                f"{near}; or {build}" if near else build,
            )
        return folder, reference.selector


def _check_set_path(path: Path, kind: SetKind) -> Path:
    if not os.path.isdir(path / "versions"):  # unlike Path.is_dir, False also for names the system cannot hold
        raise NotFound(f"{str(path)[:200]} is no {kind.noun}", "a folder with `versions` in it", "check the path")
    return path.resolve()
