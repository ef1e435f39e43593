"""Joined encoders against single ones: retrieval on Flickr8k, zero-shot top-1, what an input and a start cost.

`python bench/joined.py [retrieval] [zeroshot] [cost] [texts] [--vectors FOLDER]`: without a name, all four. The vectors
of the parts are kept in the folder, and computed again where they are missing. `texts` compares text encoders.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.parquet as pq
from common import Pairs, captions_of, classnames, labelled, machine, realdata, show
from retrieval import CAPTIONS, features, measured
from zeroshot import SETS, TEMPLATES

from asif.aligners import Hubness, make_aligner
from asif.classify import Labels, represent_labels
from asif.compare import rank_candidates
from asif.encoders import encode_images, encode_texts, load_head, load_image_encoder, load_text_encoder
from asif.encoders.joined import join_vectors
from asif.encoders.spec import join_specs, split_spec
from asif.engine import Engine
from asif.vectors import Embeddings, Float32, normalise_rows

PARTS = tuple(f"embedded:efficientnet-lite{size}" for size in range(3))
ENCODERS = (*PARTS, join_specs(PARTS[:2]), join_specs(PARTS))
TEXT_PARTS = ("embedded:all-minilm-l6-v2", "embedded:bge-small-en")
TEXT_ENCODERS = (*TEXT_PARTS, join_specs(TEXT_PARTS))
SAMPLES = {1_000: (0, 1, 2), 6_000: (0,)}
ALIGNERS = ("asif(centre)", "cca(words)")
PROFILES = ("asif(centre)+0.6*cca(size=128)", "asif(centre)")
IMAGES_PER_CALL = 64
CAPTIONS_PER_CALL = 500
RUNS = 5
START = """
import sys, time
started = time.perf_counter()
from pathlib import Path
from asif.encoders import encode_images, load_image_encoder
encode_images(load_image_encoder(sys.argv[1], cache=Path(sys.argv[2])), sys.argv[3])
print(time.perf_counter() - started)
"""
START_TEXT = """
import sys, time
started = time.perf_counter()
from pathlib import Path
from asif.encoders import encode_texts, load_text_encoder
encode_texts(load_text_encoder(sys.argv[1], cache=Path(sys.argv[2])), [sys.argv[3]])
print(time.perf_counter() - started)
"""


def main() -> None:
    """Print the tables that were named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", nargs="*", choices=["retrieval", "zeroshot", "cost", "texts", []])
    parser.add_argument("--vectors", type=Path)
    arguments = parser.parse_args()
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.vectors or Path(scratch)
        print_tables: dict[str, Callable[[Path], None]] = {
            "retrieval": print_retrieval,
            "zeroshot": print_zeroshot,
            "cost": print_cost,
            "texts": print_texts,
        }
        for name in arguments.tables or print_tables:
            print_tables[name](folder)
            print()


def read_images(name: str) -> list[bytes]:
    """Read the images of a part of Flickr8k, or of a labelled set."""
    if name in SETS:
        return labelled(name)[0]
    table = pq.read_table(realdata() / "flickr8k" / f"{name}.parquet", columns=["image"])
    return [row["image"]["bytes"] for row in table.to_pylist()]


@cache
def part_vectors(folder: Path, part: str, name: str) -> Float32:
    """Return the unit vectors of a set's images by one encoder, from the folder if they are there."""
    path = folder / f"{name}-{part.rpartition('-')[2]}.npy"
    if not path.exists():
        encoder, images = load_image_encoder(part, cache=folder / "cache"), read_images(name)
        calls = range(0, len(images), IMAGES_PER_CALL)
        np.save(
            path, np.concatenate([encode_images(encoder, images[at : at + IMAGES_PER_CALL]).values for at in calls])
        )
    vectors: Float32 = np.load(path)
    return vectors


def joined_vectors(folder: Path, spec: str, name: str) -> Float32:
    """Return the unit vectors of a set's images by an encoder, joined where it is."""
    return join_vectors([part_vectors(folder, part, name) for part in split_spec(spec)])


def centred_vectors(folder: Path, spec: str, name: str, chosen: np.ndarray) -> Float32:
    """Return vectors whose parts are centred by the anchors, the chosen rows of the train part, and then joined."""
    parts = split_spec(spec)
    means = [part_vectors(folder, part, "train")[chosen].mean(axis=0, dtype=np.float64) for part in parts]
    return join_vectors(
        [normalise_rows(part_vectors(folder, part, name) - mean) for part, mean in zip(parts, means, strict=True)]
    )


