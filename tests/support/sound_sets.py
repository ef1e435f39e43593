"""Folders of small sounds with captions, and anchor sets of them with an encoder that is not learned."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from support.engine_sets import fake_text
from support.tiny_sounds import RATE, make_tone, write_sound

from asif.anchorset import AnchorSet
from asif.engine import build_anchors

KINDS = ("a low tone", "a high tone", "a hiss", "clicks")
SUFFIXES: dict[str, tuple[str, str]] = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def make_sound(kind: str, number: int) -> Any:
    """Return one of several sounds of a kind [n]."""
    noise = np.random.default_rng(number).standard_normal(RATE)
    if kind == "a low tone":
        return make_tone(150 + 5 * number)
    if kind == "a high tone":
        return make_tone(3000 + 37 * number)
    if kind == "a hiss":
        return 0.2 * noise
    return np.where(np.arange(RATE) % (1500 + 40 * number) < 30, 0.8, 0.001 * noise)


def make_sounds(each: int = 5, first: int = 0) -> dict[str, tuple[bytes, str]]:
    """Return {file name: (file, caption)}, in four formats."""
    found = {}
    for kind in KINDS:
        for number in range(first, first + each):
            suffix = list(SUFFIXES)[number % 4]
            form, subtype = SUFFIXES[suffix]
            name = f"{kind.replace(' ', '-')}-{number}.{suffix}"
            found[name] = write_sound(make_sound(kind, number), form=form, subtype=subtype), kind
    return found


def write_folder(folder: Path, sounds: Mapping[str, tuple[bytes, str]]) -> Path:
    """Write a folder of sounds with metadata.csv, whose ids are the names of the files."""
    folder.mkdir()
    for name, (content, _) in sounds.items():
        (folder / name).write_bytes(content)
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "id", "caption"])
        rows.writerows([name, name.rpartition(".")[0], caption] for name, (_, caption) in sounds.items())
    return folder


def use_fake_texts(monkeypatch: Any) -> None:
    """Let builds and engines load an encoder of texts that hashes them."""
    for module in ("build", "encoder_pool"):
        monkeypatch.setattr(f"asif.engine.{module}.load_text_encoder", lambda *_: fake_text())


def build_sounds(folder: Path, home: Path, name: str = "sounds") -> AnchorSet:
    """Build anchors of a folder of sounds; `use_fake_texts` comes first."""
    return build_anchors(folder, name, audio_encoder="embedded:log-mel", home=home).anchors
