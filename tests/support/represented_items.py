"""Galleries that are edited at random, and their items represented in one piece: what any way of keeping them gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from support.engine_sets import fake_image, make_set
from support.galleries import build, galleries, update, write_files

from asif.aligners import Hubness, make_aligner
from asif.anchorset import Gallery, Store
from asif.engine import Engine
from asif.engine.search.block_rows import represent_vectors
from asif.engine.snapshots import FittedTask
from asif.vectors import Float32, FusedRows, Rows, SparseRows, join_rows

ALIGNERS = [("asif(k=5)", "none"), ("asif(k=5)", "csls"), ("cca", "none"), ("procrustes", "nnn"), ("cca+asif", "csls")]


def as_arrays(rows: Sequence[Rows]) -> list[Float32]:
    """Return all rows as dense arrays [n, d], one for each part of fused ones."""
    joined = join_rows(rows)
    parts = joined.parts if isinstance(joined, FusedRows) else (joined,)
    return [part.to_dense() if isinstance(part, SparseRows) else part.values for part in parts]


def represent_in_one_piece(gallery: Gallery, task: FittedTask) -> list[Float32]:
    vectors = np.concatenate(gallery.vectors)
    return as_arrays([represent_vectors(vectors, gallery.side, task)])


def take_task(home: Path, aligner: str, hubness: str) -> FittedTask:
    """Return the task for a search over the current anchors `toy`."""
    return Engine("toy", home=home, aligner=make_aligner(aligner), hubness=Hubness(hubness)).role("search")  # type: ignore[arg-type]


@dataclass
class EditedGallery:
    """Edit the gallery `g`, made of a folder of files, and the anchors `toy`."""

    home: Path
    folder: Path
    random: np.random.Generator
    contents: dict[str, bytes] = field(default_factory=dict)
    made: int = 0

    @classmethod
    def build(cls, home: Path, folder: Path, seed: int, count: int = 40) -> EditedGallery:
        made = cls(home, folder, np.random.default_rng(seed))
        make_set(home, count=60).close()
        made.add(count)
        build(folder, home, fake_image(), dtype="float32")
        return made

    def edit(self, change: str) -> None:
        """Publish the next version of the gallery, or of the anchors."""
        if change == "anchors":
            self.edit_anchors()
            return
        if change == "gc":
            galleries(self.home).gc("g", 1)
            return
        purge = change == "purge"
        if change in ("remove", "purge"):
            self.remove(4)
        else:
            self.add(4)
        if change == "change":
            self.remove(2)
            for name in self._choose(3):
                self._write(name)
        update(self.folder, self.home, fake_image(), purge=purge, dtype="float32")

    def edit_anchors(self) -> None:
        """Remove some pairs, add some others, or both."""
        store, which = Store(self.home), self.random.integers(3)
        if which != 0:
            ids = [pair.id for pair in store.open("toy")]
            store.remove("toy", self.random.choice(ids, 3, replace=False).tolist())
        if which != 1:
            self.made += 1
            store.put("toy", make_set(self.home, f"more-{self.made}", count=2, seed=self.made), "add")

    def add(self, count: int) -> None:
        for _ in range(count):
            self._write(f"{self.random.integers(10**6):06}.jpg")

    def remove(self, count: int) -> None:
        for name in self._choose(count):
            (self.folder / name).unlink()
            del self.contents[name]

    def _choose(self, count: int) -> list[str]:
        return [str(name) for name in self.random.choice(sorted(self.contents), count, replace=False)]

    def _write(self, name: str) -> None:
        self.made += 1
        self.contents[name] = b"image %d" % self.made
        write_files(self.folder, {name: self.contents[name]}, age=self.made)
