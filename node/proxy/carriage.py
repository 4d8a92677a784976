"""One plain request in the fast lane: to a target over a kept connection, and its answer back, by callbacks."""

import enum
import socket
from typing import Final, Protocol

import msgspec

from node.proxy.bodies import LAST_CHUNK, ChunkedReader, encode_chunk
from node.proxy.faults import BadBodyError
from node.proxy.heads import Framing
from node.proxy.limits import ProxyLimits
from node.proxy.pipes import Pipe, PipePool
from node.proxy.plain import PlainReader, PlainRequest, PlainResponse
from node.proxy.reactor import BROKEN, READABLE, WRITABLE, Reactor
from node.proxy.routes import Route, Target
from node.proxy.traffic import Traffic
from node.proxy.wires import READ_BYTES, Connected, Wire

SPLICE_FROM_BYTES: Final = 64 * 1024
"""From this much on the kernel moves a body by itself; below, two more system calls cost more than the copy."""
TURNS: Final = 16
"""Reads of one body before others have their turn."""


class Handover(msgspec.Struct, kw_only=True):
    """A request that is on its way already: where it went, under which id, and what of it is unsent."""

    wire: Wire
    route: Route
    target: Target
    request_id: bytes
    unsent: bytes = b""
    waited_s: float = 0.0


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What everything in the fast lane of one proxy uses."""

    traffic: Traffic
    reactor: Reactor
    reader: PlainReader
    pipes: PipePool
    limits: ProxyLimits


class Client(Protocol):
    """Whoever the request is carried for; one of the three is called in the end, or none after `drop`."""

    @property
    def socket(self) -> Connected:
        """Takes the answer."""
        ...

    def answered(self, *, is_last: bool) -> None:
        """The answer is out; `is_last` when it said that the connection ends."""
        ...

    def given_up(self, handover: Handover) -> None:
        """Nothing of an answer is out, and somebody else has to wait for it."""
        ...

    def cut_off(self) -> None:
        """Part of an answer is out and the rest will not come, or cannot be sent."""
        ...


class _State(enum.Enum):
    WAITING = enum.auto()
    RELAYING = enum.auto()
    OVER = enum.auto()


class Carriage:
    """Carries `request` to `target` over `wire`, and what comes back to `client`."""

    __slots__ = (
        *("_answer", "_chunks", "_client", "_is_last", "_is_reusable", "_left", "_may_hold_more", "_output", "_pipe"),
        *("_request", "_route", "_since", "_state", "_target", "_tools", "_unsent", "_wire"),
    )

    def __init__(
        self, tools: Tools, client: Client, request: PlainRequest, route: Route, target: Target, wire: Wire
    ) -> None:
        self._tools = tools
        self._client = client
        self._request = request
        self._route = route
        self._target = target
        self._wire = wire
        self._state = _State.WAITING
        self._since = tools.reactor.now
        self._unsent: bytes = b""
        self._answer = b""
        self._output: bytes | memoryview = b""
        self._left = 0
        self._chunks: ChunkedReader | None = None
        self._pipe: Pipe | None = None
        self._is_last = request.is_last
        self._is_reusable = self._may_hold_more = False

    def start(self, forwarded: bytes, body: bytes) -> None:
        """Send the request; `forwarded` are the lines that say who the client is, up to the host's name."""
        traffic = self._tools.traffic
        traffic.counters.requests += 1
        traffic.begin(self._target.allocation, self)
        self._wire.user = self.on_upstream
        request, route = self._request, self._route
        if route.strip_path:
            request.target = route.forwarded_target(request.target)
            if route.prefix:
                request.lines.append(b"X-Forwarded-Prefix: " + route.prefix.encode("ascii", "ignore"))
        self._unsent = request.forwarded_bytes(forwarded) + body
        self._send_request()

    def _send_request(self) -> None:
        try:
            sent = self._wire.socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self._give_up()
            return
        self._unsent = self._unsent[sent:] if sent < len(self._unsent) else b""

    # ------------------------------------------------------------------ events

    def on_upstream(self, mask: int) -> None:
        """Something about the target's socket has changed."""
        if self._state is _State.RELAYING:
            if mask & (READABLE | BROKEN):
                self._relay()
        elif self._state is _State.WAITING:
            if self._unsent and mask & WRITABLE:
                self._send_request()
            if mask & (READABLE | BROKEN):
                self._read_answer()

    def on_client_writable(self) -> None:
        """The client takes bytes again."""
        if self._state is _State.RELAYING:
            self._relay()

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed by `now`, trio's time."""
        waited_s = now - self._since
        if self._state is _State.WAITING and waited_s > self._tools.limits.response_timeout_s:
            self._give_up(waited_s)
        elif self._state is _State.RELAYING and waited_s > self._tools.limits.stall_timeout_s:
            self._break_off()

    def cancel(self) -> None:
        """The target is drained and time is over."""
        if self._state is _State.WAITING:
            self._wire.socket.shutdown(socket.SHUT_RDWR)
            self._give_up()
        elif self._state is _State.RELAYING:
            self._break_off()

    # ------------------------------------------------------------------ the head of the answer

    def _read_answer(self) -> None:
        # Edge-triggered: what is not read now is not told again, so read on until nothing is left.
        while self._state is _State.WAITING:
            try:
                received = self._wire.socket.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                received = b""
            if not received:
                self._give_up()
                return
            self._may_hold_more = len(received) == READ_BYTES
            self._answer = self._answer + received if self._answer else received
            self._judge_answer(self._answer)

    def _judge_answer(self, answer: bytes) -> None:
        end = answer.find(b"\r\n\r\n")
        size = end + 4 if end >= 0 else len(answer)
        if size > self._tools.limits.head_bytes_max or self._unsent:
            self._give_up()
        elif end >= 0:
            head = self._tools.reader.read_response(answer[:end], self._request.method)
            if head is None:
                self._give_up()
            else:
                self._begin_answer(head, answer[size:])

    def _begin_answer(self, head: PlainResponse, body: bytes) -> None:
        self._tools.traffic.answered(self._route.service, head.status, self._tools.reactor.now - self._since)
        lines = head.lines
        if not head.has_request_id:
            lines.append(b"X-Request-Id: " + self._request.request_id)
        if self._is_last:
            lines.append(b"Connection: close")
        lines.append(b"\r\n")
        self._is_reusable = not head.is_last
        self._answer = b""
        self._state, self._since = _State.RELAYING, self._tools.reactor.now
        if head.framing is Framing.CHUNKED:
            self._chunks = ChunkedReader()
            self._output = b"\r\n".join(lines)
        else:
            if len(body) > head.length:
                # What follows an answer belongs to nobody.
                body, self._is_reusable = body[: head.length], False
            self._left = head.length - len(body)
            self._output = b"\r\n".join(lines) + body
            body = b""
        self._relay(body)

    # ------------------------------------------------------------------ its body

    def _relay(self, chunks: bytes = b"") -> None:
        """Move what can be moved; wait for an event otherwise. `chunks` came with the head."""
        try:
            if chunks:
                self._take_chunks(chunks)
            for _ in range(TURNS):
                if self._output and not self._flush():
                    return
                if self._is_answered():
                    self._finish()
                    return
                if not self._move_some():
                    return
        except BadBodyError:
            self._break_off()
            return
        self._tools.reactor.call_again(self.on_client_writable)

    def _is_answered(self) -> bool:
        if self._chunks is not None:
            return self._chunks.is_over
        return self._left == 0 and (self._pipe is None or self._pipe.held == 0)

    def _flush(self) -> bool:
        """Give the kernel what is ready for the client; True when it took all."""
        try:
            sent = self._client.socket.send(self._output)
        except BlockingIOError:
            return False
        except OSError:
            self._lose_client()
            return False
        self._since = self._tools.reactor.now
        if sent == len(self._output):
            self._output = b""
            return True
        self._output = memoryview(self._output)[sent:]
        return False

    def _move_some(self) -> bool:
        """Take some of the body from the target; False when it has to be waited for. Raises BadBodyError."""
        if self._pipe is None and self._left > SPLICE_FROM_BYTES and self._may_splice():
            self._pipe = self._tools.pipes.take()
            self._may_hold_more = True
        if self._pipe is not None:
            return self._splice(self._pipe)
        try:
            received = self._wire.socket.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            received = b""
        if not received:
            raise BadBodyError("the target ended inside its answer")
        self._since = self._tools.reactor.now
        self._may_hold_more = len(received) == READ_BYTES
        if self._chunks is not None:
            self._take_chunks(received)
            return True
        if len(received) > self._left:
            received, self._is_reusable = received[: self._left], False
        self._left -= len(received)
        self._output = received
        return True

    def _may_splice(self) -> bool:
        """Whether the bytes go to the client as they come: not in chunks, nor in TLS."""
        return self._chunks is None and isinstance(self._client.socket, socket.socket)

    def _take_chunks(self, received: bytes) -> None:
        """Decode strictly and encode anew. Raises BadBodyError."""
        assert self._chunks is not None, "no chunks are expected"
        buffer = bytearray(self._answer + received)
        try:
            piece = self._chunks.take(buffer)
        finally:
            self._answer = bytes(buffer)
        output = bytes(self._output) + encode_chunk(piece) if piece else bytes(self._output)
        if self._chunks.is_over:
            output += LAST_CHUNK
            self._is_reusable = self._is_reusable and not self._answer
        self._output = output

    def _splice(self, pipe: Pipe) -> bool:
        """Let the kernel move bytes from the target to the client. Raises BadBodyError."""
        if not pipe.held:
            try:
                taken = pipe.fill_from(self._wire.socket.fileno(), self._left)
            except BlockingIOError:
                return False
            except OSError:
                taken = 0
            if not taken:
                raise BadBodyError("the target ended inside its answer")
            self._left -= taken
        try:
            pipe.empty_into(self._client.socket.fileno())
        except BlockingIOError:
            return False
        except OSError:
            self._lose_client()
            return False
        self._since = self._tools.reactor.now
        return True

    # ------------------------------------------------------------------ the end

    def _end(self) -> None:
        self._state = _State.OVER
        self._tools.traffic.end(self._target.allocation, self)

    def _finish(self) -> None:
        """The answer is out: keep the target's connection if nothing more can be in it."""
        self._end()
        if self._pipe is not None:
            self._tools.pipes.put(self._pipe)
        if self._is_reusable and not (self._may_hold_more and not self._wire.is_quiet()):
            self._tools.traffic.pool.put(self._target, self._wire)
        else:
            self._tools.traffic.pool.discard(self._wire)
        self._client.answered(is_last=self._is_last)

    def _give_up(self, waited_s: float = 0.0) -> None:
        """Have somebody else wait for the answer, with all that is known of the request."""
        self._end()
        wire = self._wire
        self._tools.traffic.counters.requests -= 1  # it will be counted where it is answered
        self._tools.traffic.pool.unwatch(wire)
        wire.buffer += self._answer
        wire.has_heard = bool(self._answer)
        handover = Handover(
            wire=wire,
            route=self._route,
            target=self._target,
            request_id=self._request.request_id,
            unsent=self._unsent,
            waited_s=waited_s,
        )
        self._client.given_up(handover)

    def _break_off(self) -> None:
        """Only a reset says that the rest will not come."""
        self._tools.traffic.counters.broken += 1
        self._lose_client()

    def _lose_client(self) -> None:
        self.drop()
        self._client.cut_off()

    def drop(self) -> None:
        """The client is gone: end the request visibly for the target."""
        self._end()
        self._tools.traffic.pool.unwatch(self._wire)
        self._wire.reset()
        if self._pipe is not None:
            self._pipe.close()
