"""The routes: answers equal those of an engine, and name what gave them."""

from __future__ import annotations

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support.services import draw_photo, make_config, serve

from asif.anchorset import Gallery, Store
from asif.anchorset.receipts.receipt import Receipt
from asif.engine import Engine, build_anchors
from asif.errors import OutOfSpace
from asif.service.config import ServeConfig
from asif.service.keys import OWNER

LABELS = ["cat", "dog", "owl"]
PHOTOS = [draw_photo(100 + number) for number in range(3)]


def as_base64(photo: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(photo).decode()}


def drop_timings(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "timings_ms"}


def classify(client: TestClient, **fields: Any) -> Any:
    body = {"images": [as_base64(photo) for photo in PHOTOS], "labels": LABELS, **fields}
    return client.post("/v1/classify", json=body)


def test_classify_answers_as_an_engine_does(client: TestClient, store: Path) -> None:
    answer = classify(client)
    expected = list(Engine("one", home=store).classify(PHOTOS, LABELS))
    assert answer.status_code == 200
    for number, (found, result) in enumerate(zip(answer.json()["results"], expected, strict=True), 1):
        assert found["image"] == f"image {number}"
        assert [each["label"] for each in found["predictions"]] == [each.label for each in result.predictions]
        assert [each["score"] for each in found["predictions"]] == [each.score for each in result.predictions]
        assert found["anchors"]["digest"] == Store(store).open("one").digest
        assert set(found["timings_ms"]) == {"queue", "encode", "represent", "compare"}
    one = Store(store).open("one")
    assert answer.headers["x-asif-anchors"] == f"one@{one.version}; digest={one.digest}"


def test_a_form_gives_what_json_gives(client: TestClient) -> None:
    files = [("images", (f"{number}.png", photo)) for number, photo in enumerate(PHOTOS)]
    by_form = client.post("/v1/classify", files=files, data={"labels": "cat,dog,owl", "top": "2", "anchors": "two"})
    by_request = client.post(
        "/v1/classify", files=files, data={"request": json.dumps({"labels": LABELS, "top": 2, "anchors": "two"})}
    )
    by_json = classify(client, top=2, anchors="two").json()["results"]
    assert by_form.status_code == by_request.status_code == 200
    for some in (by_form.json()["results"], by_request.json()["results"]):
        assert [each["image"] for each in some] == ["0.png", "1.png", "2.png"]
        assert [each["predictions"] for each in some] == [each["predictions"] for each in by_json]


def test_explain_names_anchors_whose_contributions_sum_to_the_score(client: TestClient) -> None:
    body = {"images": [as_base64(PHOTOS[0])], "labels": LABELS, "explain": 20}
    (result,) = client.post("/v1/explain", json=body).json()["results"]
    reasons = result["explanation"]
    total = sum(each["contribution"] for each in reasons["contributions"]) + reasons["remainder"]
    assert total + reasons.get("hubness", 0.0) == pytest.approx(result["predictions"][0]["score"], abs=1e-6)
    assert {"id", "captions", "contribution"} <= set(reasons["contributions"][0])
    assert result["credits"]["pairs"]


def test_an_image_that_cannot_be_read_does_not_stop_the_others(client: TestClient) -> None:
    images = [as_base64(PHOTOS[0]), as_base64(b"no image"), as_base64(PHOTOS[1])]
    results = client.post("/v1/classify", json={"images": images, "labels": LABELS}).json()["results"]
    assert [("error" in each) for each in results] == [False, True, False]


@pytest.mark.parametrize(
    "query",
    [
        {"texts": ["a dog"]},
        {"texts": ["2:a dog", "snow"], "minus": ["a cat"]},
        {"images": [as_base64(PHOTOS[0])]},
        {"images": [as_base64(PHOTOS[0])], "texts": ["a dog"]},
        {"ids": ["cats/1.png"]},
    ],
)
def test_search_answers_as_an_engine_does(client: TestClient, store: Path, query: dict[str, Any]) -> None:
    from asif.engine.search.query import Query

    given = {name: [PHOTOS[0]] if name == "images" else value for name, value in query.items()}
    given = {"items" if name == "ids" else name: value for name, value in given.items()}
    engine = Engine("one", home=store)
    (expected,) = engine.search("photos", queries=[Query.of(**given)], k=5, where="label = 'cats'", explain=2)
    body = {"queries": [query], "k": 5, "where": "label = 'cats'", "explain": 2}
    answer = client.post("/v1/search", json=body)
    (found,) = answer.json()["results"]
    assert [(each["id"], each["score"]) for each in found["results"]] == [
        (each.id, each.score) for each in expected.results
    ]
    assert found["searched"] == 4
    assert found["gallery"]["digest"] == Gallery("photos", home=store).digest
    assert found["results"][0]["uri"].endswith(found["results"][0]["id"])


