"""The document says what the server does: structure, references, routes and codes."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from node.api import handlers
from node.api.call import BodyKind
from node.api.openapi import make_document, route_errors
from node.api.routes import ROUTES
from orca.errors import error_classes

DOCUMENT = make_document(ROUTES)


def walk(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from walk(child)
    elif isinstance(value, list):
        for child in value:
            yield from walk(child)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_reference_resolves() -> None:
    references = [found["$ref"] for found in walk(DOCUMENT) if "$ref" in found]
    assert len(references) > 100
    for reference in references:
        found: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found, reference


def test_every_route_is_there_once_with_a_unique_id() -> None:
    assert {(path, method.upper()) for path, method, _ in operations()} == {(r.path, r.method) for r in ROUTES}
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names) == len(ROUTES)


def test_the_agreed_surface_is_served() -> None:
    assert {f"{route.method} {route.path}" for route in ROUTES} == {
        "GET /", "GET /healthz", "GET /v1/openapi.json", "GET /v1/status", "GET /v1/node", "GET /v1/services",
        "GET /v1/alerts", "GET /v1/alerts/rules", "POST /v1/alerts/ack", "POST /v1/alerts/resolve",
        "GET /v1/silences", "POST /v1/silences", "DELETE /v1/silences/{silence}",
        "GET /v1/channels", "PUT /v1/channels/{channel}", "DELETE /v1/channels/{channel}",
        "POST /v1/channels/{channel}/test",
        "GET /v1/doctor", "GET /v1/secrets", "PUT /v1/secrets", "DELETE /v1/secrets", "POST /v1/secrets/rotate",
        "GET /v1/services/{project}/{name}", "DELETE /v1/services/{project}/{name}",
        "GET /v1/services/{project}/{name}/history", "POST /v1/services/{project}/{name}/scale",
        "POST /v1/services/{project}/{name}/stop", "POST /v1/services/{project}/{name}/start",
        "GET /metrics", "POST /v1/services/{project}/{name}/promote", "POST /v1/services/{project}/{name}/pause",
        "POST /v1/services/{project}/{name}/resume",
        "POST /v1/services/{project}/{name}/restart", "POST /v1/services/{project}/{name}/rollback",
        "GET /v1/series", "GET /v1/locks", "POST /v1/locks", "DELETE /v1/locks/{project}",
        "POST /v1/deploys", "POST /v1/plan", "GET /v1/allocations", "GET /v1/watch", "GET /v1/events", "GET /v1/logs",
        "GET /v1/stats", "GET /v1/allocations/{id}/exec", "PUT /v1/blobs/{digest}", "HEAD /v1/blobs/{digest}",
        "POST /v1/builds", "GET /v1/nodes", "GET /v1/quorum", "POST /v1/quorum/recover", "GET /v1/gossip",
        "POST /v1/gossip/pause", "POST /v1/gossip/resume",
        "POST /v1/gossip/events", "GET /v1/gossip/keys", "GET /v1/gossip/key", "POST /v1/gossip/keys/rotate",
        "GET /v1/tokens", "POST /v1/tokens", "DELETE /v1/tokens/{token}",
        "GET /v1/nodes/{node}", "POST /v1/nodes/{node}/label", "POST /v1/nodes/{node}/cordon",
        "POST /v1/nodes/{node}/drain", "POST /v1/nodes/{node}/undrain", "GET /v1/services/{project}/{name}/why",
        "DELETE /v1/nodes/{node}", "POST /v1/leave",
        "GET /v1/ca", "POST /v1/ca/rotate", "GET /v1/ready",
        "GET /v1/api-tokens", "POST /v1/api-tokens", "DELETE /v1/api-tokens/{id}", "GET /v1/audit",
    }  # fmt: skip


def test_every_documented_code_exists_in_the_tree_with_that_status() -> None:
    classes = error_classes()
    for path, method, operation in operations():
        for status, answer in operation["responses"].items():
            for code in answer.get("x-error-codes", ()):
                assert classes[code].http_status == int(status), f"{method} {path}: {code}"


def test_every_variable_of_a_path_is_described() -> None:
    for path, method, operation in operations():
        described = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
        assert described == set(re.findall(r"\{(\w+)\}", path)), f"{method} {path}"


def test_every_parameter_has_a_type_and_is_never_null() -> None:
    for path, method, operation in operations():
        for parameter in operation.get("parameters", ()):
            assert parameter["schema"]["type"] in {"string", "integer", "boolean", "array"}, f"{method} {path}"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_has_a_summary_and_a_type_for_each_body_it_decodes(route: Any) -> None:
    assert route.summary
    assert route.errors is not None
    assert len(route_errors(route)) >= 3
    if route.body in {BodyKind.JSON, BodyKind.JSON_OR_EMPTY}:
        assert route.request is not None


def test_the_media_types_of_a_deploy_are_documented() -> None:
    content = DOCUMENT["paths"]["/v1/deploys"]["post"]["requestBody"]["content"]
    assert tuple(content) == handlers.SPECS_MEDIA
