"""Encoders and pairs for tests of builds: vectors are a function of the content, to the bit on any machine."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from asif.anchorset import AnchorSet, Store
from asif.building import BuildOptions, BuildResult, build_anchor_set
from asif.encoders.images import decode_image
from asif.errors import BadImage
from asif.pairs import Pair, Reject
from asif.vectors import Fingerprint, Float32, Side, Tokens

DIMS = {"image": 6, "text": 4}


def draw_vector(content: bytes, side: str) -> Float32:
    """Draw a vector of no particular length from the content."""
    drawn = hashlib.shake_256(side.encode() + content).digest(2 * DIMS[side])
    return np.frombuffer(drawn, "<i2").astype(np.float32) / 1000 + np.float32(0.001)


def unit(raw: Any) -> Any:
    """Scale a vector to unit length in float64."""
    wide = np.asarray(raw, np.float64)
    return wide / np.linalg.norm(wide)


@dataclass
class FakeImages:
    """Encode any bytes as an image; those that begin with "bad" are refused.

    `odd` gives the vectors of some contents, `seconds` a pause by step, `seen` gets every content that is encoded.
    """

    odd: Mapping[bytes, Sequence[float]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    pictures: bool = False
    batch: int = 4
    model: str = "fake"
    seen: list[bytes] = field(default_factory=list)
    dim: int = DIMS["image"]

    @property
    def spec(self) -> str:
        return f"timm:{self.model}"

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint({"library": "fake", "model": self.model})

    def prepare(self, source: Any) -> bytes:
        time.sleep(self.seconds.get("decoding", 0.0))
        if self.pictures:
            decode_image(source)
        if source.startswith(b"bad"):
            raise BadImage(f"{source.decode()} bytes", "good bytes", "leave them out")
        return bytes(source)

    def forward(self, prepared: Sequence[bytes]) -> Float32:
        time.sleep(self.seconds.get("encoding", 0.0))
        self.seen += prepared
        rows = [self.odd.get(content, draw_vector(content, "image")) for content in prepared]
        return np.array(rows, np.float32).reshape(-1, self.dim)


@dataclass
class FakeTexts:
    """Encode texts; `odd` gives the vectors of some."""

    odd: Mapping[str, Sequence[float]] = field(default_factory=dict)
    model: str = "fake"
    seen: list[str] = field(default_factory=list)
    dim: int = DIMS["text"]

    @property
    def spec(self) -> str:
        return f"sentence-transformers:{self.model}"

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint({"library": "fake", "model": f"{self.model} text"})

    def forward(self, texts: Sequence[str]) -> Float32:
        self.seen += texts
        rows = [self.odd.get(text, draw_vector(text.encode(), "text")) for text in texts]
        return np.array(rows, np.float32).reshape(-1, self.dim)


def draw_rows(content: bytes, count: int, dim: int) -> Float32:
    seed = int.from_bytes(content, "little") % 2**32
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


@dataclass
class TokenImages(FakeImages):
    """Give every image four tokens; `huge` are contents whose tokens float16 cannot hold."""

    huge: Sequence[bytes] = ()

    def tokens(self, prepared: Sequence[bytes]) -> Tokens:
        rows = [draw_rows(content, 4, 5) * (1e6 if content in self.huge else 1) for content in prepared]
        return Tokens.padded(rows, self.forward(prepared))


@dataclass
class TokenTexts(FakeTexts):
    """Give every text a token for each of its words."""

    calls: list[int] = field(default_factory=list)

    def tokens(self, texts: Sequence[str]) -> Tokens:
        self.calls.append(len(texts))
        return Tokens.padded([draw_rows(text.encode(), len(text.split()), 3) for text in texts], self.forward(texts))


@dataclass
class ListSource:
    """Give pairs from a list; `before` is called with each row before it is given."""

    items: Sequence[Pair | Reject]
    identity: str = "a list"
    path: Path = Path("a list")
    before: Callable[[int], None] = lambda row: None
    rows: int = -1

    def __post_init__(self) -> None:
        self.rows = len(self.items) if self.rows < 0 else self.rows

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        for row in range(start, len(self.items)):
            self.before(row)
            yield self.items[row]


def list_source(*rows: tuple[str | None, bytes, tuple[str, ...]]) -> ListSource:
    """Make a source of (id, image, captions)."""
    return ListSource([Pair(row, *cells) for row, cells in enumerate(rows)])


def some_rows(count: int) -> list[tuple[str | None, bytes, tuple[str, ...]]]:
    return [(f"id-{row:03}", b"image %d" % row, (f"caption {row}", "ein Bär")[: 1 + row % 2]) for row in range(count)]


def write_parquet(path: Path, images: Sequence[bytes | None], captions: Sequence[Any], **columns: Any) -> Path:
    """Write pairs as Hugging Face does."""
    cells = [None if image is None else {"bytes": image, "path": None} for image in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(cells, kind), "captions": captions, **columns}), path, row_group_size=50)
    return path


OPERATION = {"kind": "build", "source": "test"}
SIDES: tuple[Side, Side] = ("image", "text")


def build_set(
    source: Any, home: Path, image: Any = None, text: Any = None, name: str = "toy", **options: Any
) -> BuildResult:
    chosen = BuildOptions(**options)
    return build_anchor_set(source, Store(home), name, image or FakeImages(), text or FakeTexts(), chosen, OPERATION)


def stored_rows(anchors: AnchorSet, side: Side) -> Any:
    return np.concatenate(anchors.blocks(side))


def anchor_ids(anchors: AnchorSet) -> list[str]:
    return [record.id for record in anchors.records(range(anchors.count))]


def identity(anchors: AnchorSet) -> str:
    """Name a set by its pairs and by the bytes of its embeddings, which the digest does not cover."""
    return " ".join([anchors.digest, *(entry.sha256 for entry in anchors.manifest.blocks)])


def rejects(home: Path, anchors: AnchorSet) -> dict[int, str]:
    """Read the rejects file: {row: reason}."""
    return dict(reject_lines(home, anchors))


def reject_lines(home: Path, anchors: AnchorSet) -> list[tuple[int, str]]:
    """Read the rejects file: a row whose captions are anchors each may come several times."""
    entry = anchors.manifest.rejects
    if entry is None:
        return []
    lines = (home / "anchors" / anchors.name / "rejects" / f"{entry.sha256}.jsonl").read_text().splitlines()
    return [(line["row"], line["reason"]) for line in map(json.loads, lines)]
