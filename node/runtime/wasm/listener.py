"""The HTTP server in front of one instance: h11 on trio, one guest run per request.

Bounded everywhere: connections, request heads and bodies, runs at once, requests that
wait for a run. What an answer may mean: 413 body too large, 500 the guest trapped, ran
out of memory or failed without an answer, 502 its output is no response, 503 too many
requests or the instance stops, 504 the guest took longer than its time limit. A failure
after the head was sent closes the connection without the final chunk.
"""

import socket
from collections.abc import Callable
from typing import Final, Protocol

import h11
import msgspec
import trio

from node.runtime.wasm.calls import Call, Outcome, Pool, StopReason, Ticker
from node.runtime.wasm.connection import SEND_S, BodyTooLargeError, Connection, DisconnectedError, Sender
from node.runtime.wasm.plain import compose_response
from node.runtime.wasm.sink import Sink
from node.runtime.wasm.wagi import MalformedOutputError, Request, Response
from orca.errors import PortTakenError, RuntimeFailedError

BODY_BYTES_MAX: Final = 10 * 2**20
RUNS_MAX: Final = 16
"""Guests of one instance that run at once."""
WAITING_MAX: Final = 128
"""Requests of one instance that wait for a run; more are refused at once."""
_CONNECTIONS_MAX: Final = 1024
_IDLE_S: Final = 75.0
_READ_S: Final = 30.0
_GRACE_S: Final = 1.0
"""How long after its deadline or a stop a guest may take to end before its thread is given up."""


