"""Sounds: is a vector the same every time and in every format, and do anchors of sounds work from end to end?

The clips are made here, by Debian's sox and espeak-ng: tones, noises, sweeps, and spoken digits, with a caption for
each kind. So this is a test of the plumbing. What is reached on recorded sounds with a learned encoder, it cannot say.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from common import ROOT, machine, show

sys.path.insert(0, str(ROOT / "tests"))

from digits import WORDS, pictures
from support.tiny_sounds import save_tiny_ast, save_tiny_clap, save_tiny_hubert, save_tiny_whisper

from asif.anchorset import Gallery
from asif.classify import Labels
from asif.encoders import load_audio_encoder
from asif.engine import Engine, build_anchors, build_gallery, make_named_aligner
from asif.vectors import normalise_rows

EACH, SEED = 24, 0
VOICES = ("en", "en-us", "en-gb", "en-gb-scotland", "en+m1", "en+m3", "en+m7", "en+f1", "en+f2", "en+f4")
KINDS: dict[str, Callable[[np.random.Generator], list[str]]] = {
    "a low tone": lambda draw: ["sine", f"{draw.uniform(80, 250):.0f}"],
    "a high tone": lambda draw: ["sine", f"{draw.uniform(2000, 6000):.0f}"],
    "a buzzing square wave": lambda draw: ["square", f"{draw.uniform(80, 250):.0f}"],
    "white noise": lambda draw: ["whitenoise"],
    "pink noise": lambda draw: ["pinknoise"],
    "brown noise": lambda draw: ["brownnoise"],
    "a rising sweep": lambda draw: ["sine", f"{draw.uniform(100, 300):.0f}-{draw.uniform(3000, 6000):.0f}"],
    "a falling sweep": lambda draw: ["sine", f"{draw.uniform(3000, 6000):.0f}-{draw.uniform(100, 300):.0f}"],
    "a plucked string": lambda draw: ["pluck", f"{draw.uniform(110, 440):.0f}"],
    "a wobbling tone": lambda draw: [
        "sine",
        f"{draw.uniform(400, 900):.0f}",
        "tremolo",
        f"{draw.uniform(5, 9):.1f}",
        "90",
    ],
}
ALIGNERS = ("asif", "procrustes", "cca")


def run(*command: object) -> None:
    """Run a program that writes a file."""
    subprocess.run(list(map(str, command)), check=True, capture_output=True)


def make_noises(folder: Path) -> list[tuple[Path, str]]:
    """Let sox make tones and noises, every time the same."""
    made, draw = [], np.random.default_rng(SEED)
    for kind, choose in KINDS.items():
        for number in range(EACH):
            file = folder / f"{kind.replace(' ', '-')}-{number}.wav"
            effect, seconds = choose(draw), f"{draw.uniform(0.8, 2.0):.2f}"
            shape, rest = effect[:2], effect[2:]
            level = f"{draw.uniform(0.1, 0.5):.2f}"
            run("sox", "-R", "-n", "-r", 22_050, "-b", 16, file, "synth", seconds, *shape, *rest, "vol", level)
            made.append((file, kind))
    return made


def make_digits(folder: Path) -> list[tuple[Path, str]]:
    """Let espeak-ng speak digits, in ten voices at several speeds and pitches."""
    made, draw = [], np.random.default_rng(SEED)
    for word in WORDS:
        for number in range(EACH):
            file = folder / f"{word}-{number}.wav"
            speed, pitch = f"{draw.integers(130, 200)}", f"{draw.integers(30, 70)}"
            run("espeak-ng", "-v", VOICES[number % len(VOICES)], "-s", speed, "-p", pitch, "-w", file, word)
            made.append((file, f"a voice says {word}"))
    return made


def split(clips: list[tuple[Path, str]]) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
    """Split clips into anchors and tests: every second one of each kind."""
    return clips[::2], clips[1::2]


# ---- vectors


def change(samples: np.ndarray, rate: int, form: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """Encode samples as a file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def make_variants(file: Path) -> dict[str, bytes]:
    """Return a clip in several forms."""
    whole, rate = soundfile.read(file, dtype="int16")
    wide = whole / 32768
    silence = np.zeros(round(0.15 * rate))
    return {
        "flac": change(whole, rate, "FLAC"),
        "mp3": change(wide, rate, "MP3", "MPEG_LAYER_III"),
        "ogg": change(wide, rate, "OGG", "VORBIS"),
        "lead-in 150 ms": change(np.concatenate([silence, wide]), rate, subtype="FLOAT"),
        "gain +6 dB": change(wide * 10**0.3, rate, subtype="FLOAT"),
        "gain -6 dB": change(wide * 10**-0.3, rate, subtype="FLOAT"),
    }


