"""Check an anchor set byte by byte, and its meaning against its bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import compress, pairwise
from pathlib import Path

import numpy as np

from asif.anchorset.format.anchor_set import load_pairs, load_rejects
from asif.anchorset.format.atomic_io import RESTORE, TEMPORARY, check_content, read_small
from asif.anchorset.format.blocks import Block, UInt8, sum_rows
from asif.anchorset.format.fit_cache import check_named
from asif.anchorset.format.folder import CONTENT, SetFolder
from asif.anchorset.format.manifest import BlockEntry, FileEntry, Manifest
from asif.anchorset.format.row_hash import hash_rows, set_digest
from asif.errors import IntegrityError, NotFound
from asif.pairs.pair import PairRecord
from asif.vectors import SIDES, Side, vector_problems

_KNOWN = {*CONTENT, "versions", "journal", "fits", "aliases.json", ".lock"}
_CHUNK = 1024  # rows widened to float32 at a time


@dataclass(frozen=True)
class Problem:
    """Name a file or folder in which something is wrong, and what."""

    path: Path
    what: str

    def __str__(self) -> str:
        return self.what if str(self.path) in self.what else f"{self.path}: {self.what}"


@dataclass(frozen=True)
class Report:
    """Hold what `verify` found, and how many files and bytes it read to find it."""

    versions: tuple[str, ...]
    problems: tuple[Problem, ...]
    files: int
    bytes: int

    def raise_if_bad(self) -> None:
        """Raise IntegrityError where there are problems."""
        if self.problems:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise IntegrityError(f"{self.problems[0]}{more}", "the files as they were written", RESTORE)


def verify(path: Path, version: str | None = None) -> Report:
    """Check the anchor set in a folder: all versions, or one.

    Checks the sha256 of every file, manifests and aliases, that embeddings are finite and not zero, and recomputes
    row hashes, sums, the order of ids and the set digest. With all versions also names files that belong to none.
    """
    return verify_folder(SetFolder(path, None), version)


def verify_folder(folder: SetFolder, version: str | None) -> Report:
    """Check a set; see `verify`."""
    if not (folder.path / "versions").is_dir():
        raise NotFound(f"{folder.path} is no anchor set", "a folder with `versions` in it", "check the reference")
    check = _Check(folder)
    with check.noting(folder.path):
        folder.check_links()
        chosen = folder.versions() if version is None else [version]
        manifests = [manifest for one in chosen if (manifest := check.manifest(one)) is not None]
        for manifest in manifests:
            check.version(manifest)
        if version is None:
            check.aliases(chosen)
            check.strays(chosen, manifests)
            check.fits(chosen)
        return check.report(chosen)
    return check.report([])


@dataclass(frozen=True)
class _Embeddings:
    """Hold a block, where it can be read, and what is wrong with it."""

    block: Block | None
    problems: tuple[str, ...]


@dataclass
class _Check:
    """Go through a set, noting problems instead of stopping at the first."""

    folder: SetFolder
    problems: list[Problem] = field(default_factory=list)
    read: dict[Path, int] = field(default_factory=dict)  # size by file: what versions share is read once
    tables: dict[BlockEntry, tuple[list[bytes], UInt8] | None] = field(default_factory=dict)

    @contextmanager
    def noting(self, path: Path) -> Iterator[None]:
        """Turn what is wrong in `path` into a problem."""
        try:
            yield
        except (IntegrityError, OSError) as error:
            self.note(path, error.came if isinstance(error, IntegrityError) else str(error))

    def note(self, path: Path, what: str) -> None:
        """Add a problem, once."""
        problem = Problem(path, what)
        if problem not in self.problems:
            self.problems.append(problem)

    def report(self, versions: list[str]) -> Report:
        return Report(tuple(versions), tuple(self.problems), len(self.read), sum(self.read.values()))

    def manifest(self, version: str) -> Manifest | None:
        path = self.folder.version_file(version)
        with self.noting(path):
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
            return  # what follows needs them all
        path = self.folder.version_file(manifest.version)
        live = [entry.live for entry in manifest.blocks]
        ids = (one for (known, _), there in zip(tables, live, strict=True) for one in compress(known, there.tolist()))
        if any(first >= second for first, second in pairwise(ids)):
            self.note(path, "ids are not in order, or not unique")
        fingerprints = {side: info.fingerprint for side, info in manifest.encoders.items()}
        hashes = (rows[there] for (_, rows), there in zip(tables, live, strict=True))
        digest = set_digest(manifest.dtype, manifest.captions, fingerprints, hashes)
        if digest != manifest.digest:
            self.note(path, f"set digest {manifest.digest}, but its pairs and encoders give {digest}")

    def blocks(self, manifest: Manifest) -> None:
        """Check blocks and their pairs, deleted ones too; keep their ids and row hashes for what shares them.

        Embeddings are read and summed in other threads, while this one reads the pairs.
        """
        new = [entry for entry in manifest.files if entry not in self.tables]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for entry, checked in zip(new, pool.map(partial(self.embeddings, manifest), new), strict=True):
                path = self.folder.content("blocks", entry.sha256)
                for what in checked.problems:
                    self.note(path, what)
                if checked.block is not None:
                    self.read[path] = entry.size
                records = self.pairs(entry)
                self.tables[entry] = None
                if checked.block is not None and records is not None:
                    hashes = hash_rows(records)
                    if not np.array_equal(hashes, checked.block.row_hash):
                        self.note(self.folder.content("pairs", entry.pairs.sha256), "pairs are not those of the block")
                    self.tables[entry] = ([record.id.encode() for record in records], hashes)

    def embeddings(self, manifest: Manifest, entry: BlockEntry) -> _Embeddings:
        """Check a block by itself: its bytes, and that they are vectors with these sums."""
        path = self.folder.content("blocks", entry.sha256)
        try:
            check_content(path, entry.sha256, entry.size)
            block = self.folder.block(manifest, entry)
        except (IntegrityError, OSError) as error:
            return _Embeddings(None, (error.came if isinstance(error, IntegrityError) else str(error),))
        return _Embeddings(block, tuple(what for side in SIDES for what in _wrong(block, side)))

    def pairs(self, entry: BlockEntry) -> list[PairRecord] | None:
        path = self.folder.content("pairs", entry.pairs.sha256)
        with self.noting(path):
            records = load_pairs(self.folder, entry)
            self.read[path] = entry.pairs.size
            return records
        return None

    def rejects(self, manifest: Manifest, entry: FileEntry) -> None:
        path = self.folder.content("rejects", entry.sha256)
        with self.noting(path):
            rows = [reject.row for reject in load_rejects(self.folder, entry)]
            self.read[path] = entry.size
            if rows != sorted(rows) or len(rows) != manifest.rejected:
                self.note(path, f"{len(rows)} rejects, or not in order; the manifest counts {manifest.rejected}")

    def aliases(self, versions: list[str]) -> None:
        path = self.folder.path / "aliases.json"
        with self.noting(path):
            data = read_small(path)
            self.read[path] = len(data)
            for alias, target in self.folder.aliases().items():
                if target not in versions:
                    self.note(path, f"the alias {alias!r} points at {target!r}, which is missing")

    def fits(self, versions: list[str]) -> None:
        """Check what aligners came to, and sums; a fit to a version that is gone has no place here any more."""
        digests = {version.partition("-")[2] for version in versions}
        for path in sorted((self.folder.path / "fits").glob("*")):
            if path.name.startswith(TEMPORARY):
                continue
            if path.name[:12] not in digests:
                self.note(path, "a stray fit: it belongs to no version")
            with self.noting(path):
                check_named(path)
                self.read[path] = path.stat().st_size

    def strays(self, versions: list[str], manifests: list[Manifest]) -> None:
        """Note what lies in the set and belongs to no version; not where a manifest cannot be read."""
        for path in sorted(self.folder.path.iterdir()):
            if path.name not in _KNOWN:
                self.note(path, "a stray file: it belongs to no version")
        expected = {self.folder.version_file(version) for version in versions}
        if len(manifests) == len(versions):
            for manifest in manifests:
                expected |= {self.folder.content("blocks", entry.sha256) for entry in manifest.blocks}
                expected |= {self.folder.content("pairs", entry.pairs.sha256) for entry in manifest.blocks}
                if manifest.rejects is not None:
                    expected.add(self.folder.content("rejects", manifest.rejects.sha256))
        kinds = ("versions", *CONTENT) if len(manifests) == len(versions) else ("versions",)
        for kind in kinds:
            for path in sorted((self.folder.path / kind).glob("*")):
                if path not in expected:
                    self.note(path, "a stray file: it belongs to no version")


def _wrong(block: Block, side: Side) -> Iterator[str]:
    """Say which embeddings of a block are not finite or zero, and whether they have another sum.

    A column with NaN or an infinity has no finite sum, and a zero vector begins with 0: else no row is looked at.
    """
    values = block.side(side)
    total = sum_rows(values)
    rows = np.flatnonzero(values[:, 0] == 0) if np.isfinite(total).all() else np.arange(len(values))
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        for at, what in vector_problems(values[some].astype(np.float32)).items():
            yield f"{side} embedding {some[at]} is {what}"
    if not np.allclose(block.sum(side), total, rtol=1e-9, atol=1e-9):
        yield f"the sum of the {side} embeddings is not theirs"