def test_several_queries_are_answered_in_order(client: TestClient) -> None:
    body = {"queries": [{"texts": [text]} for text in ("a", "b", "a")], "k": 3}
    results = client.post("/v1/search", json=body).json()["results"]
    assert [each["query"] for each in results] == ["a", "b", "a"]
    assert results[0]["results"] == results[2]["results"] != results[1]["results"]


def test_embed_returns_the_vectors_of_the_encoders(client: TestClient, store: Path) -> None:
    answer = client.post("/v1/embed", json={"images": [as_base64(PHOTOS[0])], "texts": ["a", "b", "a"]}).json()
    engine = Engine("one", home=store)
    np.testing.assert_array_equal(
        np.float32([each["embedding"] for each in answer["texts"]]), engine.encode_texts(["a", "b", "a"]).values
    )
    np.testing.assert_array_equal(
        np.float32(answer["images"][0]["embedding"]), next(iter(engine.encode_images([PHOTOS[0]])))
    )
    assert answer["encoders"]["text"]["fingerprint"] == engine.anchors.fingerprint("text").digest


def test_lists_name_what_is_served(client: TestClient, store: Path) -> None:
    listed = client.get("/v1/anchors").json()["anchors"]
    assert [(each["name"], each["pairs"], each["up_to_date"]) for each in listed] == [
        ("one", 20, True),
        ("two", 24, True),
    ]
    (gallery,) = client.get("/v1/galleries").json()["galleries"]
    assert (gallery["name"], gallery["items"], gallery["kind"]) == ("photos", 8, "image")


def test_thumbnails_are_of_items_that_exist(client: TestClient) -> None:
    found = client.get("/v1/galleries/photos/thumbnail", params={"id": "cats/1.png"})
    assert (found.status_code, found.headers["content-type"]) == (200, "image/webp")
    assert client.get("/v1/galleries/photos/thumbnail", params={"id": "no"}).status_code == 404


def test_thumbnails_of_pairs_are_made_from_the_files_of_the_build(
    home: Path, fakes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home.parent / "pairs"
    folder.mkdir(parents=True)
    rows = []
    for number in range(3):
        (folder / f"{number}.png").write_bytes(draw_photo(number))
        rows.append(f"{number}.png,caption {number}")
    (folder / "metadata.csv").write_text("\n".join(["file_name,text", *rows]))
    anchors = build_anchors(folder, "own", home=home).anchors
    image, text = fakes
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: image)
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: text)
    with serve(ServeConfig(home, ("own",))) as client:
        for record in anchors:
            found = client.get("/v1/anchors/own/thumbnail", params={"id": record.id})
            assert (found.status_code, found.headers["content-type"]) == (200, "image/webp")
        assert client.get("/v1/anchors/own/thumbnail", params={"id": "none"}).status_code == 404
        (folder / "1.png").write_bytes(draw_photo(9))
        changed = next(record for record in anchors if record.captions == ("caption 1",))
        with serve(ServeConfig(home, ("own",))) as again:
            assert again.get("/v1/anchors/own/thumbnail", params={"id": changed.id}).status_code == 404


def test_a_swap_changes_what_a_name_means(client: TestClient, store: Path) -> None:
    two = Store(store).open("two")
    answer = client.post("/v1/anchors/one/swap", json={"ref": "two"})
    assert answer.status_code == 200
    assert (answer.json()["anchors"]["digest"], answer.json()["anchors"]["ref"]) == (two.digest, "two")
    assert classify(client, anchors="one").json()["results"][0]["anchors"]["digest"] == two.digest


