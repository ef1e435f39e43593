"""Zero-shot top-1 with imagenet-head anchors on the development sets; the effect of k, power and centring."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
from common import labelled, machine, show

from asif.aligners import make_aligner
from asif.classify import Labels
from asif.encoders import encode_images
from asif.engine import Engine

SETS = ("caltech101", "cifar10")
TEMPLATES = {"{}": ("{}",), "a photo of a {}.": ("a photo of a {}.",)}


def main() -> None:
    """Encode every image once, then try the settings."""
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as home:
        engine = Engine(home=Path(home))
        encoder = engine.image_encoder(engine.anchors)
        data = {name: labelled(name) for name in SETS}
        embeddings = {name: encode_images(encoder, images) for name, (images, _) in data.items()}

        def accuracy(dataset: str, templates: tuple[str, ...], **settings: object) -> float:
            tried = Engine(home=Path(home), aligner=make_aligner(**{"name": "asif", **settings}))  # type: ignore[arg-type]
            mode = tried.aligner.template_mode
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
        show(["k", "p", "centred", *(f"{name}, `{t}`" for name in SETS for t in TEMPLATES)], rows)


if __name__ == "__main__":
    main()
