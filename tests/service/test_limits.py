"""Limits and refusals: each with its status, as problem details, and nothing of the server in them."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from support.services import bearer, draw_photo, make_config, serve

from asif.service.config import Limits
from asif.service.keys import Grant, hash_key

PHOTO = {"base64": base64.b64encode(draw_photo(1)).decode()}
BODY: dict[str, Any] = {"images": [PHOTO], "labels": ["cat", "dog"]}
JSON = {"Content-Type": "application/json"}


def check_problem(answer: Any, status: int, home: Path | None = None) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert found["detail"]
    assert found["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    assert str(home or "/home/") not in answer.text
    return found


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b"\xff", JSON, 400),
        (b"[]", JSON, 422),
        (b"{}", JSON, 422),
        (json.dumps({**BODY, "labels": []}).encode(), JSON, 422),
        (json.dumps({**BODY, "labels": ["cat", "cat"]}).encode(), JSON, 422),
        (json.dumps({**BODY, "labels": ["1", "2"]}).encode(), JSON, 422),
        (json.dumps({**BODY, "labels": [" "]}).encode(), JSON, 422),
        (json.dumps({**BODY, "labels": ["\0"]}).encode(), JSON, 422),
        (json.dumps({**BODY, "top": "5"}).encode(), JSON, 422),
        (json.dumps({**BODY, "top": True}).encode(), JSON, 422),
        (json.dumps({**BODY, "more": 1}).encode(), JSON, 422),
        (json.dumps({**BODY, "templates": ["no place"]}).encode(), JSON, 422),
        (json.dumps({**BODY, "where": "nothing ="}).encode(), JSON, 422),
        (json.dumps({**BODY, "images": [{"base64": "%%%%"}]}).encode(), JSON, 422),
        (json.dumps({**BODY, "images": [{}]}).encode(), JSON, 422),
        (json.dumps({**BODY, "images": [{**PHOTO, "url": "https://x"}]}).encode(), JSON, 422),
        (json.dumps({**BODY, "anchors": "nothing"}).encode(), JSON, 404),
        (json.dumps({**BODY, "anchors": "../one"}).encode(), JSON, 404),
        (json.dumps({**BODY, "labels": ["\\ud800"]}).encode().replace(b"\\\\", b"\\"), JSON, 400),
        (json.dumps(BODY).encode(), {}, 415),
        (json.dumps(BODY).encode(), {"Content-Type": "text/plain"}, 415),
        (b"--x\r\nno form", {"Content-Type": "multipart/form-data"}, 400),
        (b"no form", {"Content-Type": "multipart/form-data; boundary=x"}, 400),
    ],
)
def test_what_makes_no_sense_is_refused(
    client: TestClient, store: Path, content: bytes, headers: dict[str, str], status: int
) -> None:
    check_problem(client.post("/v1/classify", content=content, headers=headers), status, store)


def test_every_fault_of_a_body_is_named(client: TestClient) -> None:
    found = check_problem(client.post("/v1/classify", json={"labels": [1], "top": 0, "x": 1}), 422)
    assert {each["at"] for each in found["errors"]} == {"images", "labels.0", "top", "x"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/classify", 405), ("PUT", "/v1/anchors", 405), ("GET", "/nothing", 404), ("GET", "/page/x", 404)],
)
def test_other_routes_and_methods_are_refused(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    check_problem(answer, status)
    assert status != 405 or answer.headers["allow"]


LIMITS = Limits(body_mb=0.02, images=2, megapixels=0.001, text_kb=0.1, results=5, labels=3, queries=2)


@pytest.mark.parametrize(
    ("route", "body", "status"),
    [
        ("classify", {**BODY, "images": [PHOTO] * 3}, 413),
        ("classify", {**BODY, "labels": ["a", "b", "c", "d"]}, 413),
        ("classify", {**BODY, "labels": ["a" * 200]}, 413),
        ("classify", {**BODY, "images": [{"base64": "A" * 20_000}]}, 413),
        ("search", {"queries": [{"texts": ["a"]}], "k": 6}, 413),
        ("search", {"queries": [{"texts": ["a"]}] * 3}, 413),
        ("search", {"queries": [{"texts": ["a"], "minus": ["b" * 200]}]}, 413),
        ("embed", {"texts": ["a"] * 4}, 413),
        ("anchors/one/pairs", {"pairs": [{"image": PHOTO, "captions": ["a"]}] * 3}, 413),
        ("search", {"queries": [{"texts": ["a"]}], "k": 5}, 200),
        ("classify", {**BODY, "labels": ["a", "b", "c"]}, 200),
    ],
)
def test_too_much_in_one_request_is_refused(store: Path, route: str, body: dict[str, Any], status: int) -> None:
    with serve(make_config(store, limits=LIMITS)) as client:
        answer = client.post(f"/v1/{route}", json=body)
        if status == 200:
            assert answer.status_code == 200, answer.text
        else:
            check_problem(answer, status)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(store: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(file, "PNG")
    with serve(make_config(store, limits=LIMITS)) as client:
        image = {"base64": base64.b64encode(file.getvalue()).decode()}
        (result,) = client.post("/v1/classify", json={**BODY, "images": [image]}).json()["results"]
    assert "50x50 pixels" in result["error"]


def test_a_body_that_is_longer_than_announced_ends_at_the_limit(store: Path) -> None:
    sent = []

    def pieces() -> Any:
        for _ in range(100):
            sent.append(1)
            yield b" " * 1_000

    with serve(make_config(store, limits=LIMITS)) as client:
        check_problem(client.post("/v1/classify", content=pieces(), headers=JSON), 413)


def test_a_url_is_not_fetched_unless_its_host_is_allowed(client: TestClient) -> None:
    images = [{"url": "http://127.0.0.1/x.png"}, {"url": "https://example.org/x.png"}]
    results = client.post("/v1/classify", json={**BODY, "images": images}).json()["results"]
    assert all("URL" in each["error"] for each in results)


# ---- keys


@pytest.mark.parametrize(
    ("key", "route", "status"),
    [
        (None, "GET /v1/anchors", 401),
        ("wrong", "GET /v1/anchors", 401),
        ("asif_read", "GET /v1/anchors", 200),
        ("asif_read", "POST /v1/anchors/one/pairs", 403),
        ("asif_read", "DELETE /v1/anchors/one/pairs/x", 403),
        ("asif_edit", "DELETE /v1/anchors/one/pairs/x", 404),
        ("asif_edit", "DELETE /v1/anchors/one/pairs/x?purge=true", 403),
        ("asif_edit", "POST /v1/anchors/one/swap", 403),
        ("asif_admin", "POST /v1/anchors/one/swap", 415),
        ("asif_edit", "GET /metrics", 403),
        ("asif_admin", "GET /metrics", 200),
        (None, "GET /metrics", 401),
        (None, "GET /healthz", 200),
        (None, "GET /readyz", 200),
        (None, "GET /openapi.json", 200),
        (None, "GET /", 200),
    ],
)
def test_each_route_needs_its_role(guarded: TestClient, key: str | None, route: str, status: int) -> None:
    method, path = route.split()
    answer = guarded.request(method, path, headers=bearer(key) if key else {})
    assert answer.status_code == status, answer.text
    assert status != 401 or answer.headers["www-authenticate"] == "Bearer"


def test_no_file_and_no_answer_has_a_key(guarded: TestClient, store: Path) -> None:
    guarded.get("/v1/anchors", headers=bearer("asif_read"))
    assert "asif_read" not in guarded.get("/metrics", headers=bearer("asif_admin")).text
    assert not [path for path in store.rglob("*") if path.is_file() and b"asif_read" in path.read_bytes()]


def test_a_quota_is_refused_with_the_time_to_wait(store: Path) -> None:
    grants = (Grant(hash_key("key"), "us", requests_per_minute=30),)
    with serve(make_config(store, grants=grants)) as client:
        answers = [client.get("/v1/anchors", headers=bearer("key")) for _ in range(5)]
    assert [each.status_code for each in answers] == [200, 200, 200, 429, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 2


# ---- browsers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "169.254.169.254"])
def test_a_local_service_answers_only_for_this_machine(client: TestClient, host: str) -> None:
    check_problem(client.get("/v1/anchors", headers={"Host": host}), 421)


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000"])
def test_a_local_service_answers_to_its_names(client: TestClient, host: str) -> None:
    assert client.get("/v1/anchors", headers={"Host": host}).status_code == 200


def test_pages_of_other_origins_may_not_call(client: TestClient) -> None:
    for origin in ("https://evil.example", "null", "http://localhost:9"):
        check_problem(client.post("/v1/classify", json=BODY, headers={"Origin": origin}), 403)
    assert client.post("/v1/classify", json=BODY, headers={"Origin": "http://localhost"}).status_code == 200


def test_answers_forbid_what_a_page_does_not_need(client: TestClient) -> None:
    headers = client.get("/").headers
    assert headers["x-content-type-options"] == "nosniff"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_given_request_id_is_kept_if_it_is_plain(client: TestClient) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": "abc-1_2"}).headers["x-request-id"] == "abc-1_2"
    for odd in ("a b", "x" * 200, "ü"):
        assert client.get("/healthz", headers={"X-Request-Id": odd.encode()}).headers["x-request-id"] != odd


# ---- the queue and the deadline


@dataclass
class SlowEncoder:
    """An encoder that waits to be released, and says when it began."""

    began: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def slow_encoder(monkeypatch: pytest.MonkeyPatch) -> SlowEncoder:
    """Make the image encoder wait until it is released."""
    from support.engine_sets import Fake

    from asif.vectors import Float32

    slow = SlowEncoder()
    forward = Fake.forward

    def wait(self: Fake, inputs: Sequence[Any]) -> Float32:
        if inputs and isinstance(inputs[0], bytes):
            slow.began.set()
            slow.released.wait(10)
        return forward(self, inputs)

    monkeypatch.setattr(Fake, "forward", wait)
    return slow


def test_what_does_not_fit_into_the_queue_is_refused_at_once(store: Path, slow_encoder: SlowEncoder) -> None:
    limits = Limits(queue_items=15)
    with serve(make_config(store, limits=limits)) as client, ThreadPoolExecutor(8) as pool:
        running = [pool.submit(client.post, "/v1/classify", json=BODY)]
        service = client.app.state.service  # type: ignore[attr-defined]
        assert slow_encoder.began.wait(10)
        running += [pool.submit(client.post, "/v1/classify", json=BODY) for _ in range(4)]
        wait_for(lambda: service.queue.items == 15)
        started = time.monotonic()
        refused = client.post("/v1/classify", json=BODY)
        assert time.monotonic() - started < 2
        check_problem(refused, 429)
        assert int(refused.headers["retry-after"]) >= 1
        for route in ("classify", "explain", "search", "embed"):  # before the body is read
            check_problem(client.post(f"/v1/{route}", content=b"none", headers={"Content-Type": "text/plain"}), 429)
        slow_encoder.released.set()
        assert [each.result().status_code for each in running] == [200] * 5
        assert client.post("/v1/classify", json=BODY).status_code == 200
        assert (service.queue.items, service.queue.bytes) == (0, 0)


def wait_for(holds: Any) -> None:
    stop = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < stop
        time.sleep(0.01)


def test_an_answer_that_takes_too_long_is_given_up(store: Path, slow_encoder: SlowEncoder) -> None:
    with serve(make_config(store, limits=Limits(deadline_s=0.3))) as client:
        check_problem(client.post("/v1/classify", json=BODY), 504)
        slow_encoder.released.set()
        wait_for(lambda: client.post("/v1/classify", json=BODY).status_code == 200)
        service = client.app.state.service  # type: ignore[attr-defined]
        assert (service.queue.items, service.queue.bytes) == (0, 0)


def test_requests_are_refused_while_the_service_drains(client: TestClient) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    service.is_draining = True
    answer = client.post("/v1/classify", json=BODY)
    check_problem(answer, 503)
    assert (answer.headers["retry-after"], answer.headers["connection"]) == ("2", "close")
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
