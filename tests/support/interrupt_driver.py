"""Run an `asif` command with fake encoders that take their time; run by test_interrupts.py.

`interrupt_driver.py ARGUMENTS...`. DRIVER is a JSON object: `slow`, the phase that takes long, and `mark`, the file
that appears when it begins.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from support.build_driver import slowly
from support.build_fakes import FakeImages, FakeTexts

import asif.anchorset.write.version
import asif.engine.build
import asif.engine.encoder_pool
import asif.engine.tune
from asif.cli import main


class Files(FakeImages):
    """Read images from files, too."""

    def prepare(self, source: Any) -> bytes:
        return super().prepare(source if isinstance(source, bytes) else Path(source).read_bytes())


def prepare(slow: str | None, mark: str) -> None:
    """Put fakes in the place of encoders, and a pause where it is asked for."""
    image, text, place = Files(), FakeTexts(), Path(mark)
    for room in (asif.engine.build, asif.engine.encoder_pool):
        room.load_image_encoder = lambda *_: image
        room.load_text_encoder = lambda *_: text
    if slow == "decoding":
        image.prepare = slowly(image.prepare, 0.2, place)  # type: ignore[method-assign]
    if slow == "encoding":
        image.forward = slowly(image.forward, 0.3, place)  # type: ignore[method-assign]
    if slow == "labels":
        text.forward = slowly(text.forward, 60, place)  # type: ignore[method-assign]
    if slow == "publishing":
        put = asif.anchorset.write.version.write_content_file
        asif.anchorset.write.version.write_content_file = slowly(put, 60, place)
    if slow == "trying":
        asif.engine.tune.tune = slowly(asif.engine.tune.tune, 0, place)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    prepare(**json.loads(os.environ["DRIVER"]))
    sys.argv[0] = "asif"
    main()
