"""Zero-shot top-1 with imagenet-head anchors on the development sets, by k, power, centring, aligner and hubness."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import labelled, machine, show

from asif.aligners import Hubness, make_aligner
from asif.aligners.hubness import METHODS, Method
from asif.classify import Labels
from asif.encoders import encode_images
from asif.engine import Engine

SETS = ("caltech101", "cifar10")
OTHERS: tuple[dict[str, Any], ...] = (
    {"name": "asif"},
    {"name": "procrustes"},
    {"name": "ridge", "towards": "text"},
    {"name": "ridge", "towards": "image"},
    {"name": "cca"},
)
TEMPLATES = {"{}": ("{}",), "a photo of a {}.": ("a photo of a {}.",)}


def main() -> None:
    """Encode every image once, then try the settings."""
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as home:
        engine = Engine(home=Path(home))
        encoder = engine.image_encoder(engine.anchors)
        data = {name: labelled(name) for name in SETS}
        embeddings = {name: encode_images(encoder, images) for name, (images, _) in data.items()}

        def accuracy(
            dataset: str, templates: tuple[str, ...], name: str = "asif", hubness: Method = "none", **settings: Any
        ) -> float:
            aligner = make_aligner(name, **settings)
            tried = Engine(home=Path(home), aligner=aligner, hubness=Hubness(hubness))
            mode = aligner.template_mode
            labels = Labels(tuple(sorted(set(data[dataset][1]))), templates, mode)
            results = tried.classify_vectors(embeddings[dataset], labels, top=1)
            hits = [r.predictions[0].label == truth for r, truth in zip(results, data[dataset][1], strict=True)]
            return 100 * float(np.mean(hits))

        print("Defaults (k=50, p=3, not centred, template {}): ", end="")
        print(", ".join(f"{name} {accuracy(name, ('{}',)):.1f} %" for name in SETS) + "\n")
        rows = []
        for k, power, centre in itertools.product((20, 50, 100, 200, 800), (2, 3, 4, 8), (False, True)):
            cells = [
                f"{accuracy(name, templates, k=k, power=power, centre=centre):.1f}"
                for name in SETS
                for templates in TEMPLATES.values()
            ]
            rows.append([str(k), str(power), "yes" if centre else "no", *cells])
        paper = [
            f"{accuracy(dataset, templates, name='asif-paper'):.1f}"
            for dataset in SETS
            for templates in TEMPLATES.values()
        ]
        rows.append(["800", "8", "asif-paper", *paper])
        columns = [f"{name}, `{t}`" for name in SETS for t in TEMPLATES]
        show(["k", "p", "centred", *columns], rows)
        rows = []
        for settings, hubness in itertools.product(OTHERS, METHODS):
            cells = [
                f"{accuracy(name, templates, hubness=hubness, **settings):.1f}"
                for name in SETS
                for templates in TEMPLATES.values()
            ]
            rows.append([" ".join(str(value) for value in settings.values()), hubness, *cells])
        print()
        show(["aligner", "hubness", *columns], rows)


if __name__ == "__main__":
    main()
