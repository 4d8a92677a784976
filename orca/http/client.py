"""The client's half: requests with deadlines over a few kept connections."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import h11
import msgspec
import trio

from orca.errors import PeerProtocolError
from orca.http.connect import Connect
from orca.http.messages import Headers, HttpLimits

RECEIVE_BYTES: Final = 64 * 1024
SEND_BYTES: Final = 256 * 1024
_GREETING: Final = b"HTTP/"
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})


class HttpReply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """The first field `name` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)


class HttpStream:
    """An answer whose body is still to come; `chunks` gives it as it comes, once."""

    def __init__(self, head: h11.Response, connection: "_Connection") -> None:
        self.status = head.status_code
        self.headers: Headers = tuple((n.decode("ascii"), v.decode("latin-1")) for n, v in head.headers)
        self._connection = connection

    def header(self, name: str) -> str | None:
        """The first field `name` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)

    def chunks(self, *, idle_timeout_s: float | None = None) -> AsyncIterator[bytes]:
        """Pieces of the body.

        `idle_timeout_s` bounds the wait for each one (`trio.TooSlowError`); None waits as
        long as the connection lives. Raises `trio.BrokenResourceError` when it is lost.
        """
        return _Chunks(self._connection, float("inf") if idle_timeout_s is None else idle_timeout_s)

    async def read(self, bytes_max: int) -> bytes:
        """The rest of the body; more than `bytes_max` is a `PeerProtocolError`."""
        pieces: list[bytes] = []
        size = 0
        async for piece in self.chunks():
            size += len(piece)
            if size > bytes_max:
                raise PeerProtocolError(f"the answer has more than {bytes_max} bytes")
            pieces.append(piece)
        return b"".join(pieces)


class _Chunks(AsyncIterator[bytes]):
    def __init__(self, connection: "_Connection", idle_timeout_s: float) -> None:
        self._connection = connection
        self._idle_timeout_s = idle_timeout_s

    async def __anext__(self) -> bytes:
        with trio.fail_after(self._idle_timeout_s):
            piece = await self._connection.receive_piece()
        if piece is None:
            raise StopAsyncIteration
        return piece


class HttpClient:
    """Requests to one server, whose `Host` field is `host`.

    At most `idle_connections_max` connections are kept between requests, each for less
    than the server's own idle time. Any number of tasks may use one client.
    """

    def __init__(
        self, connect: Connect, *, host: str, limits: HttpLimits | None = None, idle_connections_max: int = 4
    ) -> None:
        self._connect = connect
        self._host = host
        self._limits = limits or HttpLimits()
        self._idle: list[_Connection] = []
        self._idle_max = idle_connections_max

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: Headers = (),
        body: bytes | AsyncIterator[bytes] = b"",
        timeout_s: float = 30.0,
        body_bytes_max: int = 64 * 2**20,
    ) -> HttpReply:
        """The whole answer within `timeout_s`; see the package for what it raises."""
        with trio.fail_after(timeout_s):
            async with self.stream(method, target, headers=headers, body=body, timeout_s=timeout_s) as stream:
                content = await stream.read(body_bytes_max)
                return HttpReply(status=stream.status, headers=stream.headers, body=content)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        target: str,
        *,
        headers: Headers = (),
        body: bytes | AsyncIterator[bytes] = b"",
        timeout_s: float = 30.0,
    ) -> AsyncGenerator[HttpStream, None]:
        """The answer as a stream; `timeout_s` bounds each wait until its head is there.

        A body given as an iterator is sent chunked, and each piece has `timeout_s`. The
        connection is kept when the answer was read to its end, else closed.
        """
        connection, head = await self._exchange(method, target, headers, body, timeout_s)
        try:
            yield HttpStream(head, connection)
        finally:
            await self._release(connection)

    async def aclose(self) -> None:
        """Close what is kept; a later request opens a new connection."""
        while self._idle:
            await self._idle.pop().aclose()

    async def _exchange(
        self, method: str, target: str, headers: Headers, body: bytes | AsyncIterator[bytes], timeout_s: float
    ) -> tuple["_Connection", h11.Response]:
        fields = (("host", self._host), *headers)
        is_repeatable = isinstance(body, bytes) and method in _IDEMPOTENT
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_usable():
                await connection.aclose()
                continue
            try:
                return connection, await connection.exchange(method, target, fields, body, timeout_s)
            except trio.BrokenResourceError:
                # The server may have closed it for idleness just as we wrote.
                if connection.has_answered or not is_repeatable:
                    raise
        connection = _Connection(await self._connect(), self._limits)
        return connection, await connection.exchange(method, target, fields, body, timeout_s)

    async def _release(self, connection: "_Connection") -> None:
        if connection.rewind() and len(self._idle) < self._idle_max:
            self._idle.append(connection)
        else:
            await connection.aclose()


class _Connection:
    def __init__(self, stream: trio.abc.Stream, limits: HttpLimits) -> None:
        self._stream = stream
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head_bytes_max)
        self._idle_timeout_s = limits.idle_timeout_s * 0.8
        self._idle_since = trio.current_time()
        self.has_answered = False

    def is_usable(self) -> bool:
        """Whether the other side has not closed it, as far as can be seen without reading."""
        if trio.current_time() - self._idle_since > self._idle_timeout_s:
            return False
        # A kept connection has nothing to say: what can be read is an end of stream or a late error.
        return not (isinstance(self._stream, trio.SocketStream) and self._stream.socket.is_readable())

    async def exchange(
        self, method: str, target: str, headers: Headers, body: bytes | AsyncIterator[bytes], timeout_s: float
    ) -> h11.Response:
        """Send one request and read the head of its answer; closes itself when that fails."""
        self.has_answered = False
        try:
            return await self._exchange(method, target, headers, body, timeout_s)
        except BaseException:
            await self.aclose()
            raise

    async def _exchange(
        self, method: str, target: str, headers: Headers, body: bytes | AsyncIterator[bytes], timeout_s: float
    ) -> h11.Response:
        framing: Headers = ()
        if not isinstance(body, bytes):
            framing = (("transfer-encoding", "chunked"),)
        elif body or method in {"POST", "PUT"}:
            framing = (("content-length", str(len(body))),)
        head = h11.Request(
            method=method, target=target, headers=[(k.encode(), v.encode("latin-1")) for k, v in (*headers, *framing)]
        )
        try:
            if isinstance(body, bytes):
                await self._send(timeout_s, head, h11.Data(data=body), h11.EndOfMessage())
            else:
                await self._send(timeout_s, head)
                async for piece in body:
                    await self._send(timeout_s, h11.Data(data=piece))
                await self._send(timeout_s, h11.EndOfMessage())
        except trio.BrokenResourceError:
            # A server that refuses a body answers before it has read all of it, and closes.
            if self._h11.our_state is h11.SEND_BODY:
                self._h11.send_failed()
        with trio.fail_after(timeout_s):
            return await self._read_head()

    async def _send(self, timeout_s: float, *events: h11.Event) -> None:
        wire = memoryview(b"".join(self._h11.send(event) or b"" for event in events))
        for start in range(0, len(wire), SEND_BYTES):
            with trio.fail_after(timeout_s):
                await self._stream.send_all(wire[start : start + SEND_BYTES])

    async def _read_head(self) -> h11.Response:
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise PeerProtocolError(f"the server answered with {type(event).__name__} where a head was due")

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        try:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                received = await self._stream.receive_some(RECEIVE_BYTES)
                if not received and not self.has_answered and not self._h11.trailing_data[0]:
                    raise trio.BrokenResourceError("the server closed the connection before it answered")
                self.has_answered = self.has_answered or bool(received)
                self._h11.receive_data(bytes(received))
                if self._h11.their_state is h11.SEND_RESPONSE:
                    self._check_greeting(self._h11.trailing_data[0])
        except h11.RemoteProtocolError as error:
            if self._h11.trailing_data[1]:
                raise trio.BrokenResourceError(f"the server broke off its answer: {error}") from error
            raise PeerProtocolError(f"the answer is no HTTP/1.1: {error}") from error
        if isinstance(event, h11.ConnectionClosed):
            raise trio.BrokenResourceError("the server closed the connection before it answered")
        assert not isinstance(event, type) or event is h11.PAUSED, f"{event} is no event"
        return event

    def _check_greeting(self, received: bytes) -> None:
        """Refuse at once what does not begin like HTTP: another server may wait for us to speak on."""
        if received[: len(_GREETING)] != _GREETING[: len(received)]:
            raise PeerProtocolError(f"the answer is no HTTP/1.1: it begins with {received[:20]!r}")

    async def receive_piece(self) -> bytes | None:
        """The next piece of the body, None after the last."""
        if self._h11.their_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}:
            return None
        event = await self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    def rewind(self) -> bool:
        """Get ready for another request; False when that is impossible."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        self._idle_since = trio.current_time()
        return True

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)