def print_retrieval(folder: Path) -> None:
    """Print R@1 both ways on the dev part, means over the samples and half their spread."""
    vectors = caption_vectors(folder, TEXT_PARTS[0], "train"), caption_vectors(folder, TEXT_PARTS[0], "dev")
    show(["pairs", "image encoder", *recall_columns()], [])
    for count in SAMPLES:
        for spec, centred in [*((spec, False) for spec in ENCODERS), (ENCODERS[-1], True)]:

            def find_images(name: str, chosen: np.ndarray, spec: str = spec, centred: bool = centred) -> Float32:
                return centred_vectors(folder, spec, name, chosen) if centred else joined_vectors(folder, spec, name)

            shown = f"{spec.partition(':')[2]}{', parts centred' if centred else ''}"
            cells = measure_recalls(count, find_images, *vectors)
            print("| " + " | ".join([f"{count:,}", shown, *cells]) + " |", flush=True)


def recall_columns() -> list[str]:
    return [f"{name}: {way}" for name in ALIGNERS for way in ("image→text", "text→image", "fit s")]


def measure_recalls(
    count: int, find_images: Callable[[str, np.ndarray], Float32], train: Float32, dev: Float32
) -> list[str]:
    """Measure R@1 both ways on the dev part: means over the samples and half their spread, and the seconds of the fit.

    `find_images` gives the image vectors of a part, for the chosen rows of the train part; `train` and `dev` are unit
    vectors of single captions.
    """
    means = Embeddings.from_raw(train.reshape(-1, CAPTIONS, train.shape[-1]).mean(axis=1)).values
    texts = Embeddings(dev, tuple((caption,) for some in captions_of("dev") for caption in some))
    said = captions_of("train")
    runs: dict[str, list[list[float]]] = {name: [] for name in ALIGNERS}
    for seed in SAMPLES[count]:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(means))[:count])
        images, asked = (find_images(name, chosen) for name in ("train", "dev"))
        sides = images[chosen].astype(np.float16), means[chosen].astype(np.float16)
        for name, tried in runs.items():
            words = [said[row] for row in chosen] if "words" in name else []
            pairs = Pairs([sides[0]], [sides[1]], words)
            found = measured(make_aligner(name), Hubness("nnn"), pairs, Embeddings(asked), texts)
            tried.append([found[0], found[4], found[8]])
    return [cell for tried in runs.values() for cell in format_recalls(tried)]


def format_recalls(runs: list[list[float]]) -> list[str]:
    """Format recalls, of several runs with half their spread, and the seconds of the fit."""
    mean, spread = np.mean(runs, axis=0), np.ptp(runs, axis=0) / 2
    recalls = [f"{mean[at]:.1f}" + (f" ± {spread[at]:.1f}" if len(runs) > 1 else "") for at in (0, 1)]
    return [*recalls, f"{mean[2]:.2f}"]


def print_zeroshot(folder: Path) -> None:
    """Print top-1 with the anchors of the heads, joined class by class, by the profile of imagenet-head and without."""
    data = {name: labelled(name) for name in SETS}
    asked = (("caltech101", False), ("caltech101", True), ("cifar10", False))
    show(["image encoder", "aligner", "Caltech-101", "Caltech-101, names corrected", "CIFAR-10"], [])
    with tempfile.TemporaryDirectory() as home:
        engine = Engine(home=Path(home))
        ids = [record.id for record in engine.anchors.records(range(engine.anchors.count))]
        for spec, profile in itertools.product(ENCODERS, PROFILES):
            head = load_head(spec, cache=folder / "cache")[1]
            rows = [head.ids.index(id_) for id_ in ids]
            prototypes = Embeddings.from_raw(head.prototypes[rows]).values.astype(np.float16)
            fitted, cells = make_aligner(profile).fit(Pairs([prototypes], list(engine.anchors.blocks("text")))), []
            for name, corrected in asked:
                known = tuple(sorted(set(data[name][1])))
                names = tuple((classnames(name) if corrected else {}).get(label, (label,)) for label in known)
                labels = Labels(known, TEMPLATES["both"], names=names)
                candidates = represent_labels(labels, engine.encode_texts, fitted)
                images = fitted.represent("image", Embeddings.from_raw(joined_vectors(folder, spec, name)))
                first = rank_candidates(images, candidates, 1).indices[:, 0]
                hits = [known[at] == right for at, right in zip(first, data[name][1], strict=True)]
                cells.append(f"{100 * np.mean(hits):.1f}")
            print("| " + " | ".join([spec.partition(":")[2], profile, *cells]) + " |", flush=True)


