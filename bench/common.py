"""Shared by the benchmarks: the real data, pairs in memory, and the line that describes the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from asif.evaluate.class_names import read_classnames
from asif.vectors import Side

ROOT = Path(__file__).resolve().parent.parent


def realdata() -> Path:
    """Return the folder with the real pairs; exit if there is none."""
    folder = Path(os.environ.get("ASIF_REALDATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        sys.exit(f"no real data in {folder}: set ASIF_REALDATA")
    return folder


@dataclass(frozen=True, eq=False)
class Pairs:
    """Hold anchor pairs in memory, in blocks, with the protocol of `Anchors`; with captions, aligners read words."""

    image: list[NDArray[np.float16]]
    text: list[NDArray[np.float16]]
    captions: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(map(len, self.image))

    def blocks(self, side: Side) -> list[NDArray[np.float16]]:
        return self.image if side == "image" else self.text

    def mean(self, side: Side) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = np.concatenate(self.blocks(side)).mean(axis=0, dtype=np.float64)
        return mean

    def read_captions(self) -> list[tuple[str, ...]]:
        return self.captions


def captions_of(part: str) -> list[tuple[str, ...]]:
    """Read the captions of each image of Flickr8k, in the order of the features."""
    table = pq.read_table(realdata() / "flickr8k" / f"{part}.parquet", columns=["captions"])
    return [tuple(some) for some in table["captions"].to_pylist()]


def labelled(name: str) -> tuple[list[bytes], list[str]]:
    """Read a labelled parquet: images and labels."""
    table = pq.read_table(realdata() / name / "eval.parquet", columns=["image", "label"]).to_pylist()
    return [row["image"]["bytes"] for row in table], [row["label"] for row in table]


def classnames(name: str) -> dict[str, tuple[str, ...]]:
    """Return the corrected names in prompts of labels that are not plain words; empty if there are none."""
    file = ROOT / "bench" / "classnames" / f"{name}.tsv"
    return read_classnames(file) if file.exists() else {}


def machine() -> str:
    """Describe the machine, the versions and the commit."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in info if "model name" in line), "?")
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "sentence-transformers", "numpy"))
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, {libraries}, commit {commit.strip()}"


def show(header: list[str], rows: list[list[str]]) -> None:
    """Print a markdown table."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
