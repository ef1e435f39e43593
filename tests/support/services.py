"""A store of small sets and a gallery with encoders that hash, and the service over it."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient
from support.engine_sets import fake_image, fake_text, make_set
from support.galleries import build, write_files

from asif.service.app import create_app
from asif.service.config import ServeConfig
from asif.service.keys import Grant, hash_key

PATIENCE = 30.0
KEYS = {"read": "asif_read", "edit": "asif_edit", "admin": "asif_admin"}


def draw_photo(seed: int, size: int = 24) -> bytes:
    """Return a PNG that differs for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def make_store(home: Path) -> Path:
    """Make the sets `one`, `two` and `other`, which has another encoder, and the gallery `photos` of eight images."""
    make_set(home, "one", seed=0, count=20).close()
    make_set(home, "two", seed=1, count=24).close()
    make_set(home, "other", seed=2, image=fake_image(model="another")).close()
    folder = home.parent / "photos"
    write_files(folder, {f"{'cats' if row < 4 else 'dogs'}/{row}.png": draw_photo(row) for row in range(8)})
    build(folder, home, fake_image(), name="photos", thumbnails=True)
    return home


@contextmanager
def hash_inputs() -> Iterator[None]:
    """Let engines load encoders that hash what they are given, for a service that a module of tests shares."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: fake_image())
        patch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: fake_text())
        yield


def make_config(home: Path, **given: Any) -> ServeConfig:
    return ServeConfig(home, **{"anchors": ("one", "two"), "galleries": ("photos",), **given})


def make_grants(**fields: Any) -> tuple[Grant, ...]:
    """Return a grant of one tenant for the key of each role."""
    return tuple(Grant(hash_key(key), "us", role, **fields) for role, key in KEYS.items())  # type: ignore[arg-type]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@contextmanager
def serve(config: ServeConfig) -> Iterator[TestClient]:
    """Run a service in this process, and yield a client once it is ready."""
    with TestClient(create_app(config), base_url="http://localhost", raise_server_exceptions=False) as client:
        wait_until_ready(client)
        yield client


@contextmanager
def listen(config: ServeConfig) -> Iterator[str]:
    """Run a service in a thread, at a free port of this machine, and yield its URL once it is ready."""
    server = uvicorn.Server(uvicorn.Config(create_app(config), port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    with httpx.Client(base_url=url) as client:
        wait_until_ready(client)
    yield url
    server.should_exit = True
    thread.join(PATIENCE)


def wait_until_ready(client: Any) -> None:
    stop = time.monotonic() + PATIENCE
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < stop, client.get("/readyz").text
        time.sleep(0.01)