class Handler(Protocol):
    """How requests of one kind of guest are run."""

    def run(self, request: Request, call: Call, sink: Sink) -> Outcome:
        """Run a guest, in its thread; output goes to `sink`. Never raises."""
        ...

    def read_head(self, sink: Sink, output: bytes, *, is_whole: bool) -> tuple[Response, bytes] | None:
        """The head and the body's beginning; None while more output is needed.

        Raises `MalformedOutputError`.
        """
        ...


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one listener allows; the defaults are those of production."""

    request_timeout_s: float = 30.0
    body_bytes_max: int = BODY_BYTES_MAX
    runs_max: int = RUNS_MAX
    waiting_max: int = WAITING_MAX


class Listener:
    """Serves one instance on loopback, and on the host ports that its spec publishes."""

    def __init__(
        self, handler: Handler, pool: Pool, ticker: Ticker, note: Callable[[str], None], limits: Limits
    ) -> None:
        self._handler = handler
        self._pool = pool
        self._ticker = ticker
        self._note = note
        self._limits = limits
        self._slots = trio.Semaphore(limits.runs_max)
        self._waiting = 0
        self._sockets: list[trio.socket.SocketType] = []
        self._connections: dict[int, Connection] = {}
        self._calls: dict[int, Call] = {}
        self._is_closing = False
        self._settled = trio.Event()
        self._patience = trio.CancelScope()
        self.in_flight = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.cpu_ns = 0
        self.memory_bytes = 0

    async def bind(self, host: str, port: int) -> int:
        """Listen on one more address; gives the port.

        Raises `PortTakenError`, or `RuntimeFailedError` for an address that the node lacks.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await sock.bind((host, port))
            sock.listen(1024)
        except OSError as error:
            sock.close()
            if port:
                raise PortTakenError(f"cannot listen on {host}:{port}: {error.strerror}") from error
            raise RuntimeFailedError(f"cannot listen on {host}: {error.strerror}") from error
        self._sockets.append(sock)
        bound: int = sock.getsockname()[1]
        return bound

    def close_sockets(self) -> None:
        """Stop accepting."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    async def serve(self) -> None:
        """Accept and answer until cancelled or drained."""
        try:
            async with trio.open_nursery() as nursery:
                for sock in tuple(self._sockets):
                    nursery.start_soon(self._accept, sock, nursery)
        finally:
            self.close_sockets()
            self.interrupt()

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, let the requests in flight end, after `timeout_s` cut them."""
        self._is_closing = True
        self.close_sockets()
        for connection in tuple(self._connections.values()):
            if connection.is_idle:
                connection.scope.cancel()
        for allowed_s in (timeout_s, 2 * _GRACE_S):
            self._patience = trio.move_on_after(allowed_s)
            with self._patience:
                while self.in_flight:
                    self._settled = trio.Event()
                    await self._settled.wait()
            self.interrupt()
        for connection in tuple(self._connections.values()):
            connection.scope.cancel()

    def hurry(self) -> None:
        """A `drain` in progress waits no longer for requests to end by themselves."""
        self._patience.cancel()
        self.interrupt()

    def interrupt(self) -> None:
        """Cut every guest that runs."""
        for call in tuple(self._calls.values()):
            call.interrupt(StopReason.STOPPED)

    async def _accept(self, sock: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            try:
                accepted, _ = await sock.accept()
            except trio.ClosedResourceError:
                return
            except OSError:
                if sock.fileno() < 0:
                    return
                await trio.sleep(0.1)  # out of file descriptors, or the client is gone already
                continue
            if len(self._connections) >= _CONNECTIONS_MAX:
                accepted.close()
                continue
            nursery.start_soon(self._run_connection, accepted)

    async def _run_connection(self, sock: trio.socket.SocketType) -> None:
        """One connection to its end; its errors never leave this task."""
        with sock, trio.CancelScope() as scope:
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(sock, scope)
            except OSError:  # it is gone already
                return
            self._connections[id(connection)] = connection
            try:
                await self._converse(connection)
            except DisconnectedError:
                pass
            finally:
                del self._connections[id(connection)]

    async def _converse(self, connection: Connection) -> None:
        http = connection.http
        while True:
            connection.is_idle = True
            connection.limit(_IDLE_S)
            try:
                request = await self._next_request(connection)
            except BodyTooLargeError:
                text = f"the request body is larger than {self._limits.body_bytes_max} bytes"
                await self._refuse(connection, 413, text)
                return
            except h11.RemoteProtocolError as error:
                if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    await self._refuse(connection, error.error_status_hint, "the request is malformed")
                return
            if request is None:
                return
            connection.is_idle = False
            self.in_flight += 1
            try:
                await self._answer(connection, request)
            finally:
                self.in_flight -= 1
                if not self.in_flight:
                    self._settled.set()
            if connection.end_plain():
                if self._is_closing:
                    return
                continue
            if self._is_closing or http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _next_request(self, connection: Connection) -> Request | None:
        """The next request, None when no more come; raises `BodyTooLargeError` and h11's error."""
        plain = await connection.next_plain()
        if plain is None:
            event = await connection.next_event()
            if not isinstance(event, h11.Request):
                return None
            connection.limit(_READ_S)
            return await self._read_request(connection, event)
        return Request(
            method=plain[0].decode("ascii"),
            target=plain[1],
            http_version="1.1",
            headers=plain[2],
            remote_host=connection.remote_host,
            local_port=connection.local_port,
        )

    async def _read_request(self, connection: Connection, event: h11.Request) -> Request:
        limit = self._limits.body_bytes_max
        headers = list(event.headers)
        for name, value in headers:
            if name == b"content-length" and int(value) > limit:
                raise BodyTooLargeError
        pieces: list[bytes] = []
        size = 0
        while True:
            piece = await connection.next_event()
            if not isinstance(piece, h11.Data):
                break
            size += len(piece.data)
            if size > limit:
                raise BodyTooLargeError
            pieces.append(bytes(piece.data))
        if not isinstance(piece, h11.EndOfMessage):
            raise DisconnectedError
        self.received_bytes += size
        return Request(
            method=event.method.decode("ascii"),
            target=event.target,
            http_version=event.http_version.decode("ascii"),
            headers=headers,
            body=b"".join(pieces),
            remote_host=connection.remote_host,
            local_port=connection.local_port,
        )

    async def _answer(self, connection: Connection, request: Request) -> None:
        limits = self._limits
        if self._is_closing:
            return await self._refuse(connection, 503, "the instance is stopping")
        if self._waiting >= limits.waiting_max:
            return await self._refuse(connection, 503, "too many requests wait for this instance")
        connection.limit(2 * limits.request_timeout_s + _GRACE_S + SEND_S)
        is_turn = True
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            self._waiting += 1
            with trio.move_on_after(limits.request_timeout_s) as scope:
                try:
                    await self._slots.acquire()
                finally:
                    self._waiting -= 1
            is_turn = not scope.cancelled_caught
        if not is_turn:
            return await self._refuse(connection, 503, "no run of this instance became free in time")
        try:
            await self._run_guest(connection, request)
        finally:
            self._slots.release()
        return None

    async def _run_guest(self, connection: Connection, request: Request) -> None:
        call = Call(self._limits.request_timeout_s)
        sink = Sink(call, trio.lowlevel.current_trio_token())
        self._calls[id(call)] = call

        def work() -> None:
            with self._ticker.running():
                result = self._handler.run(request, call, sink)
            self._answer_at_once(connection, request, sink, result)
            sink.end(result)

        try:
            await self._relay(connection, request, sink, work)
        finally:
            if sink.outcome is None:  # the client left, or the answer cannot be used
                call.interrupt(StopReason.CLIENT_GONE)
                with trio.CancelScope(shield=True), trio.move_on_after(_GRACE_S):
                    while sink.outcome is None:
                        await sink.wait()
                        sink.take()
            del self._calls[id(call)]
            self._account(sink.outcome)

    def _account(self, ended: Outcome | None) -> None:
        if ended is None:
            self._pool.lose_thread()
            self._note("a request's guest hangs in a call that cannot be cut; its thread is left behind")
            return
        self.cpu_ns += ended.cpu_ns
        self.memory_bytes = ended.memory_bytes or self.memory_bytes
        if ended.detail and ended.reason is not StopReason.CLIENT_GONE:
            self._note(f"a request ended badly: {ended.detail}")
        elif ended.exit_code and ended.reason is None:
            self._note(f"a request ended badly: exit code {ended.exit_code}")

    def _answer_at_once(self, connection: Connection, request: Request, sink: Sink, result: Outcome) -> None:
        """In the guest's thread: send a short proper answer from here.

        It saves the client the wait for the loop, about a sixth of a request. The
        connection's task waits meanwhile and touches nothing once the output is claimed.
        """
        if result.is_trap or result.reason is not None or result.exit_code:
            return
        output = sink.claim()
        if output is None:
            return
        try:
            found = self._handler.read_head(sink, output, is_whole=True)
        except MalformedOutputError:
            found = None
        if found is None:
            sink.unclaim(output)
            return
        response, body = found
        data: bytes | None = None
        if connection.is_plain and not self._is_closing:
            data = compose_response(response, body, is_head=request.method == "HEAD")
        if data is None:
            data = Sender(connection, request, response, self._is_closing).compose(len(body), body)
        sink.unsent = connection.try_send(data)
        self.sent_bytes += len(data)

    async def _relay(self, connection: Connection, request: Request, sink: Sink, work: Callable[[], None]) -> None:
        """Start the guest and hand its output to the client while it comes."""
        output = b""
        sender: Sender | None = None
        patience_s = self._limits.request_timeout_s + _GRACE_S
        with trio.move_on_after(patience_s) as scope:
            self._pool.submit(work)
            await sink.wait()
        while True:
            taken, is_ended = sink.take()
            if sink.unsent is not None:
                if sink.unsent:
                    connection.limit(SEND_S)
                    await connection.send(sink.unsent)
                return
            if sender is not None:
                await sender.body(taken)
            else:
                output += taken
            is_late = scope.cancelled_caught and not is_ended
            failure = (504, "the guest took too long") if is_late else self._failure(sink.outcome, output)
            if failure is None and sender is None:
                try:
                    found = self._handler.read_head(sink, output, is_whole=is_ended)
                except MalformedOutputError as error:
                    self._note(f"the guest's output is no response: {error}")
                    failure = (502, f"the guest's output is no response: {error}")
                else:
                    if found is not None:
                        sender = Sender(connection, request, found[0], self._is_closing)
                        await sender.head(len(found[1]) if is_ended else None, found[1])
            if failure is not None:
                if sender is None:
                    await self._refuse(connection, *failure)
                else:
                    connection.http.send_failed()
                return
            if is_ended:
                assert sender is not None, "an ended guest has a head or a failure"
                await sender.end()
                self.sent_bytes += sender.sent_bytes
                return
            with trio.move_on_after(patience_s) as scope:
                await sink.wait()

    def _failure(self, ended: Outcome | None, output: bytes) -> tuple[int, str] | None:
        if ended is None:
            return None
        if ended.reason is StopReason.DEADLINE:
            return 504, "the guest took too long"
        if ended.reason is not None:
            return 503, "the instance is stopping"
        if ended.is_trap:
            return 500, "the guest ran out of memory" if ended.is_oom_killed else "the guest trapped"
        if ended.exit_code and not output:
            return 500, f"the guest ended with exit code {ended.exit_code} and no answer"
        return None

    async def _refuse(self, connection: Connection, status: int, text: str) -> None:
        """A short answer of the node's own, after which the connection closes."""
        http = connection.http
        body = f"{status} {text}\n".encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        connection.limit(SEND_S)
        response = h11.Response(status_code=status, headers=headers)
        pieces = [http.send(response) or b""]
        pieces.append(http.send(h11.Data(data=body)) or b"")
        pieces.append(http.send(h11.EndOfMessage()) or b"")
        await connection.send(b"".join(pieces))
