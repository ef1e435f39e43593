"""A service over anchors of sounds answers with files of sounds, in JSON and in forms."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from support.services import serve
from support.sound_sets import KINDS, build_sounds, make_sounds, use_fake_texts, write_folder

from asif.engine import build_gallery
from asif.service.config import ServeConfig

SOUNDS = make_sounds(2, first=5)
HISS, CLICK = SOUNDS["a-hiss-5.flac"][0], SOUNDS["clicks-5.flac"][0]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        use_fake_texts(patch)
        build_sounds(write_folder(folder / "clips", make_sounds()), folder / "home")
        build_gallery(folder / "clips", "clips", kind="audio", anchors="sounds", home=folder / "home")
        with serve(ServeConfig(folder / "home", anchors=("sounds",), galleries=("clips",))) as opened:
            yield opened


def test_an_upload_is_classified_and_called_audio(client: TestClient) -> None:
    answer = client.post("/v1/classify", data={"labels": ",".join(KINDS)}, files={"file": ("hiss.flac", HISS)})
    (result,) = answer.json()["results"]
    assert answer.status_code == 200 and result["audio"] == "hiss.flac" and "image" not in result
    assert result["predictions"][0]["label"] == "a hiss"


def test_json_may_hold_several_and_a_damaged_one_has_its_reason(client: TestClient) -> None:
    images = [{"base64": base64.b64encode(content).decode()} for content in (CLICK, b"no sound at all!")]
    results = client.post("/v1/classify", json={"images": images, "labels": list(KINDS)}).json()["results"]
    assert [result["audio"] for result in results] == ["audio 1", "audio 2"]
    assert results[0]["predictions"][0]["label"] == "clicks"
    assert "no WAV, FLAC, Ogg or MP3" in results[1]["error"]


def test_a_gallery_of_sounds_is_searched(client: TestClient) -> None:
    answer = client.post("/v1/search", data={"gallery": "clips", "k": "2"}, files={"file": ("click.flac", CLICK)})
    (result,) = answer.json()["results"]
    assert result["space"] == "audio"
    assert {tuple(found["captions"]) for found in result["results"]} == {("clicks",)}


def test_lists_name_what_is_held(client: TestClient) -> None:
    (anchors,) = client.get("/v1/anchors").json()["anchors"]
    (gallery,) = client.get("/v1/galleries").json()["galleries"]
    assert anchors["modalities"] == {"image": "audio", "text": "text"} and gallery["kind"] == "audio"
