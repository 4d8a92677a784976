"""The listeners, and the way of one request from its head to its answer."""

import contextlib
import difflib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import trio

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
from node.api.control import Control
from node.api.failure import answer_failure
from node.api.guard import Guard, make_guard
from node.api.routes import ROUTES
from orca.errors import AddressInUseError, InvalidRequestError, MethodNotAllowedError, NotAvailableError, NotFoundError
from orca.http import (
    HttpLimits,
    Reply,
    Request,
    Response,
    StreamResponse,
    Upgrade,
    error_response,
    listen_unix,
    serve_http,
)

CONNECTIONS_MAX: Final = 512
REFUSAL_TIMEOUT_S: Final = 1.0
_PEER_CREDENTIALS: Final = struct.Struct("3i")


class ApiAddresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the API is reached."""

    tcp: tuple[tuple[str, int], ...]
    socket_path: str = ""


class ApiListen(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen: on `host`:`port`, on a unix socket, or both.

    `names` are what else this node is called in URLs; a loopback address refuses other
    names. Above `connections_max` connections, new ones get 503.
    """

    host: str | None = None
    port: int = 0
    socket_path: str | None = None
    names: tuple[str, ...] = ()
    connections_max: int = CONNECTIONS_MAX


async def serve_api(
    control: Control,
    listen: ApiListen,
    *,
    limits: HttpLimits | None = None,
    task_status: trio.TaskStatus[ApiAddresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; `started` gives where. Raises `AddressInUseError` before that."""
    api = _Api(control, limits or HttpLimits(), listen.connections_max)
    serving: list[tuple[trio.SocketListener, Callable[[trio.SocketStream], Awaitable[None]]]] = []
    tcp: list[tuple[str, int]] = []
    has_socket = False
    try:
        if listen.host is not None:
            for listener in await _listen_tcp(listen.host, listen.port):
                tcp.append(_address(listener))
                guard = make_guard(tcp[-1][0], (*listen.names, listen.host))
                serving.append((listener, partial(api.serve_tcp, guard)))
        if listen.socket_path is not None:
            serving.append((await listen_unix(listen.socket_path), api.serve_unix))
            has_socket = True
        async with trio.open_nursery() as nursery:
            for listener, serve in serving:
                await nursery.start(partial(trio.serve_listeners, serve, [listener]))
            task_status.started(ApiAddresses(tcp=tuple(tcp), socket_path=listen.socket_path or ""))
    finally:
        if has_socket and listen.socket_path is not None:
            with contextlib.suppress(OSError):  # its directory may be gone, then nothing is left to tidy up
                os.unlink(listen.socket_path)  # noqa: PTH108
        for listener, _ in serving:
            listener.socket.close()


class _Api:
    """What all connections share."""

    def __init__(self, control: Control, limits: HttpLimits, connections_max: int) -> None:
        self._dispatcher = Dispatcher(control)
        self._limits = limits
        self._connections_max = connections_max
        self._connections = 0

    async def serve_tcp(self, guard: Guard, stream: trio.SocketStream) -> None:
        try:
            name = stream.socket.getpeername()
        except OSError:  # it left before we looked
            await trio.aclose_forcefully(stream)
            return
        await self._serve(stream, guard, f"tcp:{name[0]}:{name[1]}")

    async def serve_unix(self, stream: trio.SocketStream) -> None:
        raw = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        _, uid, _ = _PEER_CREDENTIALS.unpack(raw)
        await self._serve(stream, None, f"unix:{uid}")

    async def _serve(self, stream: trio.SocketStream, guard: Guard | None, actor: str) -> None:
        if self._connections >= self._connections_max:
            await _refuse(stream, self._connections_max)
            return
        self._connections += 1
        try:
            await serve_http(
                stream,
                partial(self._dispatcher.answer, guard),
                limits=self._limits,
                peer=actor,
                on_error=answer_failure,
            )
        finally:
            self._connections -= 1


class Dispatcher:
    """Finds a request's route, checks what it brings, and calls its handler."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def answer(self, guard: Guard | None, request: Request) -> Reply:
        """The route's reply; raises errors of the tree, and whatever a bug raises."""
        if guard is not None:
            guard.check(request)
        fitting = [(route, found) for route in ROUTES if (found := route.match(request.segments)) is not None]
        if not fitting:
            raise NotFoundError(f"there is no {request.path[:200]!r} here", hint=_near(request.path))
        chosen = next((item for item in fitting if _takes(item[0], request.method)), None)
        if chosen is None:
            return _not_allowed(request, [route for route, _ in fitting])
        route, path = chosen
        query = decode_query(request, route.query)
        body = await _read_body(request, route)
        call: Call[Any, Any] = Call(self._control, request, request.peer, path, query, body)
        return _as_reply(await route.handler(call), route)


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
    paths = list(dict.fromkeys(route.path for route in ROUTES))
    near = difflib.get_close_matches(path[:200], paths, n=3, cutoff=0.5)
    return f"near it: {', '.join(near)}" if near else "GET / lists all paths"


async def _refuse(stream: trio.SocketStream, connections_max: int) -> None:
    """Say that the node is full, without reading, and close."""
    error = NotAvailableError(f"the node serves {connections_max} connections already", hint="try again in a moment")
    answer = error_response(error)
    head = f"HTTP/1.1 503 Service Unavailable\r\ncontent-length: {len(answer.body)}\r\nretry-after: 1\r\n"
    head += "content-type: application/json\r\nconnection: close\r\n\r\n"
    try:
        with trio.move_on_after(REFUSAL_TIMEOUT_S):
            await stream.send_all(head.encode("ascii") + answer.body)
            await stream.send_eof()
            # The request is still to be taken in: closing now would reset the connection under the answer.
            while await stream.receive_some():
                pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        await trio.aclose_forcefully(stream)


async def _listen_tcp(host: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise AddressInUseError(
            f"the API cannot listen on {host}:{port}: {error.strerror or error}",
            hint="another node or program uses it; choose another with --api-port or --port-offset",
        ) from error


def _address(listener: trio.SocketListener) -> tuple[str, int]:
    name = listener.socket.getsockname()
    return str(name[0]), int(name[1])
