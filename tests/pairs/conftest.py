"""Stores elsewhere, a web server where there can be one, and good files of pairs."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.damaged_pairs import DATA
from support.remote_stores import install_store

from asif.pairs.retry import PAUSES


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Empty stores, and no waiting between attempts."""
    memory: Any = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    install_store()
    monkeypatch.setattr("asif.pairs.retry.PAUSES", (0.0,) * len(PAUSES))
    yield
    memory.store.clear()


@pytest.fixture
def web() -> None:
    pytest.importorskip("aiohttp", reason="https:// needs aiohttp, which is not installed")


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "good.parquet"
    image = pa.array(
        [{"bytes": data, "path": None} for data in DATA], pa.struct([("bytes", pa.binary()), ("path", "str")])
    )
    table = pa.table({"image": image, "text": [f"caption {row}" for row in range(30)]})
    pq.write_table(table, path, row_group_size=10, write_page_checksum=True, compression="none")
    return path.read_bytes()


@pytest.fixture(scope="module")
def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for row, data in enumerate(DATA):
            for name, content in ((f"{row}.jpg", data), (f"{row}.txt", b"caption")):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()
