"""Take pairs away from a running engine, with a receipt, and give them back: handwritten digits without their nines.

Nothing is trained or encoded again for it; the engine follows the set by itself.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from new_domain import CAPTION, NAMES, png
from sklearn.datasets import load_digits

import asif
from asif.anchorset import Store, read_receipt
from asif.classify import Labels
from asif.engine import verify_removal


def share_of_nines(engine: asif.Engine, nines: list[bytes]) -> float:
    """Return which share of scans of nines is called so."""
    answers = engine.classify(nines, Labels(tuple(NAMES), (CAPTION,)), top=1)
    return float(np.mean([result.label == "nine" for result in answers]))


def wait_for(engine: asif.Engine, version: str) -> None:
    """Wait until the engine has noticed that the set was changed: a tenth of a second, or two."""
    while engine.anchors.named.version != version:
        time.sleep(0.02)


def main(home: Path | None = None, pairs: int = 1000) -> list[float]:
    """Print and return the share of nines that are found before, without and again with their pairs."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = [png(digits.images[row]) for row in order]
    captions = [CAPTION.format(NAMES[digits.target[row]]) for row in order]
    nines = [image for image, caption in zip(images[pairs:], captions[pairs:], strict=True) if "nine" in caption]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(home or Path(folder))
        receipt = Path(folder) / "receipt.json"
        known = zip(images[:pairs], captions[:pairs], strict=True)
        asif.build_anchors(known, "digits", home=store.root, dedup="keep")
        with asif.Engine("digits", home=store.root, watch=True) as engine:
            found.append(share_of_nines(engine, nines))
            print(f"{engine.anchors.count} pairs: {found[-1]:.0%} of {len(nines)} other nines are found")

            started = time.perf_counter()
            less = store.remove("digits", where="caption like '%nine'", receipt=receipt)
            print(f"{1000 * (time.perf_counter() - started):.0f} ms to remove the nines, receipt included")
            wait_for(engine, less.version)
            found.append(share_of_nines(engine, nines))
            print(f"{engine.anchors.count} pairs: {found[-1]:.0%} are found")
            verify_removal("digits", [read_receipt(receipt)], home=store.root).raise_if_bad()
            print(f"the receipt proves it: {receipt.stat().st_size:,} bytes, no caption in it")

            wait_for(engine, store.rollback("digits"))
            found.append(share_of_nines(engine, nines))
            print(f"{engine.anchors.count} pairs again: {found[-1]:.0%} are found")
    return found


if __name__ == "__main__":
    main()
