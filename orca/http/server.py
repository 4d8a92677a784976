"""The server's half: one connection, one task, one request after another."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias

import h11
import trio

from orca.errors import InvalidRequestError, OrcaError, PayloadTooLargeError
from orca.http.messages import Headers, HttpLimits, Reply, Request, Response, StreamResponse, Upgrade, error_response

Handler: TypeAlias = Callable[[Request], Awaitable[Reply]]
OnError: TypeAlias = Callable[[Request | None, Exception], Response]
"""Makes the answer for what a handler raised, and logs it if nobody else will."""

RECEIVE_BYTES: Final = 16 * 1024
SEND_BYTES: Final = 64 * 1024
HELD_BYTES_MAX: Final = 64 * 1024
DRAINED_BYTES_MAX: Final = 64 * 1024
DRAIN_TIMEOUT_S: Final = 1.0
LINGER_TIMEOUT_S: Final = 2.0
_BODILESS: Final = frozenset({204, 304})


class _ClientGoneError(Exception):
    """The connection is of no more use: the client left, or takes nothing."""


def answer_error(request: Request | None, error: Exception) -> Response:
    """The plainest `OnError`: the error's own answer, and 500 for what is not in the tree."""
    return error_response(error if isinstance(error, OrcaError) else OrcaError("the server failed to answer"))


async def serve_http(
    stream: trio.abc.Stream,
    handler: Handler,
    *,
    limits: HttpLimits | None = None,
    peer: str = "",
    on_error: OnError = answer_error,
) -> None:
    """Serve the requests of one connection until either side ends it, then close it.

    Whatever the client sends or `handler` raises ends in an answer or in the end of
    this connection, never in an exception; only cancellation passes through.
    """
    connection = _Connection(stream, limits or HttpLimits(), peer, on_error)
    try:
        while await connection.serve_one(handler):
            pass
    except _ClientGoneError:
        pass
    finally:
        await trio.aclose_forcefully(stream)