def print_cost(folder: Path) -> None:
    """Print images a second, decoded and encoded, and the seconds of a process that encodes one image; all in turn."""
    images = read_images("dev")[:IMAGES_PER_CALL]
    starts: dict[str, list[float]] = {spec: [] for spec in ENCODERS}
    calls: dict[str, list[float]] = {spec: [] for spec in ENCODERS}
    with tempfile.TemporaryDirectory() as scratch:
        photo = Path(scratch, "photo.jpg")
        photo.write_bytes(images[0])
        caches = {spec: Path(scratch, str(number)) for number, spec in enumerate(ENCODERS)}
        for _ in range(1 + RUNS):
            for spec, taken in starts.items():
                taken.append(start(spec, caches[spec], photo))
        encoders = {spec: load_image_encoder(spec, cache=caches[spec]) for spec in ENCODERS}
        for _ in range(1 + RUNS):
            for spec, taken in calls.items():
                started = time.perf_counter()
                encode_images(encoders[spec], images)
                taken.append((time.perf_counter() - started) / len(images))
    rows = [
        [
            *(spec.partition(":")[2], str(encoders[spec].dim), encoders[spec].fingerprint.fields["backend"]),
            *(
                f"{1000 * median(calls[spec][1:]):.1f} ms",
                f"{starts[spec][0]:.2f} s",
                f"{median(starts[spec][1:]):.2f} s",
            ),
        ]
        for spec in ENCODERS
    ]
    show(["image encoder", "dim", "backend", "one image of 64", "first start ever", "later starts"], rows)


def start(spec: str, cached: Path, asked: str | Path, script: str = START) -> float:
    """Encode one input in a process of its own; returns its seconds, imports included."""
    command = [sys.executable, "-c", script, spec, str(cached), str(asked)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_texts(folder: Path) -> None:
    """Print R@1 of text encoders with one image encoder and with all joined, and what a caption and a start cost."""
    show(["pairs", "image encoder", "text encoder", *recall_columns()], [])
    for count, image, text in itertools.product(SAMPLES, (ENCODERS[0], ENCODERS[-1]), TEXT_ENCODERS):
        train, dev = (
            join_vectors([caption_vectors(folder, part, name) for part in split_spec(text)])
            for name in ("train", "dev")
        )

        def find_images(name: str, _: np.ndarray, image: str = image) -> Float32:
            return joined_vectors(folder, image, name)

        names = [spec.replace("embedded:", "") for spec in (image, text)]
        cells = measure_recalls(count, find_images, train, dev)
        print("| " + " | ".join([f"{count:,}", *names, *cells]) + " |", flush=True)
    print()
    print_text_cost()


@cache
def caption_vectors(folder: Path, part: str, name: str) -> Float32:
    """Return the unit vectors of all captions of a part [5n, d]: the features at hand, or those kept in the folder."""
    if part == TEXT_PARTS[0]:
        return features(name)[1]
    path = folder / f"{name}-{part.partition(':')[2]}.npy"
    if not path.exists():
        encoder, captions = load_text_encoder(part), [caption for some in captions_of(name) for caption in some]
        calls = range(0, len(captions), CAPTIONS_PER_CALL)
        np.save(
            path, np.concatenate([encode_texts(encoder, captions[at : at + CAPTIONS_PER_CALL]).values for at in calls])
        )
    vectors: Float32 = np.load(path)
    return vectors


def print_text_cost() -> None:
    """Print milliseconds a caption and the seconds of a process that encodes one; all in turn."""
    captions = [caption for some in captions_of("dev") for caption in some][:CAPTIONS_PER_CALL]
    starts: dict[str, list[float]] = {spec: [] for spec in TEXT_ENCODERS}
    calls: dict[str, list[float]] = {spec: [] for spec in TEXT_ENCODERS}
    with tempfile.TemporaryDirectory() as scratch:
        encoders = {spec: load_text_encoder(spec, cache=Path(scratch)) for spec in TEXT_ENCODERS}
        for _ in range(1 + RUNS):
            for spec in TEXT_ENCODERS:
                starts[spec].append(start(spec, Path(scratch), captions[0], START_TEXT))
                started = time.perf_counter()
                encode_texts(encoders[spec], captions)
                calls[spec].append((time.perf_counter() - started) / len(captions))
    rows = [
        [
            *(spec.replace("embedded:", ""), str(encoders[spec].dim), encoders[spec].fingerprint.fields["backend"]),
            *(f"{1000 * median(calls[spec][1:]):.2f} ms", f"{median(starts[spec][1:]):.2f} s"),
        ]
        for spec in TEXT_ENCODERS
    ]
    show(["text encoder", "dim", "backend", f"one caption of {len(captions)}", "start of a process"], rows)


if __name__ == "__main__":
    main()
