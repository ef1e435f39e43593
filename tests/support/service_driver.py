"""Run by tests in a process of its own: a service with encoders that hash, which take some milliseconds for a batch."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.engine_sets import Fake, fake_image, fake_text

import asif.engine.encoder_pool as pool
from asif.service.config import Limits, ServeConfig
from asif.service.server import run_service
from asif.vectors import Float32

SETTINGS = json.loads(os.environ["ASIF_TEST_SERVICE"])


class _Slow(Fake):
    def forward(self, inputs: Sequence[Any]) -> Float32:
        time.sleep(SETTINGS["seconds"])
        return super().forward(inputs)


def _slow(fake: Fake) -> Fake:
    return _Slow(fake.dim, fake.spec, fake.fields, fake.batch)


pool.load_image_encoder = lambda *_: _slow(fake_image())  # in workers, too, which import this file
pool.load_text_encoder = lambda *_: fake_text()


def main() -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    config = ServeConfig(
        Path(SETTINGS["home"]),
        ("one", "two"),
        ("photos",),
        port=SETTINGS["port"],
        workers=SETTINGS["workers"],
        limits=Limits(**SETTINGS["limits"]),
    )
    run_service(config)


if __name__ == "__main__":
    main()
