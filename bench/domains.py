"""Small domains of one's own: accuracy of labels by aligner, where each text is shared by several images.

Four domains, each with some images of each class as anchors, their class names as captions, and other images as tests:
scikit-learn's handwritten digits; Caltech-101 and CIFAR-10, cut into pairs; and drawn shapes in six colours. The texts
of the labels differ from the captions ("a handwritten digit three", "the digit three"). `auto` is the choice without
tuning. All are compared with a supervised nearest centroid on the same images, and with the best fixed aligner of each
column, which is chosen by the tests themselves.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from common import Pairs, classnames, labelled, machine, show
from digits import WORDS, accuracy, pictures
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.neighbors import NearestCentroid

from asif.aligners import Hubness, make_aligner
from asif.encoders import DEFAULT_ENCODERS, encode_images, load_image_encoder, load_text_encoder
from asif.tuning import default_setting, has_repeated_texts
from asif.vectors import Embeddings, Float32, Int64

SEEDS = (0, 1, 2)
FIXED = (
    *("asif", "asif(centre)", "procrustes", "ridge(lambda=1,towards=text)"),
    *(f"cca(lambda={strength})" for strength in (0.3, 1, 3, 10)),
    *(f"cca(words,lambda={strength})" for strength in (0.3, 1, 3, 10)),
    *("cca(words=0)", "cca(words)+asif", "cca(words)"),
)
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 70, 220),
    "yellow": (240, 220, 50),
    "purple": (150, 60, 170),
    "black": (20, 20, 20),
}
SHAPES = ("circle", "triangle", "square", "star", "cross")


@dataclass(frozen=True)
class Domain:
    """Hold images [n, d], the class of each [n], and by class the caption of anchors and the text of the label.

    `sizes` are the numbers of anchors of a class, `tests` is the number of its test images.
    """

    name: str
    images: Float32
    classes: Int64
    captions: Embeddings
    labels: Embeddings
    sizes: tuple[int, ...]
    tests: int

    def split(self, size: int, seed: int) -> tuple[Int64, Int64]:
        """Return the rows of anchors and of tests, `size` and `tests` of each class."""
        rng = np.random.default_rng(seed)
        drawn = [rng.permutation(np.flatnonzero(self.classes == each)) for each in range(len(self.labels))]
        anchors = [rows[self.tests : self.tests + size] for rows in drawn]
        return np.sort(np.concatenate(anchors)), np.sort(np.concatenate([rows[: self.tests] for rows in drawn]))


def draw_shapes(images: int = 40) -> tuple[list[bytes], list[str]]:
    """Draw shapes in colours, of any size, place and angle, on a light ground with noise; return files and names."""
    rng = np.random.default_rng(0)
    files, names = [], []
    for colour, rgb in COLOURS.items():
        for shape in SHAPES:
            for _ in range(images):
                ground = tuple(int(value) for value in rng.integers(150, 256, 3))
                picture = Image.new("RGB", (160, 160), ground)
                radius, angle = rng.uniform(25, 60), rng.uniform(0, 2 * np.pi)
                centre = rng.uniform(radius, 160 - radius, 2)
                fill = tuple(int(np.clip(value + rng.normal(0, 20), 0, 255)) for value in rgb)
                ImageDraw.Draw(picture).polygon(outline(shape, centre, radius, angle), fill=fill)
                noisy = np.clip(np.asarray(picture, float) + rng.normal(0, 25, (160, 160, 3)), 0, 255)
                buffer = io.BytesIO()
                Image.fromarray(noisy.astype(np.uint8)).save(buffer, "PNG")
                files.append(buffer.getvalue())
                names.append(f"{colour} {shape}")
    return files, names


def outline(shape: str, centre: NDArray[np.float64], radius: float, angle: float) -> list[tuple[float, float]]:
    """Return the corners of a shape."""
    corners: dict[str, list[tuple[float, float]]] = {  # angle and share of the radius
        "circle": [(2 * np.pi * at / 60, 1) for at in range(60)],
        "triangle": [(2 * np.pi * at / 3, 1) for at in range(3)],
        "square": [(2 * np.pi * at / 4, 1) for at in range(4)],
        "star": [(np.pi * at / 5, 1 if at % 2 == 0 else 0.4) for at in range(10)],
        "cross": [
            (np.pi / 2 * at + by, share) for at in range(4) for by, share in ((-0.3, 1), (0.3, 1), (0.785, 0.42))
        ],
    }
    return [
        (float(centre[0] + share * radius * np.cos(angle + by)), float(centre[1] + share * radius * np.sin(angle + by)))
        for by, share in corners[shape]
    ]


def read_domains() -> list[Domain]:
    """Embed all domains."""
    image, text = load_image_encoder(DEFAULT_ENCODERS["image"]), load_text_encoder(DEFAULT_ENCODERS["text"])

    def read(
        name: str, source: tuple[list[bytes], list[str]], caption: str, label: str, sizes: tuple[int, ...], tests: int
    ) -> Domain:
        files, names = source
        known = sorted(set(names))
        captions, labels = ([template.format(each) for each in known] for template in (caption, label))
        embedded = [
            Embeddings.from_raw(text.forward(some), tuple((each,) for each in some)) for some in (captions, labels)
        ]
        classes = np.array([known.index(each) for each in names])
        return Domain(name, encode_images(image, files).values, classes, *embedded, sizes, tests)

    def named(name: str) -> tuple[list[bytes], list[str]]:
        files, names = labelled(name)
        return files, [classnames(name).get(each, (each,))[0].replace("_", " ") for each in names]

    scans, numbers = pictures()
    digits = scans, [WORDS[number] for number in numbers]
    return [
        read("digits", digits, "a handwritten digit {}", "the digit {}", (5, 10, 20, 50, 100), 70),
        read("Caltech-101", named("caltech101"), "{}", "a photo of a {}.", (3, 5, 8), 4),
        read("CIFAR-10", named("cifar10"), "{}", "a photo of a {}.", (5, 10, 25, 70), 30),
        read("shapes", draw_shapes(), "a {}", "a picture of a {}", (5, 10, 30), 10),
    ]


def measure(domain: Domain, size: int, seed: int) -> dict[str, float]:
    """Return the accuracy of every aligner, of the usual choice, and of the nearest centroid."""
    chosen, tests = domain.split(size, seed)
    classes = domain.classes[chosen]
    captions = domain.captions
    assert captions.texts is not None
    pairs = Pairs(
        [domain.images[chosen].astype(np.float16)],
        [captions.values[classes].astype(np.float16)],
        [captions.texts[each] for each in classes],
    )
    setting, hubness = default_setting("classify", pairs.count, texts_repeat=has_repeated_texts(pairs))
    asked, right = Embeddings(domain.images[tests]), domain.classes[tests]

    def test(name: str, correction: Hubness) -> float:
        return accuracy(make_aligner(name), correction, pairs, asked, domain.labels, right)

    found = {name: test(name, Hubness("none")) for name in FIXED}
    centroid = NearestCentroid().fit(domain.images[chosen], classes)
    supervised = 100 * float((centroid.predict(domain.images[tests]) == right).mean())
    return {**found, "auto": test(setting.name(pairs.count), hubness), "nearest centroid (supervised)": supervised}


def main() -> None:
    """Embed once; sample, fit and test for every domain, size and seed; print means and half the spread of `auto`."""
    print(machine() + "\n")
    header, columns, spreads = ["aligner"], [], []
    for domain in read_domains():
        for size in domain.sizes:
            runs = [measure(domain, size, seed) for seed in SEEDS]
            columns.append({name: float(np.mean([run[name] for run in runs])) for name in runs[0]})
            spreads.append(np.ptp([run["auto"] for run in runs]) / 2)
            header.append(f"{domain.name}, {size} of a class")
    show([*header, "mean"], [describe(name, columns) for name in columns[0]])
    best = [max(column[name] for name in FIXED) for column in columns]
    losses = [column["auto"] - most for column, most in zip(columns, best, strict=True)]
    print()
    supervised = [column["auto"] - column["nearest centroid (supervised)"] for column in columns]
    show(
        ["`auto` less", *header[1:], "mean"],
        [
            ["best fixed aligner", *(f"{loss:+.1f}" for loss in losses), f"{np.mean(losses):+.1f}"],
            ["nearest centroid", *(f"{gain:+.1f}" for gain in supervised), f"{np.mean(supervised):+.1f}"],
            ["half its spread", *(f"{spread:.1f}" for spread in spreads), ""],
        ],
    )


def describe(name: str, columns: list[dict[str, float]]) -> list[str]:
    """Return a row of the table."""
    values = [column[name] for column in columns]
    return [name, *(f"{value:.1f}" for value in values), f"{np.mean(values):.1f}"]


if __name__ == "__main__":
    main()