@pytest.mark.parametrize(
    ("ref", "status"), [("nothing", 404), ("one@99", 404), ("other", 409), ("/etc", 422), ("../x", 422), ("Ä", 422)]
)
def test_a_swap_that_fails_leaves_the_old_anchors(client: TestClient, store: Path, ref: str, status: int) -> None:
    answer = client.post("/v1/anchors/one/swap", json={"ref": ref})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert str(store) not in answer.text
    assert classify(client).json()["results"][0]["anchors"]["digest"] == Store(store).open("one").digest


def test_a_swap_to_a_damaged_version_is_refused(client: TestClient, store: Path) -> None:
    damaged = Store(store).open("two")
    path = next((damaged.folder.path / "blocks").iterdir())
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])
    answer = client.post("/v1/anchors/one/swap", json={"ref": "two"})
    assert answer.status_code == 422, answer.text
    assert classify(client).status_code == 200


def test_a_pair_is_added_and_taken_out_with_a_receipt(client: TestClient, store: Path) -> None:
    before = Store(store).open("one")
    old = classify(client).json()["results"]
    pair = {"image": as_base64(PHOTOS[0]), "captions": ["a photo of an owl"], "id": "new/pair", "licence": "CC0"}
    added = client.post("/v1/anchors/one/pairs", json={"pairs": [pair]})
    assert added.status_code == 200, added.text
    assert added.json()["anchors"]["pairs"] == 21
    assert added.json()["ids"] == ["new/pair"]
    new = classify(client).json()["results"]
    assert new[0]["anchors"]["digest"] == added.json()["anchors"]["digest"] != before.digest
    assert new[0]["predictions"] != old[0]["predictions"]
    removed = client.delete("/v1/anchors/one/pairs/new/pair")
    assert removed.json()["anchors"]["digest"] == before.digest
    again = classify(client).json()["results"]
    assert [each["predictions"] for each in again] == [each["predictions"] for each in old]
    receipt = Receipt.from_bytes(removed.json()["receipt"].encode(), "receipt")
    assert receipt.after.digest == before.digest
    assert not Store(store).check_receipts("one", [receipt]).problems


def test_a_pair_by_form_and_a_replacement(client: TestClient, store: Path) -> None:
    def send(caption: str, **fields: str) -> Any:
        files = {"image": ("a.png", PHOTOS[1])}
        return client.post("/v1/anchors/one/pairs", files=files, data={"captions": caption, "id": "x", **fields})

    assert send("one").json()["anchors"]["pairs"] == 21
    assert send("two").status_code in (409, 422)
    assert send("two", replace="true").json()["anchors"]["pairs"] == 21
    (record,) = [each for each in Store(store).open("one") if each.id == "x"]
    assert record.captions == ("two",)


def test_a_pair_without_an_id_gets_one_by_its_content(client: TestClient, store: Path) -> None:
    pairs = [{"image": as_base64(photo), "captions": ["a"]} for photo in PHOTOS[:2]]
    added = client.post("/v1/anchors/one/pairs", json={"pairs": pairs}).json()
    assert added["anchors"]["pairs"] == 22
    assert set(added["ids"]) < {record.id for record in Store(store).open("one")}
    for name in added["ids"]:
        assert client.delete("/v1/anchors/one/pairs", params={"id": name}).status_code == 200
    again = client.post("/v1/anchors/one/pairs", json={"pairs": pairs}).json()
    assert again["ids"] == added["ids"]


@pytest.mark.parametrize("name", [".", "..", "a/b", "?", "%2e"])
def test_a_pair_of_any_id_can_be_taken_out(client: TestClient, name: str) -> None:
    pair = {"image": as_base64(PHOTOS[0]), "captions": ["a"], "id": name}
    assert client.post("/v1/anchors/one/pairs", json={"pairs": [pair]}).status_code == 200
    removed = client.delete("/v1/anchors/one/pairs", params={"id": name})
    assert removed.json()["anchors"]["pairs"] == 20


