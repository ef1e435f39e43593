"""Build or update a gallery with a fake encoder that takes its time: `build|update FOLDER HOME MARK SECONDS`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from support.build_fakes import FakeImages
from support.galleries import build, update

import asif.building.gallery.encode
from asif.vectors import Float32


class Marking(FakeImages):
    """Touch a file when the model runs for the third time."""

    mark = Path()
    runs = 0

    def forward(self, prepared: Sequence[bytes]) -> Float32:
        self.runs += 1
        if self.runs == 3:
            self.mark.touch()
        return super().forward(prepared)


def main(command: str, folder: str, home: str, mark: str, seconds: str) -> None:
    asif.building.gallery.encode.SEGMENT_ROWS = 4
    encoder = Marking(seconds={"encoding": float(seconds)})
    encoder.mark = Path(mark)
    {"build": build, "update": update}[command](folder, Path(home), encoder)


if __name__ == "__main__":
    main(*sys.argv[1:])
