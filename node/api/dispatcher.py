"""The way of one request from its head to its answer."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from node.api.audit import AuditTrail
from node.api.authentication import Entrance
from node.api.call import (
    JSON,
    BodyKind,
    Call,
    NoBody,
    Result,
    Route,
    check_content_type,
    decode_json,
    decode_query,
    json_response,
)
from node.api.caller import Caller
from node.api.control import Control
from node.api.ending import while_entitled
from node.api.far import FarNodes
from node.api.params import Consistency, ReadQuery
from node.api.permissions import RULES, Rule, authorize, subject_of
from node.api.routes import ROUTES
from orca.errors import (
    InvalidRequestError,
    MethodNotAllowedError,
    NotAvailableError,
    NotFoundError,
    OrcaError,
    RateLimitedError,
    RemovedError,
)
from orca.http import Reply, Request, Response, StreamResponse, Upgrade, error_response

_OF_THE_NODE: Final = frozenset({"", "exec"})
"""What a node does by itself, also when its cluster has done without it: to answer, and to show what runs on it."""


class Dispatcher:
    """Finds a request's route, checks who asks and what it brings, and calls its handler."""

    def __init__(self, control: Control, trail: AuditTrail, far: FarNodes | None = None) -> None:
        self._control = control
        self._trail = trail
        self._far = far

    async def answer(self, entrance: Entrance, request: Request) -> Reply:
        """The route's reply; raises errors of the tree, and whatever a bug raises."""
        entrance.check(request)
        fitting = [(route, found) for route in ROUTES if (found := route.match(request.segments)) is not None]
        chosen = next((item for item in fitting if _takes(item[0], request.method)), None)
        rule = None if chosen is None else RULES.get(chosen[0].key)
        caller = Caller(actor="", origin=str(entrance.peer), role=None)
        if rule is None or rule.role is not None:
            try:
                caller = entrance.identify(request)
            except OrcaError as error:
                self._note_refusal(rule, caller, "" if chosen is None else subject_of(chosen[1], NoBody()), error)
                raise
        if not fitting:
            raise NotFoundError(f"there is no {request.path[:200]!r} here", hint=_near(request.path))
        if chosen is None:
            return _not_allowed(request, [route for route, _ in fitting])
        route, path = chosen
        call: Call[Any, Any] = Call(
            self._control,
            request,
            caller,
            path,
            NoBody(),
            NoBody(),
            far=None if caller.is_relayed else self._far,
            standing=entrance.standing(caller),
            subject=subject_of(path, NoBody()),
        )
        try:
            reply = await self._perform(call, route, rule)
        except OrcaError as error:
            self._note_refusal(rule, caller, call.subject, error)
            raise
        if rule is not None and rule.is_deed and not caller.is_relayed and not _is_refusal(reply):
            self._trail.did(caller, rule.action, call.subject)
        if isinstance(reply, StreamResponse) and caller.token is not None:
            return while_entitled(reply, call.standing)
        return reply

    async def _perform(self, call: Call[Any, Any], route: Route, rule: Rule | None) -> Reply:
        """Check the rest of `call`, and carry it out."""
        call.query = decode_query(call.request, route.query)
        authorize(call.caller, rule, call.path, call.query)
        if rule is not None and rule.action not in _OF_THE_NODE:
            self._control.trust.check_member()
        call.subject = subject_of(call.path, call.query)
        call.body = await _read_body(call.request, route)
        if isinstance(call.query, ReadQuery) and call.query.consistency is Consistency.LINEARIZABLE:
            await self._control.catch_up()
        return _as_reply(await route.handler(call), route)

    def _note_refusal(self, rule: Rule | None, caller: Caller, subject: str, error: OrcaError) -> None:
        """Tell the audit of a change that was refused here; the log itself tells of those that came to it.

        Of a flood, which `RateLimitedError` ends, what came before it is told. What could not be
        done at present is no refusal.
        """
        if rule is None or not rule.action or caller.is_relayed or error.is_recorded:
            return
        if error.is_definite and not isinstance(error, NotAvailableError | RateLimitedError | RemovedError):
            self._trail.refused(caller, rule.action, subject, error)


def _is_refusal(reply: Reply) -> bool:
    return isinstance(reply, Response) and reply.status >= 400


def _takes(route: Route, method: str) -> bool:
    """HEAD is answered wherever GET gives a whole answer (RFC 9110 §9.3.2)."""
    return method == route.method or (method == "HEAD" and route.method == "GET" and route.is_whole)


def _as_reply(result: Result, route: Route) -> Reply:
    if isinstance(result, (Response, StreamResponse, Upgrade)):
        return result
    return json_response(result, route.status)


async def _read_body(request: Request, route: Route) -> msgspec.Struct:
    if route.body is BodyKind.NONE and request.has_body:
        # An unread body would also keep a stream from noticing that its client left.
        raise InvalidRequestError(f"{route.method} {route.path} takes no body")
    if route.body in {BodyKind.NONE, BodyKind.RAW}:
        return NoBody()
    assert route.request is not None, f"{route.path} takes JSON and has no type for it"
    content = await request.read(route.body_bytes_max)
    if not content and route.body is BodyKind.JSON_OR_EMPTY:
        return route.request()
    check_content_type(request, (JSON,))
    return await decode_json(content, route.request)


def _not_allowed(request: Request, fitting: Sequence[Route]) -> Response:
    allowed = {route.method for route in fitting}
    if any(_takes(route, "HEAD") for route in fitting):
        allowed.add("HEAD")
    listed = ", ".join(sorted(allowed))
    error = MethodNotAllowedError(f"{request.path[:200]!r} does not take {request.method[:20]}; it takes {listed}")
    return error_response(error, headers=(("allow", listed),))


def _near(path: str) -> str:
    """The routes whose templates look most like `path`."""
    import difflib

    paths = list(dict.fromkeys(route.path for route in ROUTES))
    near = difflib.get_close_matches(path[:200], paths, n=3, cutoff=0.5)
    return f"near it: {', '.join(near)}" if near else "GET / lists all paths"