def test_a_purge_leaves_no_older_version(client: TestClient, store: Path) -> None:
    name = next(iter(Store(store).open("one"))).id
    answer = client.delete(f"/v1/anchors/one/pairs/{name}", params={"purge": "true"})
    assert json.loads(answer.json()["receipt"])["purged"] is True
    assert len(Store(store).log("one")) == 1
    assert client.delete(f"/v1/anchors/one/pairs/{name}").status_code == 404


def test_edits_need_the_current_version_of_one_set(client: TestClient, store: Path) -> None:
    version = Store(store).open("one").version
    assert client.post("/v1/anchors/one/swap", json={"ref": f"one@{version}"}).status_code == 200
    answer = client.delete("/v1/anchors/one/pairs/x")
    assert answer.status_code == 422
    assert "current version" in answer.json()["detail"]


def test_a_full_disk_is_told_and_changes_nothing(
    client: TestClient, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OutOfSpace(f"{store}/anchors/one is on a full disk", "4 MB", "free some")

    before = Store(store).open("one").digest
    with monkeypatch.context() as patch:
        patch.setattr("asif.anchorset.edit.transaction.commit_version", fail)
        answer = client.delete(f"/v1/anchors/one/pairs/{next(iter(Store(store).open('one'))).id}")
    assert (answer.status_code, answer.headers["content-type"]) == (507, "application/problem+json")
    assert str(store) not in answer.text
    assert classify(client).json()["results"][0]["anchors"]["digest"] == before == Store(store).open("one").digest


def test_expected_anchors_give_412_when_others_are_served(client: TestClient, store: Path) -> None:
    one, two = Store(store).open("one"), Store(store).open("two")
    body = {"images": [as_base64(PHOTOS[0])], "labels": LABELS}
    for expected, status in ((one.digest, 200), (f'"{one.version}", "{two.digest}"', 200), (two.digest, 412)):
        answer = client.post("/v1/classify", json=body, headers={"If-Anchors-Match": expected})
        assert answer.status_code == status


def test_of_two_edits_of_the_expected_anchors_one_is_made(client: TestClient, store: Path) -> None:
    one = Store(store).open("one")
    names = [record.id for record in one][:2]

    def remove(name: str) -> int:
        headers = {"If-Anchors-Match": one.digest}
        return client.delete(f"/v1/anchors/one/pairs/{name}", headers=headers).status_code

    with ThreadPoolExecutor(2) as pool:
        statuses = sorted(pool.map(remove, names))
    assert statuses[0] == 200
    assert statuses[1] in (409, 412)
    assert Store(store).open("one").count == one.count - 1


def test_an_update_by_another_process_is_followed(client: TestClient, store: Path) -> None:
    removed = Store(store).remove("one", [next(iter(Store(store).open("one"))).id])
    stop = time.monotonic() + 10
    while classify(client).json()["results"][0]["anchors"]["digest"] != removed.digest:
        assert time.monotonic() < stop
        time.sleep(0.02)


def test_metrics_count_requests_by_route_and_status(client: TestClient) -> None:
    classify(client)
    classify(client)
    client.post("/v1/classify", json={})
    text = client.get("/metrics").text
    assert 'asif_request_seconds_count{method="POST",route="classify",status="200"} 2.0' in text
    assert 'asif_request_seconds_count{method="POST",route="classify",status="422"} 1.0' in text
    assert 'asif_label_lists_total{result="cached"} 1.0' in text
    assert 'asif_label_lists_total{result="encoded"} 1.0' in text


def test_a_service_is_ready_when_aligners_are_fitted(store: Path) -> None:
    with serve(make_config(store)) as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        for slot in service.anchors.values():
            engine = slot.find_engine(OWNER)
            assert engine.role("classify").is_fitted and engine.role("search").is_fitted
    with serve(make_config(store, galleries=())) as client:
        (engine, *_) = (slot.find_engine(OWNER) for slot in client.app.state.service.anchors.values())  # type: ignore[attr-defined]
        assert engine.role("classify").is_fitted


def test_a_set_that_is_named_by_its_place_is_shown_by_its_name(store: Path) -> None:
    with serve(ServeConfig(store, (str(store / "anchors" / "one"),))) as client:
        listed = client.get("/v1/anchors")
        assert [(each["name"], each["ref"]) for each in listed.json()["anchors"]] == [("one", "one")]
        assert str(store) not in listed.text