class _Connection:
    def __init__(self, stream: trio.abc.Stream, limits: HttpLimits, peer: str, on_error: OnError) -> None:
        self._stream = stream
        self._limits = limits
        self._peer = peer
        self._on_error = on_error
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes_max)
        self._held = b""
        self._body_read = trio.Event()
        self._body_bytes = 0

    async def serve_one(self, handler: Handler) -> bool:
        """Whether the connection can take another request."""
        try:
            head = await self._read_head()
        except h11.RemoteProtocolError as error:
            answer = InvalidRequestError(f"this is not HTTP/1.1 as RFC 9112 has it: {error}")
            await self._respond(error_response(answer, status=error.error_status_hint), method="GET")
            return await self._finish()
        except trio.TooSlowError:
            slow = InvalidRequestError(f"the head of the request was not whole after {self._limits.head_timeout_s:g} s")
            await self._respond(error_response(slow, status=408), method="GET")
            return await self._finish()
        if head is None:
            return False
        method = head.method.decode("ascii")
        request: Request | None = None
        reply: Reply
        try:
            request = self._request(head)
            reply = await handler(request)
        except _ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: whatever a handler raises is answered
            reply = self._on_error(request, error)
        return await self._reply(request, head, reply, method)

    async def _reply(self, request: Request | None, head: h11.Request, reply: Reply, method: str) -> bool:
        match reply:
            case Response():
                await self._respond(reply, method)
            case StreamResponse():
                await self._respond_stream(request, reply, method)
            case Upgrade():
                await self._upgrade(request, head, reply)
                return False
        return await self._finish()

    # Reading

    async def _read_head(self) -> h11.Request | None:
        """The next head; None when the client ended the connection or stayed idle.

        Raises h11's error and `trio.TooSlowError`.
        """
        if not self._held and not self._h11.trailing_data[0]:
            with trio.move_on_after(self._limits.idle_timeout_s) as scope:
                await self._fill()
            if scope.cancelled_caught:
                return None
        with trio.fail_after(self._limits.head_timeout_s):
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                await self._fill()
        if not isinstance(event, h11.Request):
            return None
        size = len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers)
        if size > self._limits.head_bytes_max:
            message = f"the head has {size} bytes; at most {self._limits.head_bytes_max} are taken"
            raise h11.RemoteProtocolError(message, error_status_hint=431)
        self._body_read = trio.Event()
        self._body_bytes = 0
        if not any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in event.headers
        ):
            self._h11.next_event()  # the end of a message that has no body
            self._body_read.set()
        return event

    async def _fill(self) -> None:
        """Give h11 more bytes, or the end of the stream."""
        received, self._held = self._held, b""
        if not received:
            try:
                received = bytes(await self._stream.receive_some(RECEIVE_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise _ClientGoneError from error
        self._h11.receive_data(received)

    def _request(self, head: h11.Request) -> Request:
        headers: Headers = tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers)
        return Request(head.method.decode("ascii"), head.target.decode("ascii"), headers, self._peer, _Body(self))

    async def body_piece(self) -> bytes:
        """The next piece of the body; empty at its end. Raises `InvalidRequestError`."""
        if self._body_read.is_set():
            return b""
        try:
            with trio.fail_after(self._limits.body_timeout_s):
                while (event := self._h11.next_event()) is h11.NEED_DATA:
                    if self._h11.they_are_waiting_for_100_continue:
                        await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                    await self._fill()
        except trio.TooSlowError as error:
            raise InvalidRequestError(
                f"nothing more of the body came for {self._limits.body_timeout_s:g} s after {self._body_bytes} bytes"
            ) from error
        except h11.RemoteProtocolError as error:
            raise InvalidRequestError(f"the body broke off after {self._body_bytes} bytes: {error}") from error
        if isinstance(event, h11.Data):
            self._body_bytes += len(event.data)
            return bytes(event.data)
        self._body_read.set()
        return b""

    # Writing

    async def _send(self, *events: h11.Event) -> None:
        """Put `events` on the wire; raises `_ClientGoneError` when the client takes nothing."""
        pieces = b"".join(self._h11.send(event) or b"" for event in events)
        view = memoryview(pieces)
        try:
            for start in range(0, len(view), SEND_BYTES):
                with trio.fail_after(self._limits.send_timeout_s):
                    await self._stream.send_all(view[start : start + SEND_BYTES])
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            raise _ClientGoneError from error

    async def _respond(self, reply: Response, method: str) -> None:
        await self._drain()
        if self._h11.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            raise _ClientGoneError
        headers = list(reply.headers)
        if reply.status not in _BODILESS:
            headers.append(("content-length", str(len(reply.body))))
        events: list[h11.Event] = [self._head(reply.status, headers)]
        if method != "HEAD" and reply.status not in _BODILESS:
            events.append(h11.Data(data=reply.body))
        await self._send(*events, h11.EndOfMessage())

    def _head(self, status: int, headers: list[tuple[str, str]]) -> h11.Response:
        if self._h11.their_state is not h11.DONE and not any(name == "connection" for name, _ in headers):
            headers.append(("connection", "close"))
        return h11.Response(status_code=status, headers=[(k.encode("ascii"), v.encode("latin-1")) for k, v in headers])

    async def _respond_stream(self, request: Request | None, reply: StreamResponse, method: str) -> None:
        is_begun = False
        failure: Exception | None = None
        try:
            async with reply.content as pieces:
                # From here nothing may be raised through the context: one that holds a
                # nursery would wrap it in a group, and its owner would see our troubles.
                is_begun = True
                failure = await self._pump(reply, pieces, method)
        except Exception as error:  # noqa: BLE001 - the boundary, as above
            if not is_begun:
                await self._respond(self._on_error(request, error), method)
                return
            failure = error
        if failure is None:
            await self._send(h11.EndOfMessage())
            return
        if not isinstance(failure, _ClientGoneError):
            self._on_error(request, failure)
        raise _ClientGoneError from failure

    async def _pump(self, reply: StreamResponse, pieces: AsyncIterator[bytes], method: str) -> Exception | None:
        """Send the head and all pieces; what stopped it, or None."""
        failure: Exception | None = _ClientGoneError()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            try:
                if self._h11.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                await self._send(self._head(reply.status, list(reply.headers)))
                if method != "HEAD":
                    async for piece in pieces:
                        await self._send(h11.Data(data=piece))
                failure = None
            except Exception as error:  # noqa: BLE001 - handed to `on_error`
                failure = error
            nursery.cancel_scope.cancel()
        return failure

    async def _watch(self, scope: trio.CancelScope) -> None:
        """Cancel `scope` when the client leaves; keep what else it sends for later.

        Waits for the end of the request's body first: until then its reader owns the stream.
        """
        await self._body_read.wait()
        while len(self._held) < HELD_BYTES_MAX:
            try:
                received = await self._stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                received = b""
            if not received:
                scope.cancel()
                return
            self._held += received

    async def _upgrade(self, request: Request | None, head: h11.Request, reply: Upgrade) -> None:
        lines = [b"%s %s HTTP/1.1" % (bytes(head.method), bytes(head.target))]
        lines += [b"%s: %s" % (bytes(name), bytes(value)) for name, value in head.headers.raw_items()]
        first = b"\r\n".join(lines) + b"\r\n\r\n" + self._h11.trailing_data[0] + self._held
        try:
            await reply.run(_PrefixedStream(first, self._stream))
        except Exception as error:  # noqa: BLE001 - the boundary, as above
            self._on_error(request, error)

    # Between requests

    async def _drain(self) -> None:
        """Take what is left of a small body, so that the connection can be kept.

        A client that waits for `100 Continue` sends none; a large rest is not worth it.
        """
        if self._h11.their_state is not h11.SEND_BODY or self._h11.they_are_waiting_for_100_continue:
            return
        seen = 0
        with trio.move_on_after(DRAIN_TIMEOUT_S):
            while not self._body_read.is_set() and seen <= DRAINED_BYTES_MAX:
                try:
                    seen += len(await self.body_piece())
                except (InvalidRequestError, PayloadTooLargeError):
                    return

    async def _finish(self) -> bool:
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            return True
        if self._h11.their_state in {h11.SEND_BODY, h11.ERROR, h11.IDLE}:
            await self._linger()
        return False

    async def _linger(self) -> None:
        """Read on for a moment after our last byte.

        Closing a socket with unread bytes sends a reset, which can destroy the answer
        before the client has read it (RFC 9112 §9.6).
        """
        if not isinstance(self._stream, trio.abc.HalfCloseableStream):
            return
        with trio.move_on_after(LINGER_TIMEOUT_S):
            try:
                await self._stream.send_eof()
                while await self._stream.receive_some(SEND_BYTES):
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return


class _Body(AsyncIterator[bytes]):
    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def __anext__(self) -> bytes:
        piece = await self._connection.body_piece()
        if not piece:
            raise StopAsyncIteration
        return piece


class _PrefixedStream(trio.abc.Stream):
    """`stream` with `first` in front of what it receives."""

    def __init__(self, first: bytes, stream: trio.abc.Stream) -> None:
        self._first = first
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self._first:
            return await self._stream.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        size = len(self._first) if max_bytes is None else max_bytes
        piece, self._first = self._first[:size], self._first[size:]
        return piece

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
