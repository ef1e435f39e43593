"""Teach a new domain from 1,000 captioned images in seconds: handwritten digits.

Writes a pairs.parquet as anyone might have one, builds an anchor set from it, and classifies 797 other scans, with the
general anchors and with the new ones.
"""

import io
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_digits

import asif

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
CAPTION = "a scan of the handwritten digit {}"


def png(pixels: np.ndarray) -> bytes:
    """Encode one 8x8 scan (0..16) as dark ink on white paper."""
    buffer = io.BytesIO()
    Image.fromarray((255 - pixels * 15.9).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def main(home: Path | None = None, pairs: int = 1000, others: int = 797) -> tuple[float, float, float]:
    """Print and return accuracy with the general anchors, with the new ones, and the seconds the new ones took."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = [png(digits.images[row]) for row in order]
    names = [NAMES[digits.target[row]] for row in order]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.parquet"
        rows = [
            {"image": {"bytes": image, "path": None}, "caption": CAPTION.format(name)}
            for image, name in zip(images[:pairs], names[:pairs], strict=True)
        ]
        pq.write_table(pa.Table.from_pylist(rows), path)
        started = time.perf_counter()
        options = asif.BuildOptions(dedup="keep")  # some scans are equal to the pixel
        built = asif.build_anchors(path, "digits", home=home, options=options)
        seconds = time.perf_counter() - started
    print(f"{built.anchors.count} anchors from {pairs} captioned scans in {seconds:.1f} s")

    test, truth = images[pairs : pairs + others], names[pairs : pairs + others]
    accuracy = {}
    for anchors in ("imagenet-head", "digits"):
        classifier = asif.Classifier(anchors, templates=[CAPTION], home=home).fit(NAMES)
        accuracy[anchors] = classifier.score(test, truth)
        print(f"accuracy on {len(test)} other scans with {anchors} anchors: {accuracy[anchors]:.1%}")
    return accuracy["imagenet-head"], accuracy["digits"], seconds


if __name__ == "__main__":
    main()
