"""Verify an anchor set: every byte of its files, and that hashes, sums, counts and order are consistent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import compress, pairwise
from pathlib import Path

import numpy as np

from asif.anchorset.format.atomic_io import RESTORE_ADVICE, TEMPORARY_PREFIX, check_file_content, read_small_file
from asif.anchorset.format.blocks import AnchorBlock, UInt8, sum_rows
from asif.anchorset.format.content import load_pair_table, load_rejects, load_thumbnails
from asif.anchorset.format.fit_cache import check_fit_file, find_unneeded_fits
from asif.anchorset.format.folder import CONTENT_SUFFIXES, SetFolder
from asif.anchorset.format.manifest import BlockEntry, FileEntry, Manifest
from asif.anchorset.format.row_hash import compute_set_digest, hash_records
from asif.errors import AsifError, IntegrityError, NotFound
from asif.pairs.pair import PairRecord
from asif.vectors import Side, find_vector_problems

_KNOWN_NAMES = {*CONTENT_SUFFIXES, "versions", "journal", "fits", "aliases.json", ".lock"}
_CHUNK_ROWS = 1024  # rows widened to float32 at a time


@dataclass(frozen=True)
class Problem:
    """Name a file or folder, and what is wrong in it."""

    path: Path
    what: str

    def __str__(self) -> str:
        return self.what if str(self.path) in self.what else f"{self.path}: {self.what}"


@dataclass(frozen=True)
class VerificationReport:
    """Hold the problems that `verify` found, and how many files and bytes it read."""

    versions: tuple[str, ...]
    problems: tuple[Problem, ...]
    files: int
    bytes: int

    def raise_if_bad(self) -> None:
        """Raise IntegrityError if there are problems."""
        if self.problems:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise IntegrityError(f"{self.problems[0]}{more}", "the files as they were written", RESTORE_ADVICE)


def verify(path: Path, version: str | None = None) -> VerificationReport:
    """Check the anchor set in a folder: all versions, or one.

    Checks the sha256 of every file, manifests and aliases, that embeddings are finite and not zero, and recomputes
    row hashes, sums, the order of ids and the set digest. For all versions, also reports files that no version needs.
    """
    return verify_set_folder(SetFolder(path, None), version)


def verify_set_folder(folder: SetFolder, version: str | None) -> VerificationReport:
    """Check a set, again if it was edited meanwhile; see `verify`."""
    while True:
        if not (folder.path / "versions").is_dir():
            raise NotFound(
                f"{folder.path} is no {folder.kind.noun}", "a folder with `versions` in it", "check the reference"
            )
        before = folder.versions()
        report = _verify_once(folder, version)
        after = folder.versions()
        if not report.problems or after == before:
            return report
        if version in before and version not in after:
            raise folder.make_deleted_error(version)


def _verify_once(folder: SetFolder, version: str | None) -> VerificationReport:
    check = _Verification(folder)
    with check.collect_problems(folder.path):
        folder.refuse_symlinks()
        chosen = folder.versions() if version is None else [version]
        manifests = [manifest for one in chosen if (manifest := check.manifest(one)) is not None]
        for manifest in manifests:
            check.version(manifest)
        if version is None:
            check.aliases(chosen)
            check.strays(chosen, manifests)
            check.fits(chosen, manifests)
        return check.report(chosen)
    return check.report([])


@dataclass(frozen=True)
class _CheckedBlock:
    """Hold a block, or None if it cannot be read, and the problems found in it."""

    block: AnchorBlock | None
    problems: tuple[str, ...]


@dataclass
class _Verification:
    """Check a set and collect its problems instead of stopping at the first."""

    folder: SetFolder
    problems: list[Problem] = field(default_factory=list)
    read: dict[Path, int] = field(default_factory=dict)  # size by file: a file that versions share is read once
    tables: dict[BlockEntry, tuple[list[bytes], UInt8] | None] = field(default_factory=dict)

    @contextmanager
    def collect_problems(self, path: Path) -> Iterator[None]:
        """Turn an error about `path` into a problem."""
        try:
            yield
        except (AsifError, OSError) as error:
            if not _is_about_file(error):
                raise
            self.add_problem(path, error.came if isinstance(error, AsifError) else str(error))

    def add_problem(self, path: Path, what: str) -> None:
        """Add a problem, once."""
        problem = Problem(path, what)
        if problem not in self.problems:
            self.problems.append(problem)

    def report(self, versions: list[str]) -> VerificationReport:
        return VerificationReport(tuple(versions), tuple(self.problems), len(self.read), sum(self.read.values()))

    def manifest(self, version: str) -> Manifest | None:
        path = self.folder.version_file(version)
        with self.collect_problems(path):
            manifest = self.folder.manifest(version)
            self.read[path] = path.stat().st_size
            return manifest
        return None

    def version(self, manifest: Manifest) -> None:
        """Check one version: its blocks, their order, its digest, its rejects."""
        self.blocks(manifest)
        found = [self.tables[entry.whole] for entry in manifest.blocks]
        if manifest.rejects is not None:
            self.rejects(manifest, manifest.rejects)
        tables = [table for table in found if table is not None]
        if len(tables) < len(found):
            return  # the checks below need all of them
        path = self.folder.version_file(manifest.version)
        live = [entry.live for entry in manifest.blocks]
        ids = (one for (known, _), there in zip(tables, live, strict=True) for one in compress(known, there.tolist()))
        if any(first >= second for first, second in pairwise(ids)):
            self.add_problem(path, "ids are not in order, or not unique")
        fingerprints = {side: info.fingerprint for side, info in manifest.encoders.items()}
        hashes = (rows[there] for (_, rows), there in zip(tables, live, strict=True))
        digest = compute_set_digest(manifest.dtype, manifest.captions, fingerprints, hashes)
        if digest != manifest.digest:
            self.add_problem(path, f"set digest {manifest.digest}, but its pairs and encoders give {digest}")

    def blocks(self, manifest: Manifest) -> None:
        """Check blocks and their pairs, deleted rows included; keep ids and row hashes for versions that share them.

        Embeddings are read and summed in other threads, while this one reads the pairs.
        """
        new = [entry for entry in manifest.files if entry not in self.tables]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for entry, checked in zip(new, pool.map(partial(self.embeddings, manifest), new), strict=True):
                path = self.folder.content_path("blocks", entry.sha256)
                for what in checked.problems:
                    self.add_problem(path, what)
                if checked.block is not None:
                    self.read[path] = entry.size
                records = self.pairs(entry)
                if entry.thumbnails is not None:
                    self.thumbnails(entry, entry.thumbnails)
                self.tables[entry] = None
                if checked.block is not None and records is not None:
                    hashes = hash_records(records)
                    if not np.array_equal(hashes, checked.block.row_hash):
                        self.add_problem(
                            self.folder.content_path("pairs", entry.pairs.sha256), "pairs are not those of the block"
                        )
                    self.tables[entry] = ([record.id.encode() for record in records], hashes)

    def embeddings(self, manifest: Manifest, entry: BlockEntry) -> _CheckedBlock:
        """Check a block by itself: its bytes, and that they are vectors with these sums."""
        path = self.folder.content_path("blocks", entry.sha256)
        try:
            check_file_content(path, entry.sha256, entry.size)
            block = self.folder.block(manifest, entry)
        except (AsifError, OSError) as error:
            if not _is_about_file(error):
                raise
            return _CheckedBlock(None, (error.came if isinstance(error, AsifError) else str(error),))
        return _CheckedBlock(
            block, tuple(what for side in block.values for what in _find_embedding_problems(block, side))
        )

    def pairs(self, entry: BlockEntry) -> list[PairRecord] | None:
        path = self.folder.content_path("pairs", entry.pairs.sha256)
        with self.collect_problems(path):
            records = load_pair_table(self.folder, entry)
            self.read[path] = entry.pairs.size
            return records
        return None

    def thumbnails(self, entry: BlockEntry, file: FileEntry) -> None:
        path = self.folder.content_path("thumbnails", file.sha256)
        with self.collect_problems(path):
            load_thumbnails(self.folder, entry)
            self.read[path] = file.size

    def rejects(self, manifest: Manifest, entry: FileEntry) -> None:
        path = self.folder.content_path("rejects", entry.sha256)
        with self.collect_problems(path):
            rows = [reject.row for reject in load_rejects(self.folder, entry)]
            self.read[path] = entry.size
            if rows != sorted(rows) or len(rows) != manifest.rejected:
                self.add_problem(path, f"{len(rows)} rejects, or not in order; the manifest counts {manifest.rejected}")

    def aliases(self, versions: list[str]) -> None:
        path = self.folder.path / "aliases.json"
        with self.collect_problems(path):
            data = read_small_file(path)
            self.read[path] = len(data)
            for alias, target in self.folder.aliases().items():
                if target not in versions:
                    self.add_problem(path, f"the alias {alias!r} points at {target!r}, which is missing")

    def fits(self, versions: list[str], manifests: list[Manifest]) -> None:
        """Check the fit cache; a fit to a version, or of a block, that no longer exists is a problem.

        If a manifest cannot be read, it is not known which blocks exist.
        """
        if len(manifests) == len(versions):
            blocks = {entry.sha256 for manifest in manifests for entry in manifest.blocks}
            unneeded = find_unneeded_fits(self.folder.fits, [manifest.digest for manifest in manifests], blocks)
            strays = [path for path in unneeded if not path.name.startswith(TEMPORARY_PREFIX)]
            self.add_strays(strays, "a stray fit: it belongs to no version")
        for path in sorted(self.folder.fits.glob("*")):
            if path.name.startswith(TEMPORARY_PREFIX):
                continue
            with self.collect_problems(path):
                check_fit_file(path)
                self.read[path] = path.stat().st_size

    def strays(self, versions: list[str], manifests: list[Manifest]) -> None:
        """Report files that belong to no version; skips their content if a manifest cannot be read."""
        strays = [path for path in sorted(self.folder.path.iterdir()) if path.name not in _KNOWN_NAMES]
        expected = {self.folder.version_file(version) for version in versions}
        if len(manifests) == len(versions):
            for manifest in manifests:
                expected |= {self.folder.content_path(kind, file.sha256) for kind, file in manifest.content_files}
        kinds = ("versions", *CONTENT_SUFFIXES) if len(manifests) == len(versions) else ("versions",)
        for kind in kinds:
            strays += [path for path in sorted((self.folder.path / kind).glob("*")) if path not in expected]
        self.add_strays(strays, "a stray file: it belongs to no version")

    def add_strays(self, paths: Sequence[Path], what: str) -> None:
        """Add files that no version needs as problems, unless an edit, which is writing or deleting them, goes on."""
        if paths and not self.folder.is_locked():
            for path in paths:
                if os.path.lexists(path):
                    self.add_problem(path, what)


def _is_about_file(error: AsifError | OSError) -> bool:
    """Tell whether an error is one of a file that is damaged or may not be read, not of this process or its limits."""
    return isinstance(error, (IntegrityError, OSError)) or isinstance(error.__cause__, PermissionError)


def _find_embedding_problems(block: AnchorBlock, side: Side) -> Iterator[str]:
    """Yield which embeddings of a block are not finite or zero, and whether their sum is wrong.

    A column with NaN or an infinity has no finite sum, and a zero vector begins with 0: other rows are not examined.
    """
    values = block.side(side)
    total = sum_rows(values)
    rows = np.flatnonzero(values[:, 0] == 0) if np.isfinite(total).all() else np.arange(len(values))
    for start in range(0, len(rows), _CHUNK_ROWS):
        some = rows[start : start + _CHUNK_ROWS]
        for at, what in find_vector_problems(values[some].astype(np.float32)).items():
            yield f"{side} embedding {some[at]} is {what}"
    if not np.allclose(block.sum(side), total, rtol=1e-9, atol=1e-9):
        yield f"the sum of the {side} embeddings is not theirs"
