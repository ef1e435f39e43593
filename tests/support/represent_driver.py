"""Represent the gallery `g` of a home over the anchors `toy`, slowly: `HOME`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from support.represented_items import take_task

from asif.anchorset import Gallery
from asif.engine.search import block_rows


def main(home: str) -> None:
    original = block_rows.represent_vectors

    def represent(*given: Any) -> Any:
        time.sleep(0.3)
        return original(*given)

    block_rows.represent_vectors = represent
    block_rows.represent_items(Gallery("g", home=Path(home)), take_task(Path(home), "cca", "none"))


if __name__ == "__main__":
    main(*sys.argv[1:])
