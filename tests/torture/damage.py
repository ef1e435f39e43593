"""Files that are really damaged: `verify` finds it, readers say what it is, other sets do not mind (P10, P11, P15)."""

from __future__ import annotations

import random
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from support.build_fakes import FakeImages, FakeTexts

import asif.engine.encoder_pool
from asif.aligners import make_aligner
from asif.anchorset import Store
from asif.classify import Labels
from asif.engine import Engine, cached_fit
from asif.errors import AsifError
from torture.children import run
from torture.looking import lead, learn, look
from torture.operations import MAIN, PART, Model, choosing
from torture.universe import content

BEFORE, DAMAGES, SECONDS = 5, 24, 30
LABELS = Labels(("caption 1.0", "caption 2.0", "a bear"))
HOWS = ("flip", "cut", "grow", "empty", "zeros", "noise", "remove", "link", "folder", "swap")


def play(rng: random.Random, folder: Path, counts: Counter[str]) -> None:
    """Damage one file of a set after another, each in one of many ways, and mend it again."""
    asif.engine.encoder_pool.load_image_encoder = lambda *_: FakeImages()
    asif.engine.encoder_pool.load_text_encoder = lambda *_: FakeTexts()
    root = folder / "store"
    model, _ = lead(rng, root, 1, BEFORE)
    part = choosing(rng, model)
    run(lambda say: say(part.run(Store(root)) and None))
    model = learn(model, part, look(root, model, part))
    run(lambda say: say(fitted(root)))
    files = [path for path in sorted((root / "anchors" / MAIN).rglob("*")) if path.is_file() and path.name != ".lock"]
    for _ in range(DAMAGES):
        path, how = rng.choice(files), rng.choice(HOWS)
        other = rng.choice([one for one in files if one.parent == path.parent])
        with_links = folder / "elsewhere"
        saved = path.read_bytes(), other.read_bytes()
        if not spoil(rng, path, how, other, with_links):
            continue
        seen = run(lambda say: say(examined(root, model)))
        check(seen, root, model, path, how)
        counts["damages"] += 1
        counts[f"damaged by {how}"] += 1
        counts["refused when opened or asked"] += bool(seen["errors"])
        mend(path, saved[0])
        mend(other, saved[1])
    assert not run(lambda say: say([str(problem) for problem in Store(root).verify(MAIN).problems]))


def fitted(root: Path) -> None:
    """Keep two fits beside the set."""
    with Store(root).open(MAIN) as anchors:
        for name in ("ridge", "cca"):
            cached_fit.fit_aligner(make_aligner(name), anchors)


def spoil(rng: random.Random, path: Path, how: str, other: Path, elsewhere: Path) -> bool:
    """Damage a file; return whether its bytes are others now."""
    data = bytearray(path.read_bytes())
    at, length = rng.randrange(len(data)), rng.randint(1, 64)
    if how == "swap":
        mine, theirs = bytes(data), other.read_bytes()
        path.write_bytes(theirs)
        other.write_bytes(mine)
        return mine != theirs
    if how in ("remove", "link", "folder"):
        path.unlink()
        if how == "link":
            elsewhere.write_bytes(data)
            path.symlink_to(elsewhere)
        elif how == "folder":
            path.mkdir()
        return True
    spoilt = {
        "flip": data[:at] + bytes([data[at] ^ rng.randint(1, 255)]) + data[at + 1 :],
        "cut": data[:at],
        "grow": data + rng.randbytes(length),
        "empty": b"",
        "zeros": data[:at] + bytes(len(data[at : at + length])) + data[at + length :],
        "noise": rng.randbytes(len(data)),
    }[how]
    path.write_bytes(spoilt)
    return bytes(spoilt) != bytes(data)


def mend(path: Path, data: bytes) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def examined(root: Path, model: Model) -> dict[str, Any]:
    """Do all that a reader does with a damaged store: what was said, and never anything but an error of ours."""
    signal.alarm(SECONDS)
    store, errors = Store(root), []
    refs = [MAIN, *(f"{MAIN}@{version}" for version in model[MAIN].versions)]
    refs += [f"{MAIN}@{alias}" for alias in model[MAIN].aliases]
    for ref in refs:
        try:
            with store.open(ref) as opened:
                opened.records(range(opened.count))
        except AsifError as error:
            errors.append([ref, type(error).__name__, error.exit_code])
    try:
        problems = [str(problem) for problem in store.verify(MAIN).problems]
    except AsifError as error:
        problems = [error.came]
    for aligner in ("asif", "ridge", "cca"):
        try:
            engine = Engine(MAIN, home=root, aligner=make_aligner(aligner))
            for result in engine.classify([content(1, 0)], LABELS):
                assert np.isfinite([each.score for each in result.predictions]).all(), result
        except AsifError as error:
            errors.append([aligner, type(error).__name__, error.exit_code])
    with store.open(PART) as opened:
        opened.records(range(opened.count))
    good = [entry.name for entry in store.sets() if entry.error is None]
    return {"errors": errors, "problems": problems, "good": good, "part": list(map(str, store.verify(PART).problems))}


def check(seen: dict[str, Any], root: Path, model: Model, path: Path, how: str) -> None:
    """Hold what a damaged store said to P10 and P15."""
    what = (how, str(path.relative_to(root)), seen)
    kind, known = path.parent.name, model[MAIN]
    needless = kind == "versions" and path.stem not in known.aliases.values()
    found_out = how != "remove" or not (needless or kind == "fits")  # gone without a trace is what gc does too
    assert seen["problems"] or not found_out, what
    assert PART in seen["good"] and not seen["part"], what
    assert all(code in (2, 3, 5) for _, _, code in seen["errors"]), what
    assert all(code == 5 for _, name, code in seen["errors"] if name != "NotFound"), what
    if kind == "versions" and not needless:
        assert seen["errors"], what
