"""Zero-shot top-1 with imagenet-head anchors on the development sets, by aligner, hubness, templates and class names.

`auto` is the profile that comes with the anchors; it is compared with the one that `asif tune --task classify` finds.
Unusual class names of a data set, such as "car side" and "water lilly", are corrected in bench/classnames.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
from common import classnames, labelled, machine, show

from asif.aligners import Hubness, make_aligner
from asif.classify import Labels
from asif.encoders import encode_images
from asif.engine import Engine
from asif.engine.captions import sample_captions
from asif.tuning import tune

SETS = ("caltech101", "cifar10")
TEMPLATES = {"{}": ("{}",), "photo": ("a photo of a {}.",), "both": ("{}", "a photo of a {}.")}
OTHERS = ("asif", "procrustes", "ridge(towards=text)", "ridge", "cca")
CORRECTIONS = {"": Hubness("none"), " + nnn": Hubness("nnn")}


def main() -> None:
    """Encode every image once, then evaluate the settings."""
    print(machine() + "\n")
    data = {name: labelled(name) for name in SETS}
    with tempfile.TemporaryDirectory() as home:
        engine = Engine(home=Path(home))
        embeddings = {name: encode_images(engine.image_encoder(engine.anchors), data[name][0]) for name in SETS}
        choice = engine.role().choice
        print(f"`auto`: {choice.aligner.parameters}, hubness {choice.hubness.parameters}\n")

        def labels(name: str, templates: tuple[str, ...], corrected: bool, mode: str) -> Labels:
            known = tuple(sorted(set(data[name][1])))
            names = classnames(name) if corrected else {}
            return Labels(
                known, templates, "max" if mode == "max" else "mean", tuple(names.get(x, (x,)) for x in known)
            )

        def cells(tried: Engine, mode: str = "mean") -> list[str]:
            found = []
            for name, corrected in (("caltech101", False), ("caltech101", True), ("cifar10", False)):
                for templates in TEMPLATES.values():
                    question = labels(name, templates, corrected, mode)
                    results = tried.classify_vectors(embeddings[name], question, top=1)
                    hits = [r.predictions[0].label == y for r, y in zip(results, data[name][1], strict=True)]
                    found.append(f"{100 * np.mean(hits):.1f}")
            return found

        rows = [["auto", *cells(engine)]]
        tuned = tune(engine.anchors, "classify", seconds=600, captions=sample_captions(engine, 0)).best
        found = Engine(home=Path(home), aligner=make_aligner(tuned.aligner), hubness=tuned.hubness)
        rows.append([f"asif tune: {tuned.aligner}, {tuned.hubness.method}", *cells(found)])
        paper = Engine(home=Path(home), aligner=make_aligner("asif-paper"))
        rows.append(["asif-paper", *cells(paper, "max")])
        for name, (suffix, hubness) in itertools.product(OTHERS, CORRECTIONS.items()):
            tried = Engine(home=Path(home), aligner=make_aligner(name), hubness=hubness)
            rows.append([name + suffix, *cells(tried)])
        asked = ("Caltech-101", "Caltech-101, names corrected", "CIFAR-10")
        show(["aligner", *(f"{what}: {template}" for what in asked for template in TEMPLATES)], rows)
        rows = []
        for k, power, centre in itertools.product((20, 58, 100, 200, 800), (2, 3, 4, 8), (False, True)):
            name = f"asif(k={k},power={power}{',centre' if centre else ''})"
            rows.append([name, *cells(Engine(home=Path(home), aligner=make_aligner(name)))])
        print()
        show(["aligner", *(f"{what}: {template}" for what in asked for template in TEMPLATES)], rows)


if __name__ == "__main__":
    main()
