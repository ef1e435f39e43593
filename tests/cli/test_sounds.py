"""The commands over sounds, as other programs and people see them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.running import Cli
from support.sound_sets import KINDS, make_sounds, use_fake_texts, write_folder

LABELS = ",".join(KINDS)
SOUNDS = make_sounds()


@pytest.fixture
def clips(tmp_path: Path, home: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_fake_texts(monkeypatch)
    folder = write_folder(tmp_path / "clips", SOUNDS)
    assert cli("build-anchors", folder, "--name", "sounds", "--audio-encoder", "embedded:log-mel").code == 0
    return folder


def test_a_build_speaks_of_sounds(tmp_path: Path, home: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_texts(monkeypatch)
    folder = write_folder(tmp_path / "clips", SOUNDS)
    ran = cli("build-anchors", folder, "--name", "sounds", "--audio-encoder", "embedded:log-mel")
    assert "  audio: file_name" in ran.err.splitlines()
    assert " sounds/s" in ran.out and "(sounds " in ran.out and "image" not in ran.out + ran.err
    info = cli("anchors", "info", "sounds")
    assert "  audio: embedded:log-mel" in info.out and "  audio: 256" in info.out
    assert cli("anchors", "info", "sounds", "--json").json["modalities"] == {"image": "audio", "text": "text"}


def test_no_encoder_is_guessed(tmp_path: Path, home: Path, cli: Cli) -> None:
    folder = write_folder(tmp_path / "clips", dict(list(SOUNDS.items())[:2]))
    ran = cli("build-anchors", folder, "--name", "sounds")
    assert ran.code == 2 and "name one: --audio-encoder clap:laion/clap-htsat-unfused" in ran.err
    both = cli(
        "build-anchors", folder, "--name", "x", "--audio-encoder", "embedded:log-mel", "--image-encoder", "timm:x"
    )
    assert both.code == 2 and "--image-encoder and --audio-encoder" in both.err


def test_classify_names_sounds_as_audio(clips: Path, cli: Cli) -> None:
    ran = cli("classify", clips, "--anchors", "sounds", "--labels", LABELS, "--json")
    assert ran.code == 0 and "not read: 1 file (.csv: 1)" in ran.err
    assert [line["predictions"][0]["label"] for line in ran.lines] == [
        SOUNDS[Path(line["audio"]).name][1] for line in ran.lines
    ]
    csv = cli("classify", clips / "a-hiss-1.flac", "--anchors", "sounds", "--labels", LABELS, "--csv").out
    assert csv.startswith("audio,rank,label,score,error\n")


def test_explanations_name_files_and_seconds(clips: Path, cli: Cli) -> None:
    arguments = ("classify", clips / "a-hiss-1.flac", "--anchors", "sounds", "--labels", LABELS, "--explain")
    assert "(a-hiss-1.flac 0.0-1.0 s)" in cli(*arguments).out
    first = cli(*arguments, "--json").lines[0]["explanation"]["contributions"][0]
    assert first["clip"].startswith(first["id"]) and first["seconds"] == [0.0, 1.0]


def test_damaged_sounds_are_counted(clips: Path, cli: Cli) -> None:
    (clips / "bad.wav").write_bytes(b"x")
    ran = cli("classify", clips / "bad.wav", clips / "a-hiss-0.wav", "--anchors", "sounds", "--labels", LABELS)
    assert ran.code == 3 and "1 of 2 sounds could not be read" in ran.err
    empty = clips / "none"
    empty.mkdir()
    missing = cli("classify", empty, "--anchors", "sounds", "--labels", LABELS)
    assert missing.code == 2 and "holds no sound" in missing.err and "(.wav, .flac, .ogg, …)" in missing.err


def test_galleries_and_searches(clips: Path, cli: Cli) -> None:
    built = cli("gallery", "build", clips, "--name", "clips", "--kind", "audio", "--anchors", "sounds")
    assert built.code == 0 and built.out.startswith("clips@1: 20 sounds, ")
    assert cli("gallery", "list", "--json").lines[0]["kind"] == "audio"
    (found,) = cli("search", "clips", "--text", "clicks", "--anchors", "sounds", "-k", "1", "--json").lines
    assert Path(found["results"][0]["uri"]).name.startswith("clicks")
    by_sound = cli("search", "clips", "--audio", clips / "clicks-1.flac", "--anchors", "sounds", "-k", "1")
    assert "compared as sounds" in by_sound.out
    refused = cli("search", "clips", "--image", "x.jpg", "--anchors", "sounds")
    assert refused.code == 2 and "--via REF" in refused.err
    unread = cli("search", "clips", "--audio", clips / "metadata.csv", "--anchors", "sounds")
    assert unread.code == 3 and "1 of 1 queries have a sound that could not be read" in unread.err


def test_evaluations_name_their_figures(clips: Path, cli: Cli, tmp_path: Path) -> None:
    ran = cli("eval", "--anchors", "sounds", "--dataset", clips, "--task", "zeroshot_retrieval", "--json")
    assert ran.code == 0 and ran.json["modality"] == "audio"
    assert "audio_retrieval_recall@5" in ran.json["metrics"] and ran.json["counts"]["sounds"] == 20
    assert not any("image" in name for name in (*ran.json["metrics"], *ran.json["counts"]))


def test_an_audit_speaks_of_sounds(clips: Path, cli: Cli, tmp_path: Path) -> None:
    ran = cli("anchors", "audit", "sounds", "--out", tmp_path / "audit")
    assert "Captions shared by many sounds" in ran.out and "audio side: skewness" in ran.out
    page = (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")
    assert "Sound and caption disagree" in page and "many images" not in page
