"""The description of the API: calls that are drawn from it are answered as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from support.services import bearer, hash_inputs, listen, make_config, make_grants, make_store

from asif.service.app import ENDPOINTS
from asif.service.config import Limits
from asif.service.openapi import describe_api

OPERATIONS = [
    (path, method) for path, of in describe_api(Limits())["paths"].items() for method in of if method != "parameters"
]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return the description of a running service with keys."""
    with hash_inputs():
        store = make_store(tmp_path_factory.mktemp("openapi") / "home")
        with listen(make_config(store, grants=make_grants())) as url:
            yield schemathesis.openapi.from_url(f"{url}/openapi.json")


MORE_THAN_A_SCHEMA = {"ClassifyBody", "ExplainBody", "SearchBody", "PairsBody", "SwapBody"}
"""Bodies with labels that must not be numbers, expressions, references, images: a schema cannot say what these are."""


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_as_described(described: Any, path: str, method: str, mode: GenerationMode) -> None:
    body = describe_api(Limits())["paths"][path][method].get("requestBody")
    cases = described[path][method].as_strategy(generation_mode=mode)

    @given(case=cases)
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def check(case: Any) -> None:
        says_more = any(name in str(body) for name in MORE_THAN_A_SCHEMA) or "If-Anchors-Match" in (case.headers or {})
        excluded = [positive_data_acceptance] if says_more else []
        case.call_and_validate(headers=bearer("asif_admin"), excluded_checks=excluded)

    try:
        check()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # a call without anything that could be wrong


def test_every_route_is_described() -> None:
    described = describe_api(Limits())["paths"]
    routes = {
        (method.lower(), path.replace("{id:path}", "{id}"))
        for method, path, _ in ENDPOINTS
        if not path.startswith("/page") and path not in ("/", "/openapi.json")
    }
    assert routes == {(method, path) for path, of in described.items() for method in of if method != "parameters"}
