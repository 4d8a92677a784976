"""`GET /v1/allocations/{id}/exec`: a command inside a copy, over a WebSocket (RFC 6455).

To the node: binary frames are stdin; text frames are JSON, `{"resize":[rows,columns]}` or
`{"eof":true}`. From the node: binary frames are output behind one byte, 1 for stdout
and 2 for stderr; the last frame is text, `{"exit_code":N}` or `{"error":{…}}`.
"""

import base64
import binascii
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from node.api.call import Call, NoBody
from node.api.caller import Standing
from node.api.everywhere import open_session
from node.api.failure import to_known
from node.api.params import ExecQuery
from node.runtime.base import ExecRequest, ExecSession, LogStream
from node.selection import Placed, Selection
from orca.errors import ErrorBody, InvalidRequestError, OrcaError, to_body
from orca.http import Request, Response, Upgrade, error_response
from orca.model.ids import AllocationId, display_name

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

HANDSHAKE_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 2.0
HEARTBEAT_S: Final = 15.0
MESSAGE_BYTES_MAX: Final = 2**20
_FIRST_BYTE: Final = {LogStream.STDOUT: b"\x01", LogStream.STDERR: b"\x02"}


class ExecControl(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text frame to the node."""

    resize: tuple[int, int] | None = None
    eof: bool = False


class ExecEnd(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last frame from the node."""

    exit_code: int | None = None
    error: ErrorBody | None = None


async def open_exec(call: Call[ExecQuery, NoBody]) -> Upgrade | Response:
    """Take the connection over; 426 for a request that is no WebSocket handshake."""
    problem = _handshake_problem(call.request)
    if problem:
        refusal = InvalidRequestError(f"exec speaks WebSocket: {problem}", hint="use `orca exec`")
        return error_response(refusal, status=426, headers=(("upgrade", "websocket"), ("sec-websocket-version", "13")))
    query = call.query
    request = ExecRequest(
        command=query.command,
        tty=query.tty,
        stdin=query.stdin,
        user=query.user,
        env=dict(map(_variable, query.env)),
        rows=query.rows,
        columns=query.columns,
    )
    selection = Selection(allocation=AllocationId(call.path["id"]), projects=call.caller.projects)
    (copy,) = call.control.copies.placed(selection)
    call.subject = f"{display_name(copy.service)}.{copy.slot + 1}: {query.command[0]}"
    return Upgrade(run=partial(_serve, call, copy, request))


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals) or "\0" in text:
        raise InvalidRequestError(f"the query parameter env is {text[:80]!r}; it must be of the form NAME=value")
    return name, value


def _handshake_problem(request: Request) -> str:
    """What RFC 6455 §4.2.1 misses in `request`; empty when it is a handshake."""
    if "websocket" not in (request.header("upgrade") or "").lower():
        return "the field Upgrade does not say websocket"
    if "upgrade" not in (request.header("connection") or "").lower():
        return "the field Connection does not say upgrade"
    if request.header("sec-websocket-version") != "13":
        return "the field Sec-WebSocket-Version is not 13"
    try:
        key = base64.b64decode(request.header("sec-websocket-key") or "", validate=True)
    except binascii.Error:
        key = b""
    return "" if len(key) == 16 else "the field Sec-WebSocket-Key is not 16 bytes of base64"


async def _serve(call: Call[ExecQuery, NoBody], copy: Placed, request: ExecRequest, stream: trio.abc.Stream) -> None:
    # Imported with the first session: it costs 40 ms and 2 MB, which most nodes never need.
    from trio_websocket import ConnectionClosed, wrap_server_stream

    async with trio.open_nursery() as nursery:
        with contextlib.suppress(ConnectionClosed, trio.TooSlowError):
            with trio.fail_after(HANDSHAKE_TIMEOUT_S):
                proposal = await wrap_server_stream(nursery, stream, max_message_size=MESSAGE_BYTES_MAX)
                websocket = await proposal.accept()
            end = await _session(call, websocket, copy, request)
            if end is not None:
                with trio.move_on_after(CLOSE_TIMEOUT_S):
                    await websocket.send_message(msgspec.json.encode(end).decode())
                    await websocket.aclose()
        nursery.cancel_scope.cancel()


async def _session(
    call: Call[ExecQuery, NoBody], websocket: "WebSocketConnection", copy: Placed, request: ExecRequest
) -> ExecEnd | None:
    """How the command ended; None when the client left."""
    try:
        async with open_session(call, copy, request) as session:
            # Nothing is raised through the context, which may hold a nursery that would wrap it.
            return await _Relay(call.request, websocket, session, call.standing).run()
    except Exception as error:  # noqa: BLE001 - the boundary: told to the client, logged when it is a bug
        return ExecEnd(error=to_body(to_known(call.request, error)))


class _Relay:
    """Carries frames between a WebSocket and a session until the command or the client is gone."""

    def __init__(
        self, http: Request, websocket: "WebSocketConnection", session: ExecSession, standing: Standing
    ) -> None:
        self._standing = standing
        self._http = http
        self._websocket = websocket
        self._session = session
        self._end: ExecEnd | None = None

    async def run(self) -> ExecEnd | None:
        """How it ended; None when the client left."""
        async with trio.open_nursery() as nursery:
            for task in (self._carry_input, self._carry_output, self._heartbeat, self._watch_standing):
                nursery.start_soon(self._until_done, task, nursery.cancel_scope)
        return self._end

    async def _until_done(self, task: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        from trio_websocket import ConnectionClosed

        try:
            await task()
        except ConnectionClosed:
            pass
        except Exception as error:  # noqa: BLE001 - the boundary, as above
            self._end = ExecEnd(error=to_body(to_known(self._http, error)))
        scope.cancel()

    async def _carry_output(self) -> None:
        while (piece := await self._session.receive()) is not None:
            stream, chunk = piece
            await self._websocket.send_message(_FIRST_BYTE[stream] + chunk)
        self._end = ExecEnd(exit_code=await self._session.exit_code())

    async def _carry_input(self) -> None:
        takes_input = True
        while True:
            message = await self._websocket.get_message()
            # A command that has closed its input is no failure: what comes is read on, so
            # that the client's leaving is still seen, and dropped.
            if isinstance(message, str):
                await self._obey(message)
            elif takes_input:
                try:
                    await self._session.send(message)
                except OrcaError:
                    takes_input = False

    async def _obey(self, text: str) -> None:
        try:
            order = msgspec.json.decode(text, type=ExecControl)
        except msgspec.DecodeError as error:
            raise InvalidRequestError(
                f'a text frame is wrong: {error}; write {{"resize":[rows,columns]}} or {{"eof":true}}'
            ) from error
        if order.resize is not None:
            rows, columns = order.resize
            if not (1 <= rows <= 10_000 and 1 <= columns <= 10_000):
                raise InvalidRequestError(f"a terminal of {rows} rows and {columns} columns cannot be; 1 to 10000 can")
            await self._session.resize(rows, columns)
        if order.eof:
            await self._session.close_stdin()

    async def _heartbeat(self) -> None:
        """Unasked pongs (RFC 6455 §5.5.3): writing is how the loss of a silent client shows.

        Pings would need an answer, which waits behind input that a command does not read.
        """
        while True:
            await trio.sleep(HEARTBEAT_S)
            await self._websocket.pong()

    async def _watch_standing(self) -> None:
        """Nobody goes on inside after the right to it has ended."""
        raise await self._standing()