def measure_sameness(clips: list[tuple[Path, str]], scratch: Path) -> None:
    """Print, for each encoder, what changes its vectors."""
    specs = {"embedded:log-mel": "embedded:log-mel"}
    for library, name, save in (
        ("clap", "CLAP, random weights", save_tiny_clap),
        ("whisper", "Whisper, random weights", save_tiny_whisper),
        ("hf-audio", "HuBERT, random weights", save_tiny_hubert),
        ("hf-audio", "AST, random weights", save_tiny_ast),
    ):
        specs[name] = f"{library}:{save(scratch / save.__name__)}"
    rows = []
    some = [file for file, _ in clips[:: len(clips) // 40]]
    for name, spec in specs.items():
        encoder = load_audio_encoder(spec, "cpu")

        def encode(content: Any, encoder: Any = encoder) -> np.ndarray:
            return normalise_rows(encoder.forward([encoder.prepare(content)]))[0].astype(np.float64)

        first = encode(some[0])
        same = sum(np.array_equal(encode(some[0]), first) for _ in range(100))
        cosines: dict[str, list[float]] = {}
        exact = 0
        for file in some:
            own = encode(file)
            for form, content in make_variants(file).items():
                vector = encode(content)
                exact += form == "flac" and np.array_equal(vector, own)
                cosines.setdefault(form, []).append(float(vector @ own))
        changed = [f"{np.mean(cosines[form]):.4f} ({min(cosines[form]):.3f})" for form in cosines if form != "flac"]
        rows.append([name, f"{same} of 100", f"{exact} of {len(some)}", *changed])
    header = ["encoder", "the same bits", "flac = wav", "mp3", "ogg", "lead-in 150 ms", "+6 dB", "-6 dB"]
    print("Cosine with the vector of the WAV: mean (least).\n")
    show(header, rows)


# ---- labels and search


def measure_task(name: str, clips: list[tuple[Path, str]], home: Path) -> None:
    """Print accuracy and precision by aligner, next to a supervised centroid of the same vectors."""
    anchors, tests = split(clips)
    pairs = [{"audio": file, "caption": caption, "id": file.stem} for file, caption in anchors]
    build_anchors(pairs, name, audio_encoder="embedded:log-mel", home=home)
    kinds = sorted({caption for _, caption in clips})
    truth = np.array([kinds.index(caption) for _, caption in tests])
    encoder = load_audio_encoder("embedded:log-mel")
    known, asked = (encode_all(encoder, [file for file, _ in some]) for some in (anchors, tests))
    owners = np.array([kinds.index(caption) for _, caption in anchors])
    centroids = normalise_rows(np.stack([known[owners == at].mean(axis=0) for at in range(len(kinds))]))
    folder = home.parent / f"tests-{name}"
    folder.mkdir()
    for file, _ in tests:
        shutil.copy(file, folder)
    build_gallery(folder, f"{name}-tests", kind="audio", anchors=name, home=home)
    rows = [["supervised centroid", f"{100 * (best(asked @ centroids.T) == truth).mean():.1f}"]]
    rows[0].append(f"{100 * precision((centroids @ asked.T), truth):.1f}")
    for aligner in ALIGNERS:
        with Engine(name, home=home, aligner=make_named_aligner(aligner, {})) as engine:
            found = [result.label for result in engine.classify([file for file, _ in tests], Labels(tuple(kinds)))]
            right = np.mean([kinds.index(str(label)) == at for label, at in zip(found, truth, strict=True)])
            with Gallery(f"{name}-tests", home=home) as gallery:
                answers = list(engine.search(gallery, texts=kinds, k=10))
            by_file = {file.name: caption for file, caption in tests}
            hits = [
                by_file[Path(result.uri).name] == kind
                for kind, each in zip(kinds, answers, strict=True)
                for result in each
            ]
        rows.append([aligner, f"{100 * right:.1f}", f"{100 * np.mean(hits):.1f}"])
    rows.append(["chance", f"{100 / len(kinds):.1f}", f"{100 / len(kinds):.1f}"])
    print(f"\n{name}: {len(anchors)} anchors, {len(tests)} tests, {len(kinds)} captions\n")
    show(["", "top-1 in %", "of the first 10 right, in %"], rows)


def encode_all(encoder: Any, files: list[Path]) -> np.ndarray:
    """Return unit vectors of files [n, d]."""
    return normalise_rows(encoder.forward([encoder.prepare(file) for file in files]))


def best(scores: np.ndarray) -> np.ndarray:
    return np.asarray(scores.argmax(axis=1))


def precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of the ten best clips of each kind [kinds, clips] that are of the kind."""
    first = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    return float(np.mean(truth[first] == np.arange(len(scores))[:, None]))


# ---- three modalities


def measure_hub(digits: list[tuple[Path, str]], home: Path) -> None:
    """Print how many images of the right digit a spoken digit finds, by way of texts, and what the answer states."""
    files, truth = pictures()
    shown = [
        {"image": file, "caption": f"the handwritten digit {WORDS[at]}"} for file, at in zip(files, truth, strict=True)
    ]
    build_anchors([{**row, "id": f"a{at:04}"} for at, row in enumerate(shown[:600])], "pictures", home=home)
    folder = home.parent / "photos"
    folder.mkdir()
    for at, file in enumerate(files[600:1000]):
        (folder / f"{WORDS[truth[600 + at]]}-{at}.png").write_bytes(file)
    build_gallery(folder, "photos", anchors="pictures", home=home)
    _, tests = split(digits)
    rows = []
    for aligner in ALIGNERS:
        with Engine("pictures", home=home, aligner=make_named_aligner(aligner, {})) as engine:
            by_text = list(engine.search("photos", texts=[f"the handwritten digit {word}" for word in WORDS], k=10))
            by_sound = list(engine.search("photos", sounds=[file for file, _ in tests], via="digits", k=10))
        texts = np.mean(
            [Path(found.uri).name.startswith(word) for word, each in zip(WORDS, by_text, strict=True) for found in each]
        )
        spoken = [file.name.partition("-")[0] for file, _ in tests]
        sounds = np.mean(
            [
                Path(found.uri).name.startswith(word)
                for word, each in zip(spoken, by_sound, strict=True)
                for found in each
            ]
        )
        loss = by_sound[0].hub.loss if by_sound[0].hub else None
        assert loss is not None
        rows.append(
            [aligner, f"{100 * texts:.1f}", f"{100 * sounds:.1f}", f"{100 * loss.kept:.0f}", f"{loss.cosine:.3f}"]
        )
    print(f"\nspoken digits to {400} images of digits, by way of {len(split(digits)[0])} sounds with captions\n")
    show(["", "text to image, %", "sound to image, %", "kept, as stated, %", "cosine"], rows)


def main() -> None:
    """Make the clips, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["same", "tasks", "hub"])
    only = parser.parse_args().only
    missing = [name for name in ("sox", "espeak-ng") if shutil.which(name) is None]
    if missing:
        sys.exit(f"{', '.join(missing)} not found: apt-get install sox espeak-ng")
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        (scratch / "clips").mkdir()
        noises, digits = make_noises(scratch / "clips"), make_digits(scratch / "clips")
        if only in (None, "same"):
            measure_sameness(noises + digits, scratch)
        if only in (None, "tasks", "hub"):
            for name, clips in (("noises", noises), ("digits", digits)):
                measure_task(name, clips, scratch / "home")
        if only in (None, "hub"):
            measure_hub(digits, scratch / "home")


if __name__ == "__main__":
    main()
