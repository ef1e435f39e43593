"""`asif classify` on the set `toy`, and a photograph for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import skimage
from support.running import Cli, Ran

CHELSEA = str(Path(skimage.__path__[0]) / "data" / "chelsea.png")
GOOD = ["--labels", "cat,dog", "--anchors", "toy"]


def classify(cli: Cli, *arguments: object, **given: Any) -> Ran:
    return cli("classify", "--anchors", "toy", "--labels", "cat,dog,owl", *arguments, **given)
