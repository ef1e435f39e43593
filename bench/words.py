"""Zero-shot top-1 over Flickr8k pairs, with and without the words of captions and labels.

Anchors are images of the train part with their five captions averaged; tests are Caltech-101, with the corrected names
of bench/classnames, and CIFAR-10. "By rule" is `cca(words)` of anchors without captions: the same shrinkage, no words.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from common import Pairs, captions_of, classnames, labelled, machine, show
from retrieval import CAPTIONS, features
from zeroshot import SETS, TEMPLATES

from asif.aligners import Anchors, make_aligner
from asif.classify import Labels, represent_labels
from asif.compare import rank_candidates
from asif.encoders import encode_images
from asif.engine import Engine
from asif.vectors import Embeddings

COUNTS = {300: (0, 1, 2), 1_000: (0, 1, 2), 6_000: (0,)}
ALIGNERS = {  # name, and whether the captions are read
    "asif": ("asif", False),
    "cca": ("cca", False),
    "cca by rule": ("cca(words)", False),
    "cca(words)": ("cca(words)", True),
    "cca + asif": ("cca+asif", False),
    "cca(words) + asif": ("cca(words)+asif", True),
}


def main() -> None:
    """Encode every image once, then fit every aligner to every sample; print means over the samples."""
    print(machine() + "\n")
    data = {name: labelled(name) for name in SETS}
    images, captions = features("train")
    means = Embeddings.from_raw(captions.reshape(len(images), CAPTIONS, -1).mean(axis=1)).values
    said, rows = captions_of("train"), []
    with tempfile.TemporaryDirectory() as home:
        engine = Engine(home=Path(home))
        asked = {name: encode_images(engine.image_encoder(engine.anchors), data[name][0]) for name in SETS}

        def accuracies(name: str, anchors: Anchors) -> list[float]:
            fitted, found = make_aligner(name).fit(anchors), []
            for of in SETS:
                known = tuple(sorted(set(data[of][1])))
                names = tuple(classnames(of).get(label, (label,)) for label in known)
                for templates in TEMPLATES.values():
                    labels = Labels(known, templates, names=names)
                    candidates = represent_labels(labels, engine.encode_texts, fitted)
                    first = rank_candidates(fitted.represent("image", asked[of]), candidates, 1).indices[:, 0]
                    hits = [known[at] == right for at, right in zip(first, data[of][1], strict=True)]
                    found.append(100 * float(np.mean(hits)))
            return found

        for count, seeds in COUNTS.items():
            for shown, (name, has_words) in ALIGNERS.items():
                runs = []
                for seed in seeds:
                    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:count])
                    sides = images[chosen].astype(np.float16), means[chosen].astype(np.float16)
                    words = [said[row] for row in chosen] if has_words else []
                    runs.append(accuracies(name, Pairs([sides[0]], [sides[1]], words)))
                rows.append([f"{count:,}", shown, *(f"{mean:.1f}" for mean in np.mean(runs, axis=0))])
        for name in ("asif", "cca", "cca(words)"):
            rows.append(["imagenet-head", name, *(f"{each:.1f}" for each in accuracies(name, engine.anchors))])
    sets = ("Caltech-101", "CIFAR-10")
    show(["pairs", "aligner", *(f"{of}: {template}" for of in sets for template in TEMPLATES)], rows)


if __name__ == "__main__":
    main()
