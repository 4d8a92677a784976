"""The table of routes as an OpenAPI 3.1 document. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from node.api.call import BodyKind, Route, is_repeatable
from node.api.permissions import RULES
from orca.errors import (
    ErrorEnvelope,
    ForbiddenError,
    InvalidRequestError,
    OrcaError,
    PayloadTooLargeError,
    RateLimitedError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from orca.model.event import NodeEvent

JSON: Final = "application/json"
REF: Final = "#/components/schemas/{name}"
API_VERSION: Final = "1"
Object = dict[str, Any]

_ABOUT: Final = (
    "Every node serves the same API and answers from what it knows: each answer says who observed it and how old "
    'that is. Errors have one shape, `{"error": {code, message, hint, problems, is_definite}}`, with stable codes; '
    "`is_definite` says that the change certainly did not happen. A change may carry a `request_id`: repeated under "
    "the same id it is made once. Who calls shows an API token; without one come the owner of the node and root by its "
    "unix socket, and programs of its computer where it trusts them. `x-orca-role` is what a route needs."
)
_SCHEMES: Final[Object] = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "orca-api-<id>-<secret>",
        "description": "An API token with a role (viewer, deployer, admin), and perhaps limited to some projects.",
    }
}


def make_document(routes: Iterable[Route]) -> Object:
    """The document: one operation a route, schemas from the same structs that decode and encode."""
    table = tuple(routes)
    bodies = {kind for route in table for kind in (route.reply, route.request) if kind is not None}
    kinds = [ErrorEnvelope, NodeEvent, *sorted(bodies, key=lambda kind: kind.__name__)]
    _, components = msgspec.json.schema_components(kinds, ref_template=REF)
    paths: dict[str, Object] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Orca node API", "version": API_VERSION, "description": _ABOUT},
        "paths": paths,
        "components": {"schemas": dict(sorted(components.items())), "securitySchemes": _SCHEMES},
        "security": [{"token": []}],
    }


def route_errors(route: Route) -> tuple[type[OrcaError], ...]:
    """What a call of `route` may be answered with besides its reply, each class once."""
    found: dict[type[OrcaError], None] = {InvalidRequestError: None, ForbiddenError: None}
    if _is_closed(route):
        found |= {UnauthorizedError: None, RateLimitedError: None}
    if route.body is not BodyKind.NONE:
        found[PayloadTooLargeError] = None
    if route.body in {BodyKind.JSON, BodyKind.JSON_OR_EMPTY}:
        found[UnsupportedMediaTypeError] = None
    found.update(dict.fromkeys(route.errors))
    found[OrcaError] = None
    return tuple(found)


def _is_closed(route: Route) -> bool:
    rule = RULES.get(route.key)
    return rule is None or rule.role is not None


def _security(route: Route) -> Object:
    """What a route needs of its caller."""
    rule = RULES.get(route.key)
    if rule is None or rule.role is None:
        return {"security": []}
    return {"x-orca-role": rule.role.value, "x-orca-scope": rule.scope.value}


def _operation(route: Route) -> Object:
    operation: Object = {
        **_security(route),
        "operationId": f"{route.method.lower()}_{route.handler.__name__}",
        "summary": route.summary,
        "tags": [route.tag],
        "responses": {
            str(route.status): _success(route),
            **{str(status): {"description": meaning} for status, meaning in route.other_statuses.items()},
            **_failures(route),
        },
    }
    parameters = [*_path_parameters(route), *_query_parameters(route)]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not BodyKind.NONE:
        operation["requestBody"] = _request_body(route)
    return operation


def _success(route: Route) -> Object:
    response: Object = {"description": route.summary}
    if route.reply is not None:
        response["content"] = {route.reply_media: {"schema": _ref(route.reply)}}
        if route.path == "/v1/events":
            response["content"]["text/event-stream"] = {"schema": _ref(NodeEvent)}
    elif route.reply_media and route.status != 101:
        response["content"] = {route.reply_media: {}}
    return response


def _failures(route: Route) -> dict[str, Object]:
    by_status: dict[int, list[type[OrcaError]]] = {}
    for kind in route_errors(route):
        by_status.setdefault(kind.http_status, []).append(kind)
    return {
        str(status): {
            "description": " ".join(f"`{kind.code}`: {_first_line(kind)}" for kind in kinds),
            "content": {JSON: {"schema": _ref(ErrorEnvelope)}},
            "x-error-codes": [kind.code for kind in kinds],
        }
        for status, kinds in sorted(by_status.items())
    }


def _path_parameters(route: Route) -> list[Object]:
    return [
        {"name": name, "in": "path", "required": True, "description": meaning, "schema": {"type": "string"}}
        for name, meaning in route.variables.items()
    ]


def _query_parameters(route: Route) -> list[Object]:
    fields = msgspec.structs.fields(route.query)
    if not fields:
        return []
    _, components = msgspec.json.schema_components([route.query], ref_template=REF)
    schemas: Mapping[str, Object] = components[route.query.__name__]["properties"]
    return [_query_parameter(field, _inlined(schemas[field.encode_name], components)) for field in fields]


def _inlined(schema: Object, components: Mapping[str, Object]) -> Object:
    """`schema` with the choices of an enum in it: nothing else is referred to by a parameter."""
    if "$ref" not in schema:
        return schema
    choices = components[schema["$ref"].rpartition("/")[2]]["enum"]
    kept = {key: value for key, value in schema.items() if key != "$ref"}
    return {**kept, "type": "string", "enum": choices}


def _query_parameter(field: msgspec.structs.FieldInfo, schema: Object) -> Object:
    schema = dict(schema)
    if "anyOf" in schema:  # an optional one: absent, never null
        default = schema.pop("default", None)
        (schema,) = (dict(choice) for choice in schema["anyOf"] if choice != {"type": "null"})
        if default is not None:
            schema["default"] = default
    parameter: Object = {"name": field.encode_name, "in": "query", "required": field.required}
    if "description" in schema:
        parameter["description"] = schema.pop("description")
    if is_repeatable(field):
        parameter |= {"style": "form", "explode": True}
    return {**parameter, "schema": schema}


def _request_body(route: Route) -> Object:
    content: dict[str, Object] = {}
    for media in route.body_media:
        has_schema = media == JSON and route.request is not None
        content[media] = {"schema": _ref(route.request)} if has_schema and route.request is not None else {}
    return {"required": route.body is not BodyKind.JSON_OR_EMPTY, "content": content}


def _ref(kind: type[msgspec.Struct]) -> Object:
    return {"$ref": REF.format(name=kind.__name__)}


def _first_line(kind: type[OrcaError]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]
