"""Two tenants of one service: neither sees, or learns anything of, what is the other's."""

from __future__ import annotations

import json
import re
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from support.services import bearer, draw_photo, hash_inputs, make_config, make_store, serve

from asif.engine import Engine
from asif.service.keys import Grant, hash_key

LEFT = Grant(hash_key("left"), "left", "admin", anchors=("one",), galleries=("photos",), items_where="label = 'cats'")
RIGHT = Grant(
    hash_key("right"), "right", "admin", anchors=("two",), galleries=("photos",), items_where="label = 'dogs'"
)
SECRETS = {"left": ("two", "dogs/"), "right": ("one", "cats/")}
"""What must not be in an answer to a tenant, unless he wrote it himself."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with hash_inputs():
        store = make_store(tmp_path_factory.mktemp("tenants") / "home")
        with serve(make_config(store, grants=(LEFT, RIGHT))) as client:
            yield client


def search(client: TestClient, key: str, **fields: Any) -> Any:
    body = {"queries": [{"texts": ["a"]}], **fields}
    return client.post("/v1/search", json=body, headers=bearer(key))


def test_lists_have_what_the_tenant_may_see(shared: TestClient) -> None:
    for key, name in (("left", "one"), ("right", "two")):
        listed = shared.get("/v1/anchors", headers=bearer(key)).json()["anchors"]
        assert [each["name"] for each in listed] == [name]
        (gallery,) = shared.get("/v1/galleries", headers=bearer(key)).json()["galleries"]
        assert gallery["items"] == 4


def test_a_search_finds_and_counts_the_tenants_items_only(shared: TestClient) -> None:
    (found,) = search(shared, "left", k=100).json()["results"]
    assert len(found["results"]) == found["searched"] == 4
    assert all(each["id"].startswith("cats/") for each in found["results"])
    assert all(each["uri"] is None for each in found["results"])


@pytest.mark.parametrize(
    "where",
    [
        "label = 'dogs'",
        "label = 'cats' or label = 'dogs'",
        "id like '%'",
        "not (label = 'cats')",
        "uri like '%dogs%'",
    ],
)
def test_a_filter_never_reaches_items_of_others(shared: TestClient, where: str) -> None:
    answer = search(shared, "left", where=where, k=100)
    assert "dogs/" not in answer.text
    if answer.status_code == 200:
        assert answer.json()["results"][0]["searched"] <= 4


def test_a_filter_cannot_be_broken_out_of(shared: TestClient) -> None:
    for where in ("label = 'cats') or (label = 'dogs'", "true) or (true", "label = 'x' -- '"):
        answer = search(shared, "left", where=where)
        assert answer.status_code == 422
        assert "dogs/" not in answer.text


def test_an_empty_filter_does_not_name_values_of_others(shared: TestClient) -> None:
    answer = search(shared, "left", where="label = 'birds'")
    assert answer.status_code == 422
    assert "label: cats" in answer.text
    assert "dogs" not in answer.text


def test_an_item_of_another_tenant_answers_as_one_that_does_not_exist(shared: TestClient) -> None:
    def ask(name: str) -> tuple[int, str]:
        answer = shared.post("/v1/search", json={"queries": [{"ids": [name]}]}, headers=bearer("left"))
        return answer.status_code, normalise(answer.text.replace(name, "NAME"))

    assert ask("dogs/5.png") == ask("dogs/none.png")
    assert ask("cats/1.png")[0] == 200
    for name, status in (("cats/1.png", 200), ("dogs/5.png", 404), ("none", 404)):
        answer = shared.get("/v1/galleries/photos/thumbnail", params={"id": name}, headers=bearer("left"))
        assert answer.status_code == status


def normalise(text: str) -> str:
    return re.sub(r'"request_id": "[^"]*"', "", text)


ROUTES = (
    ("POST", "/v1/classify", {"images": [{"base64": "AAAA"}], "labels": ["a"], "anchors": "NAME"}),
    ("POST", "/v1/explain", {"images": [{"base64": "AAAA"}], "labels": ["a"], "anchors": "NAME"}),
    ("POST", "/v1/embed", {"texts": ["a"], "anchors": "NAME"}),
    ("POST", "/v1/search", {"queries": [{"texts": ["a"]}], "anchors": "NAME"}),
    ("POST", "/v1/search", {"queries": [{"texts": ["a"]}], "gallery": "NAME"}),
    ("POST", "/v1/anchors/NAME/swap", {"ref": "one"}),
    ("POST", "/v1/anchors/one/swap", {"ref": "NAME"}),
    ("POST", "/v1/anchors/one/swap", {"ref": "one+NAME"}),
    ("POST", "/v1/anchors/NAME/pairs", {"pairs": [{"image": {"base64": "AAAA"}, "captions": ["a"]}]}),
    ("DELETE", "/v1/anchors/NAME/pairs/x", None),
    ("GET", "/v1/galleries/NAME/thumbnail?id=x", None),
)


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_a_forbidden_name_answers_as_an_unknown_one(shared: TestClient, method: str, path: str, body: Any) -> None:
    def ask(name: str) -> tuple[int, str]:
        filled = None if body is None else json.loads(json.dumps(body).replace("NAME", name))
        answer = shared.request(method, path.replace("NAME", name), json=filled, headers=bearer("left"))
        return answer.status_code, normalise(answer.text).replace(name, "NAME")

    assert ask("two") == ask("tvo")
    assert ask("two")[0] == 404


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_answer_has_anything_of_the_other_tenant(shared: TestClient, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(SECRETS)))
    names = st.sampled_from(["one", "two", "photos", "one+two", "two@1", "other", "none", ""])
    wheres = st.sampled_from(
        [None, "label = 'cats'", "label = 'dogs'", "id >= ''", "not label = 'cats'", "caption like '%'", "bad ("]
    )
    method, path, body = data.draw(st.sampled_from(ROUTES))
    name, where = data.draw(names), data.draw(wheres)
    filled = None if body is None else json.loads(json.dumps(body).replace("NAME", name))
    if filled is not None and where is not None and "ref" not in filled and "texts" not in filled:
        filled["where"] = where
    if method == "DELETE" or path.endswith("pairs"):
        return  # edits change what the next example expects
    answer = shared.request(method, path.replace("NAME", name), json=filled, headers=bearer(key))
    written = json.dumps(filled) + path.replace("NAME", name)
    for secret in SECRETS[key]:
        assert secret in written or f'"{secret}' not in answer.text, answer.text
    assert answer.status_code < 500


def test_caches_of_texts_are_apart(shared: TestClient) -> None:
    home: Path = shared.app.state.service.config.home  # type: ignore[attr-defined]
    before = {path.name: path.stat().st_size for path in (home / "cache").glob("texts-*.sqlite")}
    for key in ("left", "right"):
        assert search(shared, key).status_code == 200
    caches = sorted((home / "cache").glob("texts-*.sqlite"))
    assert len(caches) == 2
    assert len(before) <= 2


def test_a_tenant_of_some_pairs_sees_these_alone_and_edits_none(store: Path) -> None:
    from asif.anchorset import Store

    first = next(iter(Store(store).open("one"))).id
    grant = Grant(hash_key("some"), "some", "edit", anchors=("one",), where=f"id != '{first}'")
    with serve(make_config(store, grants=(grant,))) as client:
        (listed,) = client.get("/v1/anchors", headers=bearer("some")).json()["anchors"]
        assert listed["pairs"] == 19
        assert client.delete(f"/v1/anchors/one/pairs/{first}", headers=bearer("some")).status_code == 403


@pytest.mark.usefixtures("hashing")
def test_calls_are_answered_while_changes_are_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = Grant(hash_key("ours"), "us", "admin")
    began, released = threading.Event(), threading.Event()
    prepare = Engine.prepare

    def wait(engine: Engine, *arguments: Any) -> Any:
        began.set()
        assert released.wait(30)
        return prepare(engine, *arguments)

    body = {"images": [{"base64": b64encode(draw_photo(1)).decode()}], "labels": ["cat", "dog"]}
    with serve(make_config(make_store(tmp_path / "home"), grants=(grant,))) as client, ThreadPoolExecutor(12) as pool:
        assert client.post("/v1/classify", json=body, headers=bearer("ours")).status_code == 200
        monkeypatch.setattr(Engine, "prepare", wait)
        route = "/v1/anchors/one/swap"
        swaps = [pool.submit(client.post, route, json={"ref": "two"}, headers=bearer("ours")) for _ in range(12)]
        try:
            assert began.wait(10)
            answers = [client.post("/v1/classify", json=body, headers=bearer("ours")) for _ in range(3)]
        finally:
            released.set()
        assert [each.status_code for each in answers] == [200, 200, 200]
        assert [each.result().status_code for each in swaps] == [200] * 12
