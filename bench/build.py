"""asif build-anchors on Flickr8k train (6,000 images, 30,000 captions), in a separate process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from common import machine, realdata, show


def bare_forward(image_rows: int = 1024, caption_rows: int = 4096) -> tuple[float, float]:
    """Measure the encoders alone, on prepared inputs: images and captions per second."""
    from asif.encoders import DEFAULT_ENCODERS, load_image_encoder, load_text_encoder

    table = pq.read_table(realdata() / "flickr8k" / "train.parquet").slice(0, image_rows).to_pylist()
    image, text = load_image_encoder(DEFAULT_ENCODERS["image"]), load_text_encoder(DEFAULT_ENCODERS["text"])
    prepared = [image.prepare(row["image"]["bytes"]) for row in table]
    captions = [caption for row in table for caption in row["captions"]][:caption_rows]
    image.forward(prepared[:32])
    text.forward(captions[:64])
    rates = []
    for encoder, inputs in ((image, prepared), (text, captions)):
        started = time.perf_counter()
        vectors = encoder.forward(inputs)
        rates.append(len(inputs) / (time.perf_counter() - started))
        assert np.isfinite(vectors).all()
    return rates[0], rates[1]


def main() -> None:
    """Build, and print seconds, rates, peak memory, size on disk and the encoders' share."""
    print(machine() + "\n")
    source = realdata() / "flickr8k" / "train.parquet"
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "asif", "build-anchors", str(source), "--name", "flickr8k", "--json"]
        started = time.perf_counter()
        with subprocess.Popen(command, env={**os.environ, "ASIF_HOME": home}, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            built = json.loads(process.stdout.read())
            _, _, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        size = sum(path.stat().st_size for path in Path(home, "anchors").rglob("*") if path.is_file())
    images, captions = bare_forward()
    alone = 6000 / images + 30000 / captions
    rows = [
        ["whole process", f"{wall:.1f} s"],
        ["build (encoders loaded)", f"{built['seconds']:.1f} s"],
        ["images per second of the build", f"{6000 / built['seconds']:.0f}"],
        ["share of the build in the encoders' forward passes", f"{built['encoder_share']:.1%}"],
        *[[f"share of the build, {stage.replace('_', ' ')}", f"{part:.1%}"] for stage, part in built["stages"].items()],
        ["decoding threads", str(built["decoders"])],
        ["bounded by", built["slowest_stage"].replace("_", " ")],
        [
            "bare forward passes alone, inputs prepared",
            f"{alone:.1f} s ({images:.0f} images/s, {captions:.0f} captions/s)",
        ],
        ["build / bare forward passes", f"{built['seconds'] / alone:.2f}"],
        ["peak memory", f"{usage.ru_maxrss / 1024:.0f} MiB"],
        ["size on disk", f"{size / 1e6:.1f} MB"],
        ["anchors", f"{built['anchors']} of {built['rows_in']}"],
    ]
    show(["what", "figure"], rows)


if __name__ == "__main__":
    main()
