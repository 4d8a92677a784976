"""One client connection of a listener, and one response on its way."""

import contextlib
import os
from typing import Final

import h11
import trio

from node.runtime.wasm.plain import parse_request
from node.runtime.wasm.wagi import Headers, Request, Response

SEND_S: Final = 60.0
_SLACK_S: Final = 1.0
_HEAD_BYTES_MAX: Final = 64 * 1024
_READ_BYTES: Final = 64 * 1024
_BODILESS: Final = frozenset((204, 304))


class DisconnectedError(Exception):
    """The client is gone; nothing more can be sent."""


class BodyTooLargeError(Exception):
    """The request body is larger than allowed."""


class Connection:
    """One client connection: h11's state, the socket and what limits its waits.

    A plain request (see `plain`) is kept from h11 until something asks for `http`; where
    its answer is plain as well, h11 never hears of the two and stays idle.
    """

    def __init__(self, sock: trio.socket.SocketType, scope: trio.CancelScope) -> None:
        self.sock = sock
        self.scope = scope
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES_MAX)
        self._unshown = b""
        self.is_idle = True
        self.local_port: int = sock.getsockname()[1]
        self.remote_host: str = sock.getpeername()[0]

    @property
    def http(self) -> h11.Connection:
        """h11's state, which has read the request by the time it is seen."""
        if self._unshown:
            self._http.receive_data(self._unshown)
            self._unshown = b""
            events = (self._http.next_event(), self._http.next_event())
            assert isinstance(events[0], h11.Request), "what is plain is a request to h11"
            assert isinstance(events[1], h11.EndOfMessage), "what is plain has no body"
        return self._http

    @property
    def is_plain(self) -> bool:
        """Whether h11 does not know of the request, so that the answer may be plain."""
        return bool(self._unshown)

    def end_plain(self) -> bool:
        """After an answer: whether it was plain, so that the next request may come."""
        was_plain = bool(self._unshown)
        self._unshown = b""
        return was_plain

    def limit(self, seconds: float) -> None:
        """What comes next may take this long."""
        deadline = trio.current_time() + seconds
        if abs(deadline - self.scope.deadline) > _SLACK_S:  # moving a deadline costs more than it is worth
            self.scope.deadline = deadline

    async def send(self, data: bytes) -> None:
        """All of `data`; raises `DisconnectedError`."""
        view = memoryview(data)
        try:
            while view:
                view = view[await self.sock.send(view) :]
        except OSError as error:
            raise DisconnectedError from error

    def try_send(self, data: bytes) -> bytes:
        """From a guest's thread, while the connection's task waits for it: what could not be sent at once."""
        sent = 0
        with contextlib.suppress(OSError):  # full, or broken: the task will see
            sent = os.write(self.sock.fileno(), data)
        return data[sent:]

    async def next_plain(self) -> tuple[bytes, bytes, Headers] | None:
        """Method, target and headers of the next request if it is plain, else None: ask `next_event`."""
        if self._http.trailing_data[0]:
            return None
        try:
            received = await self.sock.recv(_READ_BYTES)
        except OSError as error:
            raise DisconnectedError from error
        self.is_idle = False
        found = parse_request(received)
        if found is None:
            self._http.receive_data(received)
        else:
            self._unshown = received
        return found

    async def next_event(self) -> "h11.Event | type[h11.PAUSED] | type[h11.NEED_DATA]":
        """h11's next event, reading as needed; raises `h11.RemoteProtocolError`."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            if self.http.they_are_waiting_for_100_continue:
                go_on = self.http.send(h11.InformationalResponse(status_code=100, headers=[]))
                await self.send(go_on or b"")
            try:
                received = await self.sock.recv(_READ_BYTES)
            except OSError as error:
                raise DisconnectedError from error
            self.is_idle = False
            self.http.receive_data(received)
        return event


class Sender:
    """One response on its way, framed by h11."""

    def __init__(self, connection: Connection, request: Request, response: Response, is_last: bool) -> None:
        self._connection = connection
        self._response = response
        self._has_body = request.method != "HEAD" and response.status not in _BODILESS
        self._is_last = is_last
        self.sent_bytes = 0

    def compose(self, length: int | None, body: bytes) -> bytes:
        """The head, `length` if it is known, the body's first bytes, and its end if these are all."""
        http = self._connection.http
        headers = list(self._response.headers)
        if length is not None and self._response.status not in _BODILESS:
            headers.append((b"content-length", str(length).encode()))
        if self._is_last:
            headers.append((b"connection", b"close"))
        data = http.send(h11.Response(status_code=self._response.status, headers=headers)) or b""
        if self._has_body and body:
            data += http.send(h11.Data(data=body)) or b""
        if length is not None:
            data += http.send(h11.EndOfMessage()) or b""
        self.sent_bytes += len(data)
        return data

    async def head(self, length: int | None, body: bytes) -> None:
        """Send what `compose` gives."""
        data = self.compose(length, body)
        self._connection.limit(SEND_S)
        await self._connection.send(data)

    async def body(self, piece: bytes) -> None:
        """More of the body."""
        if piece and self._has_body:
            self._connection.limit(SEND_S)
            data = self._connection.http.send(h11.Data(data=piece)) or b""
            self.sent_bytes += len(data)
            await self._connection.send(data)

    async def end(self) -> None:
        """The end of the body, where it is not sent yet."""
        if self._connection.http.our_state is h11.SEND_BODY:
            data = self._connection.http.send(h11.EndOfMessage()) or b""
            self.sent_bytes += len(data)
            await self._connection.send(data)
