"""asif gallery from the terminal: what is printed, JSON, exit codes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.build_fakes import build_set, list_source
from support.build_images import random_png
from support.engine_sets import make_set
from support.galleries import write_files
from support.running import Cli
from support.stand_in_encoders import make_image_encoder, make_text_encoder, replace_encoders

import asif


@pytest.fixture
def photos(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with six pictures and one that is cut, while encoders are stand-ins."""
    replace_encoders(monkeypatch, tmp_path)
    pictures = {f"{'cat' if seed % 2 else 'dog'}/{seed}.png": random_png(seed) for seed in range(6)}
    write_files(tmp_path / "photos", {**pictures, "cut.png": random_png(9)[:200]})
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def test_build_update_info_list_verify_delete(photos: Path, cli: Cli) -> None:
    built = cli("gallery", "build", "photos", "--name", "g", "--thumbnails", "--json")
    assert built.code == 0, built.err
    assert built.json["stages"][built.json["slowest_stage"]] == max(built.json["stages"].values())
    assert (built.json["items"], built.json["rows_in"], built.json["rejected"], built.json["encoded"]) == (6, 7, 1, 6)
    assert [(reject["id"], "truncated" in reject["reason"]) for reject in built.json["rejects"]] == [("cut.png", True)]
    os.rename(photos / "cat/1.png", photos / "cat/one.png")
    assert cli("gallery", "update", "g", "--dry-run", "--json").json == {
        **{"new": 2, "changed": 0, "unchanged": 5, "gone": 1, "unreadable": 0}  # the cut one is new, too
    }
    changed = cli("gallery", "update", "g", "--json").json
    assert (changed["renamed"], changed["removed"], changed["encoded"], changed["items"]) == (1, 1, 0, 6)
    shown = cli("gallery", "info", "g", "--json").json
    assert shown["thumbnails"] and shown["digest"] == changed["digest"] and shown["origin"]["sources"] == [str(photos)]
    assert [each["name"] for each in cli("gallery", "list", "--json").lines] == ["g"]
    assert cli("gallery", "verify", "g").code == 0
    assert "up to date: 6 items" in cli("gallery", "update", "g").out
    assert cli("gallery", "delete", "g", "--yes").code == 0 and cli("gallery", "list").out == ""
    assert cli("anchors", "list").out == ""


def test_globs_and_lists_of_files(photos: Path, cli: Cli, home: Path) -> None:
    for sources in (
        ["photos/*/*.png"],
        ["photos/cat", "photos/dog"],
        [*map(str, photos.glob("*/*.png"))],
        ["photos/**/[0-9]*"],
    ):
        ran = cli("gallery", "build", *sources, "--name", "g", "--json")
        assert ran.code == 0, ran.err
        found = asif.Gallery("g", home=home)
        assert (sorted(found.ids)[0], len(found.ids)) == ("cat/1.png", 6) and ran.json["rejected"] == 0
        assert cli("gallery", "update", "g", "--json").json["unchanged"] == 6
    assert cli("gallery", "build", "photos/*.gif", "--name", "g").code == 2


def test_the_encoder_of_an_anchor_set(photos: Path, cli: Cli, home: Path) -> None:
    pairs = list_source(*((str(seed), random_png(seed), ("x",)) for seed in range(3)))
    build_set(pairs, home, make_image_encoder("mine"), make_text_encoder("mine")).anchors.close()
    assert cli("gallery", "build", "photos", "--name", "g", "--anchors", "toy", "--json").code == 0
    expected = asif.open_anchors("toy", home=home).fingerprint("image")
    with asif.Gallery("g", home=home) as gallery:
        assert (gallery.encoder_spec, gallery.fingerprint) == ("timm:mine", expected)
    make_set(home, "older").close()
    older = cli("gallery", "build", "photos", "--name", "h", "--anchors", "older")
    assert older.code == 4 and "build-anchors PAIRS --name older" in older.err
    refused = cli("gallery", "build", "photos", "--name", "g", "--anchors", "toy", "--image-encoder", "timm:x")
    assert refused.code == 2 and "one of the two" in refused.err
    assert cli("gallery", "build", "photos", "--name", "g", "--text-encoder", "timm:x").code == 2
    refused = cli("gallery", "build", "photos", "--name", "g", "--anchors", "toy", "--precision", "float32")
    assert refused.code == 2 and "leave the precision out" in refused.err


def test_an_update_without_new_content_loads_no_encoder(
    photos: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "cut.png").unlink()
    assert cli("gallery", "build", "photos", "--name", "g").code == 0
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: pytest.fail("it was loaded"))
    (photos / "cat/1.png").unlink()
    write_files(photos, {"copy.png": random_png(3)})
    changed = cli("gallery", "update", "g", "--json").json
    assert (changed["added"], changed["removed"], changed["encoded"]) == (1, 1, 0)


def test_another_encoder_is_a_mismatch(photos: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("gallery", "build", "photos", "--name", "g").code == 0
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: make_image_encoder("another"))
    write_files(photos, {"new.png": random_png(20)})
    ran = cli("gallery", "update", "g")
    assert ran.code == 4 and "asif gallery build SRC --name g" in ran.err and "model: " in ran.err


def test_unknown_galleries_and_dry_runs(photos: Path, cli: Cli, home: Path) -> None:
    ran = cli("gallery", "info", "gg")
    assert ran.code == 2 and "there is no gallery 'gg'" in ran.err and "asif gallery build SRC --name gg" in ran.err
    planned = cli("gallery", "build", "photos", "--name", "g", "--dry-run", "--json")
    assert planned.json["rows"] == 7 and not (home / "galleries").exists()
    assert cli("gallery", "build", "photos", "--name", "g", "--where", "size = '1'").code == 2


def test_damage_is_found(photos: Path, cli: Cli, home: Path) -> None:
    assert cli("gallery", "build", "photos", "--name", "g", "--thumbnails").code == 0
    (thumbnails,) = (home / "galleries/g/thumbnails").iterdir()
    content = bytearray(thumbnails.read_bytes())
    content[100] ^= 1
    thumbnails.write_bytes(content)
    ran = cli("gallery", "verify", "g", "--json")
    assert ran.code == 5 and len(ran.json["problems"]) == 1 and str(thumbnails) in ran.json["problems"][0]
