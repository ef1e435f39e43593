"""From a folder of photographs to results: whole processes, with nothing built before."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from common import show
from encode import run_asif
from search_data import read_dev_images

KNOWN, NEW = "a dog in the snow", "a surfer on a wave"


def measure_walk(folder: Path, rounds: int) -> None:
    """Print the seconds of a gallery of the development images, and of searches with the default anchors."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        home, photos = Path(place) / "home", Path(place) / "photos"
        photos.mkdir()
        for name, image in read_dev_images():
            (photos / f"{name}.jpg").write_bytes(image)
        one = next(photos.iterdir())
        rows = []

        def time(what: str, *commands: list[str]) -> None:
            ran = [run_asif(home, *command) for command in commands]
            seconds = [process.seconds for process in ran]
            spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
            peak = f"{max(process.peak_mib for process in ran):.0f} MiB"
            rows.append([what, f"{statistics.median(seconds):.2f} s", spread, peak])

        count = len(list(photos.iterdir()))
        time(
            f"build a gallery of {count:,} photographs",
            ["gallery", "build", str(photos), "--name", "a", "--thumbnails"],
        )
        search = ["search", "a", "--text"]
        time("the first search, which builds imagenet-head", [*search, KNOWN])
        time("a text seen before", *([*search, KNOWN] for _ in range(rounds)))
        time("another text", *([*search, f"{NEW} {turn}"] for turn in range(rounds)))
        time("an image", *(["search", "a", "--image", str(one)] for _ in range(rounds)))
    print(f"\nWhole processes, {rounds} runs of the last three.\n")
    show(["what", "median", "range", "peak memory"], rows)
