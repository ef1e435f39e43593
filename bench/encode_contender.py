"""One contender of bench/encode.py, in a process of its own: it runs its model once for each line it reads.

Arguments: side, contender, number of inputs, threads, and the file for its unit vectors. It prints JSON lines: when it
is ready, after each run the seconds, and at the end of its input the peak of its memory.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from common import realdata

from asif.encoders import DEFAULT_ENCODERS, load_image_encoder, load_text_encoder
from asif.encoders.embedded import EMBEDDED_WEIGHTS
from asif.vectors import Embeddings

PLAIN = {"image": "plain timm, 64, NCHW", "text": "plain sentence-transformers, 32"}
PLAIN_BATCHES = {"image": 64, "text": 32}
Run = Callable[[], Any]


def read_inputs(side: str, count: int) -> list[Any]:
    """Read the first images or captions of Flickr8k train."""
    file = pq.ParquetFile(realdata() / "flickr8k" / "train.parquet")
    column = "image" if side == "image" else "captions"
    found: list[Any] = []
    for batch in file.iter_batches(256, columns=[column]):
        rows = batch[column].to_pylist()
        found += [row["bytes"] for row in rows] if side == "image" else [text for row in rows for text in row]
        if len(found) >= count:
            break
    return found[:count]


def make_run(side: str, contender: str, count: int) -> Run:
    """Load a contender, and prepare the images: a function that runs its model over all inputs."""
    inputs = read_inputs(side, count)
    if contender == PLAIN[side]:
        return make_plain_timm(inputs) if side == "image" else make_plain_sentence_transformers(inputs)
    if side == "text":
        return partial(load_text_encoder(DEFAULT_ENCODERS["text"], "cpu", contender).forward, inputs)
    encoder = load_image_encoder(DEFAULT_ENCODERS["image"], "cpu", contender)
    return partial(encoder.forward, [encoder.prepare(image) for image in inputs])


def make_plain_timm(images: Sequence[bytes]) -> Run:
    """Return a loop over timm's model in batches, as its documentation shows it."""
    import timm
    import torch

    from asif.encoders.images import decode_image
    from asif.encoders.timm_ import create_embedded_model

    weights = EMBEDDED_WEIGHTS[DEFAULT_ENCODERS["image"].partition(":")[2]].find()
    model: Any = create_embedded_model(weights)
    model.reset_classifier(0)
    model.eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model), is_training=False)
    prepared = [transform(decode_image(image)) for image in images]
    size = PLAIN_BATCHES["image"]

    def run() -> Any:
        with torch.inference_mode():
            batches = (torch.stack(prepared[at : at + size]) for at in range(0, len(prepared), size))
            return np.concatenate([model(batch).numpy() for batch in batches])

    return run


def make_plain_sentence_transformers(captions: Sequence[str]) -> Run:
    """Return the library's own way to encode texts."""
    from sentence_transformers import SentenceTransformer

    folder = EMBEDDED_WEIGHTS[DEFAULT_ENCODERS["text"].partition(":")[2]].find().parent
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return partial(model.encode, list(captions), batch_size=PLAIN_BATCHES["text"], show_progress_bar=False)


def main() -> None:
    """Warm up, then obey."""
    side, contender, count, threads, output = sys.argv[1:]
    if contender in (PLAIN[side], "torch"):
        import torch

        torch.set_num_threads(int(threads))
    run = make_run(side, contender, int(count))
    np.save(output, Embeddings.from_raw(run()).values)
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        run()
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)
    print(json.dumps({"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)


if __name__ == "__main__":
    main()
